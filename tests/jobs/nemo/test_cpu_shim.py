"""Parts of the CPU shim that need no NeMo: the queue for the results of checkpoints, and the mode in new threads."""

from __future__ import annotations

import queue
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.nemo.cpu import cpu_shim


@given(operations=st.lists(st.one_of(st.none(), st.dictionaries(st.integers(), st.binary(max_size=200), max_size=3))))
def test_results_are_got_once_and_in_order(operations: list[dict[int, bytes] | None]) -> None:
    """None gets a result, anything else is put."""
    results, expected = cpu_shim._ResultsQueue(), queue.SimpleQueue[dict[int, bytes]]()
    with results._file:
        for operation in operations:
            if operation is not None:
                results.put(operation)
                expected.put(operation)
            elif expected.empty():
                with pytest.raises(queue.Empty):
                    results.get_nowait()
            else:
                assert results.get_nowait() == expected.get_nowait()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the shim is for machines without a GPU")
def test_new_threads_use_the_cpu_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Train calls the training in a thread of its own."""
    monkeypatch.setattr(threading.Thread, "run", threading.Thread.run)  # restored afterwards
    devices: list[torch.device] = []

    def create() -> None:
        devices.append(torch.zeros(2, device="cuda").device)

    cpu_shim._use_in_new_threads()
    thread = threading.Thread(target=create)
    thread.start()
    thread.join()
    assert devices == [torch.device("cpu")]
