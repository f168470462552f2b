"""Whether a job's workers fit on a cluster: with fewer of them, later, or never."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from serve_apps.platform_app.fine_tuning.execution.cluster_capacity import ClusterCapacity
from serve_apps.platform_app.fine_tuning.settings.hyperparameters import (
    check_batch_size,
    resolve,
    rows_per_step,
)
from serve_apps.platform_app.fine_tuning.settings.run_config import run_config
from serve_apps.platform_app.fine_tuning.settings.worker_fit import (
    describe_impossibility,
    describe_wait,
    fit_workers,
)
from tests.serve_apps.platform_app.fine_tuning.test_settings import base_with
from tuneyard.api.wire.platform_api.fine_tuning import SupervisedHyperparameters
from tuneyard.configs.workers import WorkersConfig
from tuneyard.core.resources import ResourceRequest, describe_shortages, process_capacity


def nodes(*cpus: float, gpus: float = 0) -> list[dict[str, float]]:
    return [{"CPU": count, "GPU": gpus} for count in cpus]


def capacity(
    *total: float, unserved: tuple[float, ...] | None = None, free: tuple[float, ...] | None = None
) -> ClusterCapacity:
    rest = total if unserved is None else unserved
    return ClusterCapacity(nodes(*total), nodes(*rest), nodes(*(rest if free is None else free)))


TWO_CPUS = capacity(2, unserved=(1.4,))
"""A small machine with the gateway and the reconciler."""


def test_a_job_on_two_cpus_has_one_worker_and_the_same_rows_in_a_step() -> None:
    base = base_with({"batch_size_per_worker": 2}, {"num_workers": 2})
    values, _ = resolve(SupervisedHyperparameters(), base, 100)
    fitted, text = fit_workers(base, values.batch_size, TWO_CPUS)
    config = run_config(fitted, "ftjob-1", "/train.jsonl", None, 1, values)
    assert config.workers.num_workers == 1
    assert rows_per_step(config) == values.batch_size == 4
    assert text == (
        "tiny is trained by 2 workers, and 1 of them fits beside what this cluster serves: the job has 1 worker. "
        "Its steps have the same rows and take longer."
    )
    assert describe_impossibility(fitted, TWO_CPUS) == describe_wait(config.workers, [], TWO_CPUS) == ""


@given(
    wanted=st.integers(1, 8),
    times=st.integers(1, 12),
    cpus=st.lists(st.integers(0, 40).map(lambda tenths: tenths / 10), min_size=1, max_size=3),
)
def test_fewer_workers_fit_share_the_batch_evenly_and_are_no_more_than_wanted(
    wanted: int, times: int, cpus: list[float]
) -> None:
    base = base_with({"batch_size_per_worker": 3}, {"num_workers": wanted})
    requested = SupervisedHyperparameters(batch_size=wanted * times)
    check_batch_size(requested, base, "batch_size")
    values, _ = resolve(requested, base, 100)
    found = capacity(*cpus)
    fitted, text = fit_workers(base, values.batch_size, found)
    count = fitted.template.workers.num_workers
    fitting = sum(process_capacity({"CPU": 1}, node) for node in found.unserved)
    assert values.batch_size % count == 0
    assert rows_per_step(run_config(fitted, "j", "/t.jsonl", None, 1, values)) == values.batch_size
    assert bool(text) == (count < wanted) == (0 < fitting < wanted)
    assert (describe_wait(fitted.template.workers, [], found) == "") == (fitting > 0)


@pytest.mark.parametrize(
    ("training", "workers"),
    [
        ({}, {"num_workers": 2, "use_gpu": True}),
        ({"gradient_accumulation_steps": 2}, {"num_workers": 2, "min_workers": 1}),
        ({}, {"num_workers": 2, "wait_for_nodes": True}),
        ({"sharding": "fsdp2", "method": "full"}, {"num_workers": 2}),
    ],
)
def test_the_number_of_workers_stays_where_it_is_more_than_speed(
    training: dict[str, Any], workers: dict[str, Any]
) -> None:
    base = base_with(training, workers)
    only_one = ClusterCapacity(nodes(2, gpus=1), nodes(1.4, gpus=1), nodes(1.4, gpus=1))
    assert fit_workers(base, 4, only_one) == (base, "")


def test_a_job_that_no_node_can_ever_hold_says_what_is_missing() -> None:
    base = base_with(workers={"num_workers": 2, "use_gpu": True})
    assert describe_impossibility(base, capacity(16)) == (
        "The job with 2 workers can never be placed on this cluster as it is: GPU: 2 needed, 0 available. Whoever runs "
        "it can add nodes, or request less in `workers` of platform.bases.tiny."
    )
    assert describe_impossibility(base, ClusterCapacity(nodes(16, gpus=2), nodes(1), nodes(0))) == ""


def test_what_the_autoscaler_may_add_counts_for_jobs_that_wait_for_nodes() -> None:
    base = base_with(workers={"num_workers": 4, "use_gpu": True, "wait_for_nodes": True})
    small = nodes(4)
    assert describe_impossibility(base, ClusterCapacity(small, small, small)) == ""
    enough = ClusterCapacity(small, small, small, {"CPU": 64, "GPU": 4})
    assert describe_impossibility(base, enough) == ""
    short = ClusterCapacity(small, small, small, {"CPU": 64, "GPU": 2})
    assert "with all nodes that its autoscaler may add: GPU: 4 needed, 2 available" in describe_impossibility(
        base, short
    )


@pytest.mark.parametrize(
    ("found", "training", "reason"),
    [
        (capacity(2), 0, ""),
        (capacity(1), 0, "CPU: 2 needed, 1 available. Its workers start when such nodes have joined the cluster."),
        (
            capacity(2, unserved=(1.4,)),
            0,
            "CPU: 2 needed, 1.4 available. Models that are always served have the rest: the job begins when one is "
            "stopped.",
        ),
        (capacity(3), 2, "CPU: 4 needed, 3 available. The job begins when other jobs have ended."),
        (
            capacity(2, free=(0.5,)),
            0,
            "CPU: 2 needed, 0.5 available. The job begins when other work on the cluster has ended.",
        ),
    ],
)
def test_a_job_that_waits_says_for_what(found: ClusterCapacity, training: int, reason: str) -> None:
    others = [ResourceRequest(training, {"CPU": 1.0})] if training else []
    expected = f"The job with 2 workers cannot be placed now: {reason}" if reason else ""
    assert describe_wait(WorkersConfig(num_workers=2), others, found) == expected


@given(st.data())
def test_a_job_begins_only_where_it_fits(data: st.DataObject) -> None:
    amounts = st.integers(0, 6).map(float)
    total = data.draw(st.lists(amounts, min_size=1, max_size=3))
    unserved = [data.draw(st.sampled_from([0.0, cpus / 2, cpus])) for cpus in total]
    free = [data.draw(st.sampled_from([0.0, cpus])) for cpus in unserved]
    workers = WorkersConfig(
        num_workers=data.draw(st.integers(1, 4)), cpus_per_worker=data.draw(st.sampled_from([1, 2]))
    )
    found = ClusterCapacity(nodes(*total), nodes(*unserved), nodes(*free))
    fits = not describe_shortages([workers.resource_request], found.free)
    assert (describe_wait(workers, [], found) == "") == fits


def test_an_autoscaler_that_does_not_name_a_resource_may_still_bring_it() -> None:
    """KubeRay's tells CPUs and GPUs, and no accelerator types."""
    waiting = base_with(workers={"num_workers": 1, "wait_for_nodes": True, "resources_per_worker": {"label": 1}})
    for maximum, is_impossible in (({"CPU": 8.0}, False), ({"CPU": 8.0, "label": 0.0}, True)):
        told = describe_impossibility(waiting, ClusterCapacity(nodes(2), nodes(2), nodes(2), maximum))
        assert bool(told) is is_impossible
