"""Processes of tests that begin with the heavy packages imported: each would take seconds of CPU time to import them.

They are forks of a server process, which has one thread and has imported the packages once for all tests of this
process. Environment variables are those of the first use.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

PRELOADED = (
    "jobs.training.transformers_backend",
    "transformers.models.gpt_oss.modeling_gpt_oss",
    "tests.jobs.training.sharding.worker_group",
    "tests.serve_apps.platform_app.evals.crash_worker",
)
"""What takes longest to import."""


def start_process(target: Callable[..., object], *arguments: Any) -> BaseProcess:
    """A running process that calls the function, which must be importable."""
    process = _context().Process(target=target, args=arguments)
    process.start()
    return process


def call_in_processes(target: Callable[..., object], count: int, *arguments: Any) -> None:
    """Calls target(NUMBER, *arguments) in so many processes at once; raises an exception of any of them."""
    import torch.multiprocessing

    _context()
    torch.multiprocessing.start_processes(target, arguments, nprocs=count, start_method="forkserver")


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    # Has an effect before the first process only.
    context.set_forkserver_preload(list(PRELOADED))
    return context
