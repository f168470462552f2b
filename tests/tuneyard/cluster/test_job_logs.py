"""A followed job's log: training lines become one progress bar, and a broken connection says how to continue."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.cluster.job_logs import LogPrinter, follow, last_progress
from tuneyard.core.errors import ClusterError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.lists(st.integers(1, 40), min_size=1))
def test_a_terminal_shows_one_bar_for_the_training_lines(cuts: list[int]) -> None:
    """However the log is cut on its way."""
    lines = [f"training: step {step}/9  loss {step}.000  40 tok/s  ETA 0:0{9 - step}" for step in range(1, 10)]
    log = "\n".join(["[finetune] begins", *lines, "[finetune] ends"]) + "\n"
    stream = Terminal()
    with LogPrinter(stream) as printer:
        for cut in itertools.cycle(cuts):
            printer.write(log[:cut])
            log = log[cut:]
            if not log:
                break
    shown = stream.getvalue()
    assert "[finetune] begins" in shown
    assert shown.rstrip().endswith("[finetune] ends")
    assert "training: step" not in shown
    assert re.search(r"training 100% \|.*\| 9/9  .*loss 9.000  40 tok/s  ETA 0:00", shown)


def test_without_a_terminal_the_log_is_printed_unchanged() -> None:
    stream = io.StringIO()
    with LogPrinter(stream) as printer:
        for text in ("training: step 1/2", "  loss 1\nnext", "\n"):
            printer.write(text)
    assert stream.getvalue() == "training: step 1/2  loss 1\nnext\n"
    assert last_progress(stream.getvalue()) == "training: step 1/2  loss 1"


def test_a_connection_that_breaks_says_how_to_continue(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        """Ray's client, whose connection ends after a line."""

        def get_address(self) -> str:
            return "http://10.0.0.1:8265"

        async def tail_job_logs(self, _: str) -> AsyncIterator[str]:
            yield "training: step 3/10  loss 1\n"
            raise aiohttp.ClientPayloadError("cut")

    with pytest.raises(ClusterError, match=r"jobs logs -f j --address http://10\.0\.0\.1:8265"):
        follow(Broken(), "j")
    assert "step 3/10" in capsys.readouterr().out
