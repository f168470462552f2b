"""Main memory: a run that no node holds is refused with both numbers and with changes that make it fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuneyard.planning.training.test_memory_checks import BASE
from tests.tuneyard.planning.training.test_memory_plan import config_of
from tuneyard.configs.workers import WorkersConfig
from tuneyard.core.errors import ClusterError
from tuneyard.core.resources import GIB
from tuneyard.planning.training.host_memory import HostMemory, host_memory
from tuneyard.planning.training.memory_plan import BatchShape, training_memory
from tuneyard.planning.training.node_memory import check_node_memory

MEMORY = HostMemory(first_worker=40 * GIB, worker=40 * GIB, sharded_worker=1 * GIB, export=80 * GIB)


def node(gib: float, gpus: int = 8) -> dict[str, float]:
    """Ray's resources of a node, of whose free memory Ray's object store takes a third."""
    return {"CPU": 64, "GPU": gpus, "memory": gib * GIB * 2 / 3, "object_store_memory": gib * GIB / 3}


def workers(count: int, **fields: object) -> WorkersConfig:
    return WorkersConfig.model_validate({"num_workers": count, "use_gpu": True, **fields})


def test_an_export_that_no_node_holds_is_refused() -> None:
    with pytest.raises(
        ClusterError, match=r"takes about 80\.0 GiB of main memory .* has 64\.0 GiB\. Add a node with 80"
    ):
        check_node_memory(workers(1), MEMORY, [node(64), node(500, gpus=0)])
    check_node_memory(workers(1), MEMORY, [node(64), node(81)])


def test_workers_that_no_node_holds_are_refused_with_the_cheapest_ways_out() -> None:
    with pytest.raises(ClusterError) as caught:
        check_node_memory(workers(8), MEMORY, [node(200), node(180)])
    assert str(caught.value) == (
        "8 workers on one node take about 320.0 GiB of main memory to load and train the model, but the node has "
        "200.0 GiB. What would fit: training.sharding: fsdp2 (47.0 GiB); or workers.spread: true (160.0 GiB on each "
        "node); or workers.num_workers: 5 (200.0 GiB)."
    )
    check_node_memory(workers(8, spread=True), MEMORY, [node(200), node(180)])
    check_node_memory(workers(5), MEMORY, [node(200)])
    sharded = HostMemory(first_worker=40 * GIB, worker=1 * GIB, sharded_worker=1 * GIB, export=80 * GIB)
    check_node_memory(workers(8), sharded, [node(81)])


def test_nodes_that_are_yet_to_be_added_are_not_judged() -> None:
    check_node_memory(workers(8), MEMORY, [node(1, gpus=0)])
    check_node_memory(workers(8), MEMORY, [])


@given(
    count=st.integers(1, 32),
    gib=st.lists(st.integers(1, 600), min_size=1, max_size=4),
    first=st.integers(1, 300),
    other=st.integers(1, 300),
)
def test_what_is_offered_fits(count: int, gib: list[int], first: int, other: int) -> None:
    """A refusal's own number of workers is taken, and one more is not."""
    memory = HostMemory(first * GIB, min(first, other) * GIB, min(first, other) * GIB, export=GIB)
    nodes = [node(size, gpus=32) for size in gib]
    try:
        check_node_memory(workers(count), memory, nodes)
    except ClusterError as e:
        offered = [way for way in str(e).split("; or ") if "workers.num_workers: " in way]
        if offered:
            most = int(offered[0].rpartition("num_workers: ")[2].split()[0])
            assert most < count
            check_node_memory(workers(most), memory, nodes)


def test_the_published_sizes() -> None:
    """LoRA on 20B from MXFP4: bf16 weights in main memory before they go to the GPU, and an export in fp32."""
    batch = BatchShape(1, 2048, 1024)
    lora = host_memory(config_of({}, {}), BASE, batch)
    assert lora.first_worker / GIB == pytest.approx(50.5, abs=0.5)
    assert lora.worker == lora.first_worker
    assert lora.export / GIB == pytest.approx(90.0, abs=0.5)
    sharded = host_memory(config_of({}, {"sharding": "fsdp2"}), BASE, batch)
    assert sharded.first_worker == lora.first_worker
    assert sharded.worker == lora.sharded_worker < 2 * GIB
    nemo = host_memory(config_of({}, {"backend": "nemo"}), BASE, batch)
    assert nemo.export > 1.7 * lora.export


def test_on_cpus_frozen_weights_are_planned_in_fp32() -> None:
    """Also if the run computes in bf16; and worker 0 of a sharded run holds its part beside the whole model."""
    batch = BatchShape(1, 64, 8)
    gpu = config_of({}, {"precision": "bf16"})
    cpu = gpu.model_copy(update={"workers": gpu.workers.model_copy(update={"use_gpu": False, "num_workers": 2})})
    fp32 = cpu.model_copy(update={"training": cpu.training.model_copy(update={"precision": "fp32"})})
    weights = [training_memory(config, BASE, batch).weights for config in (gpu, cpu, fp32)]
    assert 2 * weights[0] == weights[1] == weights[2]
    sharded = cpu.model_copy(update={"training": cpu.training.model_copy(update={"sharding": "fsdp2"})})
    part = host_memory(sharded, BASE, batch).first_worker - host_memory(cpu, BASE, batch).first_worker
    assert part == pytest.approx(weights[1] / 2, rel=0.01)
