"""Requests get the slot with the longest beginning of their prompt, and no slot is lost or given twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve_apps.engines.llama_cpp.slots import Slot, SlotPool


def test_the_longest_beginning_wins_then_the_longest_unused() -> None:
    pool = SlotPool(3)
    taken = [pool.take(()) for _ in range(3)]
    assert pool.take((1,)) is None
    for slot, tokens in zip(taken, ((1, 2, 3), (1, 2), (1, 2, 3, 4)), strict=True):
        assert slot is not None
        pool.give_back(slot, tokens)
    order = [pool.take((1, 2, 3, 5)) for _ in range(3)]
    assert [slot.slot_id for slot in order if slot] == [0, 2, 1]


tokens = st.lists(st.integers(0, 2), max_size=6)


@given(st.integers(1, 4), st.lists(st.tuples(st.booleans(), tokens, st.integers(0, 9)), max_size=40))
def test_no_slot_is_lost_or_given_twice(count: int, steps: list[tuple[bool, list[int], int]]) -> None:
    pool, used = SlotPool(count), dict[int, Slot]()
    contents: dict[int, list[int]] = {slot_id: [] for slot_id in range(count)}
    for takes, token_ids, choice in steps:
        if takes:
            slot = pool.take(token_ids)
            assert (slot is None) == (len(used) == count)
            if slot is not None:
                assert slot.slot_id not in used
                free = [contents[slot_id] for slot_id in range(count) if slot_id not in used]
                assert shared(contents[slot.slot_id], token_ids) == max(shared(held, token_ids) for held in free)
                used[slot.slot_id] = slot
        elif used:
            slot = used.pop(sorted(used)[choice % len(used)])
            contents[slot.slot_id] = token_ids
            pool.give_back(slot, token_ids)


def shared(held: list[int], prompt: list[int]) -> int:
    """The length of the longest common beginning, by trying all."""
    return max(n for n in range(min(len(held), len(prompt)) + 1) if held[:n] == prompt[:n])
