"""Replaces torch.cuda on machines without CUDA, where Megatron and NeMo call it unconditionally.

For rehearsals and tests: a real run never imports this. Devices, streams, events, generators, memory counters and
tensor types are those of the CPU. On a machine with a GPU `install` raises an error.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pickle
import queue
import sys
import tempfile
import threading
from typing import Any

import torch

CPU = torch.device("cpu")
_TENSOR_TYPES = ("Long", "Float", "Int", "Byte", "Half", "BFloat16", "Double")


def install() -> None:
    """Installs the shim. Call it before megatron is imported. Raises RuntimeError if there is a GPU."""
    if torch.cuda.is_available():
        raise RuntimeError("This machine has a GPU, and the CPU shim would hide it.")
    if getattr(torch.cuda, "is_tuneyard_shim", False):
        return
    cuda: Any = torch.cuda
    cuda.is_tuneyard_shim = True
    without_effect = (
        "set_device",
        "synchronize",
        "empty_cache",
        "reset_peak_memory_stats",
        "manual_seed_all",
        "manual_seed",
    )
    for name in without_effect:
        setattr(cuda, name, lambda *_, **__: None)
    for name in ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"):
        setattr(cuda, name, lambda *_, **__: 0)
    cuda.current_device = lambda: CPU
    cuda.current_stream = cuda.default_stream = lambda *_, **__: _Stream()
    cuda.stream = lambda _: contextlib.nullcontext()
    cuda.Stream, cuda.Event = _Stream, _Event
    cuda.manual_seed = lambda seed: torch.default_generator.manual_seed(int(seed))
    cuda.get_rng_state = lambda *_, **__: torch.get_rng_state()
    cuda.set_rng_state = lambda state, *_, **__: torch.set_rng_state(state)
    for name in _TENSOR_TYPES:
        setattr(cuda, f"{name}Tensor", _tensor_type(getattr(torch, f"{name}Tensor")))
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    torch.nn.Module.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    cpu_for_cuda: Any = _CpuForCuda()
    cpu_for_cuda.__enter__()  # for good
    _use_in_new_threads()
    _patch_megatron()


class _CpuForCuda(torch.overrides.TorchFunctionMode):
    """Replaces the device "cuda" by the CPU, and pinned memory by plain memory, in every call of torch."""

    def __torch_function__(self, fn: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if str(kwargs.get("device") or "").startswith("cuda"):
            kwargs["device"] = CPU
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        if fn is torch.Tensor.to and len(args) > 1 and str(args[1]).startswith("cuda"):
            args = (args[0], CPU, *args[2:])
        return fn(*args, **kwargs)


def _use_in_new_threads() -> None:
    """A torch function mode holds for one thread, and Ray Train calls the training in a thread of its own."""
    run = threading.Thread.run

    def run_on_cpu(self: threading.Thread) -> None:
        with _CpuForCuda():
            run(self)

    threading.Thread.run = run_on_cpu  # type: ignore[method-assign]


class _Stream:
    cuda_stream = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_stream(self, *_: Any) -> None:
        pass

    def wait_event(self, *_: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def record_event(self, *_: Any) -> _Event:
        return _Event()


class _Event:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def record(self, *_: Any) -> None:
        pass

    def wait(self, *_: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def query(self) -> bool:
        return True

    def elapsed_time(self, _: _Event) -> float:
        return 0.0


def _tensor_type(cpu_type: Any) -> Any:
    class Meta(type):
        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, cpu_type)

        def __call__(cls, *args: Any) -> Any:
            return cpu_type(*args)

    return Meta(cpu_type.__name__, (), {})


def _patch_megatron() -> None:
    import megatron.core.dist_checkpointing.strategies.filesystem_async as checkpoint_writer
    import megatron.core.optimizer.optimizer as optimizer
    import megatron.core.tensor_parallel.random as random
    import nemo.lightning.io.pl as nemo_io
    import nemo.lightning.megatron_init as megatron_init
    from megatron.core import tensor_parallel
    from megatron.core.transformer.moe import token_dispatcher

    random._get_cuda_rng_state = lambda *_, **__: torch.get_rng_state()
    random._set_cuda_rng_state = lambda state, *_, **__: torch.set_rng_state(state)
    optimizer.clip_grad_by_total_norm_fp32 = _clip
    checkpoint_writer._get_write_results_queue = functools.cache(_ResultsQueue)
    nemo_io._fix_tensors_device = lambda checkpoint: checkpoint

    seed_all = megatron_init._set_random_seed

    def seed_trackers_too(seed: int, *args: Any, **kwargs: Any) -> None:
        seed_all(seed, *args, **kwargs)
        tensor_parallel.model_parallel_cuda_manual_seed(seed)

    megatron_init._set_random_seed = seed_trackers_too

    type_of = torch.Tensor.type

    def cuda_type_for_the_optimizer(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        result = type_of(self, *args, **kwargs)
        caller = sys._getframe(1).f_code.co_filename
        if isinstance(result, str) and "megatron/core/optimizer" in caller and not result.startswith("torch.cuda"):
            return result.replace("torch.", "torch.cuda.", 1)
        return result

    torch.Tensor.type = cuda_type_for_the_optimizer  # type: ignore[method-assign, assignment]

    to_host = token_dispatcher.maybe_move_tensor_to_cpu

    def split_sizes_as_numbers(tensor: Any, as_numpy: bool = False, record_stream: bool = False) -> Any:
        if torch.is_tensor(tensor):
            return tensor.numpy() if as_numpy else tensor
        return to_host(tensor, as_numpy, record_stream)

    token_dispatcher.maybe_move_tensor_to_cpu = split_sizes_as_numbers


class _ResultsQueue:
    """Megatron's queue for the results of writing a checkpoint: forks of this process put them, this process gets them.

    Megatron's own belongs to a server process that each rank starts, which takes 2.6 s of CPU time.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(mode="ab", buffering=0)  # noqa: SIM115  # lives as long as the process
        self._read = 0

    def put(self, results: Any) -> None:
        self._file.write(pickle.dumps(results))

    def get_nowait(self) -> Any:
        """Raises queue.Empty."""
        new = os.pread(self._file.fileno(), os.fstat(self._file.fileno()).st_size - self._read, self._read)
        if not new:
            raise queue.Empty
        stream = io.BytesIO(new)
        results = pickle.load(stream)
        self._read += stream.tell()
        return results


def _clip(parameters: Any, max_norm: float, total_norm: float, use_decoupled_grad: bool = False) -> None:
    """clip_grad_by_total_norm_fp32 of megatron/core/optimizer/clip_grads.py, without its check for CUDA tensors."""
    coefficient = max_norm / (total_norm + 1e-6)
    if coefficient >= 1.0:
        return
    several: list[Any] = [parameters] if isinstance(parameters, torch.Tensor) else parameters
    for parameter in several:
        gradient = parameter.decoupled_grad if use_decoupled_grad else parameter.grad
        if gradient is not None:
            gradient.mul_(coefficient)
