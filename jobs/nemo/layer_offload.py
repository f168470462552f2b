"""A model too large for a GPU, run on it: each part comes for its own turn, and leaves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch


def parts(model: torch.nn.Module, whole: type[torch.nn.Module]) -> list[torch.nn.Module]:
    """The modules of class `whole`, and outside of them every module that has tensors of its own."""
    layers = [module for module in model.modules() if isinstance(module, whole)]
    inside = {part for layer in layers for part in layer.modules()}
    return layers + [module for module in model.modules() if module not in inside and _own(module)]


@contextlib.contextmanager
def visits(modules: list[torch.nn.Module], move: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Inside it, a module's tensors are what `move` makes of them while it runs, and else what they were. So memory is
    needed for the largest one, and not for their sum. Nothing may write to them there.
    """
    kept: dict[torch.nn.Module, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def come(module: torch.nn.Module, _: Any) -> None:
        kept[module] = [(tensor, tensor.data) for tensor in (*module.parameters(), *module.buffers())]
        for tensor, data in kept[module]:
            tensor.data = move(data)

    def leave(module: torch.nn.Module, *_: Any) -> None:
        for tensor, data in kept.pop(module, ()):
            tensor.data = data

    hooks = [module.register_forward_pre_hook(come) for module in modules]
    hooks += [module.register_forward_hook(leave, always_call=True) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _own(module: torch.nn.Module) -> bool:
    return any(True for tensors in (module.parameters(False), module.buffers(False)) for _ in tensors)
