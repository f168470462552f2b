"""Runs a model that does not fit on a GPU: copies each layer there for its forward pass, then frees the copy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch


def offloadable_modules(model: torch.nn.Module, layer_class: type[torch.nn.Module]) -> list[torch.nn.Module]:
    """The modules to pass to `layers_on_device`; together they hold each tensor of the model once.

    These are the modules of class `layer_class`, and those outside of them that have parameters or buffers themselves.
    """
    layers = [module for module in model.modules() if isinstance(module, layer_class)]
    in_layers = {module for layer in layers for module in layer.modules()}
    return layers + [module for module in model.modules() if module not in in_layers and _has_own_tensors(module)]


@contextlib.contextmanager
def layers_on_device(
    modules: list[torch.nn.Module], copy_to_device: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """While the context is open, each module's forward pass uses copies of its tensors, for example from Tensor.cuda.

    Before the forward pass, each parameter and buffer is replaced by `copy_to_device(tensor)`; after it, also after an
    exception, the original is put back. The device needs memory for the largest module instead of the whole model. The
    forward passes must not write to parameters or buffers: what they write is lost.
    """
    originals: dict[torch.nn.Module, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def copy_tensors(module: torch.nn.Module, _: Any) -> None:
        originals[module] = [(tensor, tensor.data) for tensor in (*module.parameters(), *module.buffers())]
        for tensor, data in originals[module]:
            tensor.data = copy_to_device(data)

    def restore_tensors(module: torch.nn.Module, *_: Any) -> None:
        for tensor, data in originals.pop(module, ()):
            tensor.data = data

    hooks = [module.register_forward_pre_hook(copy_tensors) for module in modules]
    hooks += [module.register_forward_hook(restore_tensors, always_call=True) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _has_own_tensors(module: torch.nn.Module) -> bool:
    return any(True for tensors in (module.parameters(False), module.buffers(False)) for _ in tensors)
