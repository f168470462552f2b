"""Messages arrive as they were sent, each on one line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.runs.tracking.messages import MESSAGES, EndMessage, Notice, PointMessage, StartMessage
from tuneyard.configs.experiment_tracking import WandbConfig

NUMBERS = st.floats(allow_nan=False)
MESSAGE = st.one_of(
    st.builds(PointMessage, step=st.integers(0), metrics=st.dictionaries(st.text(), NUMBERS)),
    st.builds(EndMessage, succeeded=st.booleans(), summary=st.dictionaries(st.text(), st.text() | NUMBERS)),
    st.builds(
        StartMessage,
        run_id=st.text(),
        name=st.text(),
        folder=st.text(),
        wandb=st.builds(WandbConfig, project=st.just("p"), name=st.none() | st.text("ab\n ", min_size=1, max_size=9)),
        settings=st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | NUMBERS),
    ),
)


@given(MESSAGE)
def test_a_message_is_one_line(message: PointMessage | EndMessage | StartMessage) -> None:
    line = message.as_line()
    assert line.count("\n") == 1
    assert MESSAGES.validate_json(line) == message


def test_values_that_are_no_numbers_arrive() -> None:
    """A loss that diverged is shown as such."""
    arrived = MESSAGES.validate_json(PointMessage(step=1, metrics={"loss": float("nan")}).as_line())
    assert isinstance(arrived, PointMessage)
    assert str(arrived.metrics["loss"]) == "nan"


@given(st.text())
def test_a_notice_is_one_line(text: str) -> None:
    notice = Notice(kind="warning", text=text)
    assert notice.as_line().count("\n") == 1
    assert Notice.model_validate_json(notice.as_line()) == notice
