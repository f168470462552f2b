"""Each thing that a run tells of Weights & Biases is told to clients once."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serve_apps.platform_app.fine_tuning.execution.tracking_events import tracking_events, wandb_fields
from tuneyard.configs.experiment_tracking import WandbConfig, WandbServerConfig

STORED: list[dict[str, Any]] = [
    {"type": "wandb", "wandb": {"project": "p", "entity": None, "name": None, "tags": ["t"]}}
]
TAGS = {"wandb.run": "https://wandb.example/r", "wandb.warning": "the server is lost", "mlflow.user": "x"}


@given(st.lists(st.sets(st.sampled_from(sorted(TAGS)))))
def test_each_tag_is_told_once_in_whatever_order_tags_are_seen(reads: list[set[str]]) -> None:
    integrations, told = STORED, []
    for names in reads:
        integrations, events = tracking_events(integrations, {name: TAGS[name] for name in names})
        told += [event.level for event in events]
    seen = set().union(*reads)
    expected = ["info"] * ("wandb.run" in seen) + ["warn"] * ("wandb.warning" in seen)
    assert sorted(told) == sorted(expected)
    assert [item["wandb"] for item in integrations] == [STORED[0]["wandb"]]


def test_the_fields_of_a_run() -> None:
    server = WandbServerConfig(base_url="https://wandb.example", entity="team")
    fields = wandb_fields("ftjob-1", STORED, server)
    config = WandbConfig.model_validate(fields)
    assert (config.run_id, config.project, config.entity, config.tags) == ("ftjob-1", "p", "team", ("t",))
    own = [{"type": "wandb", "wandb": STORED[0]["wandb"] | {"entity": "mine", "name": "n"}}]
    assert WandbConfig.model_validate(wandb_fields("ftjob-1", own, server)).entity == "mine"


def test_without_an_integration_or_a_server_nothing_is_sent() -> None:
    assert wandb_fields("ftjob-1", [], WandbServerConfig()) is None
    assert wandb_fields("ftjob-1", None, WandbServerConfig()) is None
    assert wandb_fields("ftjob-1", STORED, None) is None
