"""A saved job's integration wandb becomes one that the API takes; what is left out is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.api.wire.platform_api.fine_tuning import Integration
from tuneyard.cli.openai_import.saved_integrations import take_integrations


def wandb(**values: Any) -> dict[str, Any]:
    return {"type": "wandb", "wandb": values}


NAMES = st.from_regex(r"\A[a-z0-9]([a-z0-9 _-]{0,20}[a-z0-9])?\Z")


@given(
    NAMES,
    st.none() | NAMES,
    st.none() | st.text(min_size=1, max_size=128),
    st.none() | st.lists(st.text(min_size=1, max_size=64), max_size=20),
    st.booleans(),
)
def test_settings_stay_and_the_run_at_openai_does_not(
    project: str, entity: str | None, name: str | None, tags: list[str] | None, has_run: bool
) -> None:
    settings = {"project": project, "entity": entity, "name": name, "tags": tags}
    saved = wandb(**settings, **({"run_id": "ftjob-1"} if has_run else {}))
    (taken,), notes = take_integrations({"integrations": [saved]})
    assert taken == wandb(**{key: value for key, value in settings.items() if value is not None})
    assert Integration.parse(taken).wandb.project == project
    assert notes == []


JSON = st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


SECTIONS = st.dictionaries(st.just("project") | st.text(), JSON)
INTEGRATIONS = st.fixed_dictionaries({}, optional={"type": st.just("wandb") | JSON, "wandb": SECTIONS | JSON})


@given(st.lists(INTEGRATIONS | JSON))
def test_every_integration_is_taken_or_named(saved: list[Any]) -> None:
    taken, notes = take_integrations({"integrations": saved})
    assert len(taken) <= 1
    for integration in taken:
        Integration.parse(integration)
    partly = [note for note in notes if note.startswith("of its integration")]
    assert len(taken) + len(notes) - len(partly) == len(saved)


@pytest.mark.parametrize(
    ("saved", "projects", "notes"),
    [
        ([], [], []),
        (None, [], []),
        ([wandb(project="a"), wandb(project="b")], ["a"], ["its integration wandb of b is left out: a job"]),
        ([wandb(project="a/b"), wandb(project="b")], ["b"], ["left out. Invalid value for 'wandb.project': "]),
        ([wandb()], [], ["left out. Missing required parameter: 'wandb.project'. Metrics"]),
        ([wandb(project="a", color="red", size=None)], ["a"], ["of its integration wandb these are left out: color"]),
        ([{"type": "other", "other": {}}], [], ["its integration other is left out. Metrics are in MLflow"]),
    ],
)
def test_what_is_left_out_is_named(saved: Any, projects: list[str], notes: list[str]) -> None:
    taken, found = take_integrations({"integrations": saved})
    assert [integration["wandb"]["project"] for integration in taken] == projects
    assert len(found) == len(notes)
    for text, note in zip(notes, found, strict=True):
        assert text in note
