"""OutputStore: what one process wrote, every other reads, within the limit of the file's size."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.training.frozen.output_store import OutputStore, open_shared_store

WIDTH = 3


def _outputs(row: int, tokens: int) -> torch.Tensor:
    return torch.arange(tokens * WIDTH, dtype=torch.float32).reshape(tokens, WIDTH) + 1000 * row


@given(
    row_tokens=st.lists(st.integers(1, 5), min_size=1, max_size=8),
    limit_bytes=st.integers(0, 500),
    writes=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 7)), max_size=20),
)
def test_two_processes_read_the_rows_that_either_wrote_and_that_fit(
    row_tokens: list[int], limit_bytes: int, writes: list[tuple[int, int]]
) -> None:
    """Two stores of the same file stand for two processes: they share nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outputs"
        stores = [OutputStore(path, row_tokens, WIDTH, limit_bytes) for _ in range(2)]
        written = {(store, row % len(row_tokens)) for store, row in writes}
        for store, row in written:
            stores[store].write(row, _outputs(row, row_tokens[row]))
        assert path.stat().st_size <= limit_bytes
        rows = {row for _, row in written}
        for store in stores:
            for row, tokens in enumerate(row_tokens):
                found = store.read(row)
                if row in rows and row < store.kept_rows:
                    assert found is not None
                    assert torch.equal(found, _outputs(row, tokens))
                else:
                    assert found is None
            store.close()


def test_as_many_rows_as_fit_are_kept(tmp_path: Path) -> None:
    """Ten bytes say which of the ten rows are there; each row has 2 × 3 × 4 bytes."""
    for limit_bytes, rows in ((0, 0), (10 + 23, 0), (10 + 24, 1), (10 + 239, 9), (10 + 240, 10)):
        with contextlib.closing(OutputStore(tmp_path / f"{limit_bytes}", [2] * 10, WIDTH, limit_bytes)) as store:
            assert store.kept_rows == rows


def test_on_a_full_disk_rows_are_not_kept() -> None:
    """Every write to /dev/full fails as on a full disk."""
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("this system has no /dev/full")
    with contextlib.closing(OutputStore(device, [2, 2], WIDTH, 1000)) as store:
        for row in (0, 1):
            store.write(row, _outputs(row, 2))
            assert store.read(row) is None


def test_outputs_of_another_shape_are_an_error(tmp_path: Path) -> None:
    with contextlib.closing(open_shared_store(tmp_path, [2, 4], WIDTH)) as store:
        with pytest.raises(ValueError, match=r"row 1 has the shape \(4, 3\), but its outputs \(2, 3\)"):
            store.write(1, _outputs(1, 2))
        assert store.read(1) is None
