"""DriverChannel delivers every message once, and one sender's messages in order."""

from __future__ import annotations

import copy
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import RaySystemError

from tests.dict_key_value_store import DictKeyValueStore
from tuneyard.cluster.driver_channel import DriverChannel

WORKERS = 3


def channel_and_copies(store: DictKeyValueStore) -> tuple[DriverChannel, list[DriverChannel]]:
    channel = DriverChannel(store)
    return channel, [copy.copy(channel) for _ in range(WORKERS)]


@given(st.lists(st.none() | st.integers(0, WORKERS - 1)))
def test_every_message_arrives_once_and_in_order(steps: list[int | None]) -> None:
    """A step is a worker that sends its next number, or None: the driver receives."""
    channel, workers = channel_and_copies(DictKeyValueStore())
    sent: list[list[int]] = [[] for _ in workers]
    received: list[list[int]] = [[] for _ in workers]
    for worker in [*steps, None]:
        if worker is None:
            for message in channel.receive():
                received[message["worker"]].append(message["number"])
        else:
            number = len(sent[worker])
            workers[worker].send({"worker": worker, "number": number})
            sent[worker].append(number)
    assert received == sent


def test_a_clock_that_is_set_back_does_not_change_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    channel, (worker, *_) = channel_and_copies(DictKeyValueStore())
    times = iter([50, 40, 45])
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    for number in range(3):
        worker.send(number)
    assert channel.receive() == [0, 1, 2]


def test_channels_do_not_mix_and_closing_deletes_what_is_left() -> None:
    store = DictKeyValueStore()
    one, other = DriverChannel(store), DriverChannel(store)
    one.send("for one")
    other.send({"loss": float("inf")})
    assert one.receive() == ["for one"]
    other.close()
    assert store.values == {}


def test_closing_a_channel_of_an_unreachable_cluster_is_no_error() -> None:
    store = DictKeyValueStore()
    channel = DriverChannel(store)
    store.is_unreachable = True
    channel.close()
    with pytest.raises(RaySystemError):
        channel.receive()
