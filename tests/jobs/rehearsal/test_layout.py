"""The rehearsed layout is the run's own where it fits, and otherwise a smaller one of the same kind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.rehearsal.layout import OTHER_BYTES, WORKER_BYTES, WORKERS_PER_CORE, RehearsedLayout, fit_layout
from jobs.rehearsal.small_model import small_sizes
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.planning.nemo_checks import check_parallelism
from tuneyard.planning.nemo_parallelism import BatchPlan, ModelSizes, Parallelism, resolve_parallelism
from tuneyard.planning.published_models import PUBLISHED


def nemo_config(workers: int, method: str = "lora", recipe: str = "gpt_oss_20b", **axes: int) -> FinetuneConfig:
    return FinetuneConfig.model_validate(
        {
            "run": {"name": "r", "model_name": "m"},
            "model": {"base": "/base"},
            "data": {"train": "/train.jsonl"},
            "training": {"backend": "nemo", "method": method},
            "nemo": {"recipe": recipe} | axes,
            "workers": {"num_workers": workers, "use_gpu": True},
        }
    )


def memory_for(workers: int) -> int:
    """Main memory in bytes that holds exactly so many NeMo workers."""
    return OTHER_BYTES + workers * WORKER_BYTES["nemo"]


def test_a_layout_that_fits_is_the_runs_own() -> None:
    layout = fit_layout(nemo_config(8, method="full"), memory_for(8), cores=16)
    assert layout == RehearsedLayout(8, Parallelism(pipeline=2, expert=4), "")
    assert str(layout) == "8 workers, pipeline 2 × expert 4"


def test_copies_of_the_model_are_left_out_first() -> None:
    layout = fit_layout(nemo_config(8), memory_for(3), cores=16)
    assert (layout.workers, layout.parallelism) == (3, Parallelism())
    assert str(layout) == "3 workers, data parallel; the run has 8 workers, and this machine holds 3"


def test_a_layout_that_does_not_fit_keeps_its_pipeline_and_says_what_is_shorter() -> None:
    layout = fit_layout(nemo_config(32, method="full", recipe="gpt_oss_120b"), memory_for(40), cores=2)
    assert (layout.workers, layout.parallelism) == (8, Parallelism(pipeline=4, expert=2))
    assert layout.note == "the run has 32 workers with expert 8, and this machine holds 8"


@given(
    copies=st.integers(1, 6),
    pipeline=st.sampled_from([1, 2, 3, 4, 6]),
    expert=st.sampled_from([1, 2, 4, 8]),
    context=st.sampled_from([1, 2, 4]),
    memory=st.integers(0, 40 * 2**30),
    cores=st.integers(1, 64),
)
def test_every_rehearsed_layout_is_valid_for_the_small_model(
    copies: int, pipeline: int, expert: int, context: int, memory: int, cores: int
) -> None:
    unit = pipeline * max(expert, context)
    config = nemo_config(copies * unit, pipeline_parallel=pipeline, expert_parallel=expert, context_parallel=context)
    layout = fit_layout(config, memory, cores)
    assert 1 <= layout.workers <= copies * unit
    holds = max(1, (memory - OTHER_BYTES) // WORKER_BYTES["nemo"])
    assert layout.workers <= min(holds, WORKERS_PER_CORE * cores)
    assert bool(layout.note) == (layout.workers != copies * unit or layout.parallelism != resolve_parallelism(config))
    sizes = small_sizes(PUBLISHED["20b"], layout.parallelism)
    data_ranks = layout.workers // layout.parallelism.model_ranks
    check_parallelism(layout.parallelism, ModelSizes.of(sizes), layout.workers, BatchPlan(1, data_ranks), packed=False)
