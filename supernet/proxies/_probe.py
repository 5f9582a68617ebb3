"""What proxies share: a copy to work on, the loss, and a look at what runs inside a network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from supernet.errors import InputError
from supernet.losses import cross_entropy

Score = Callable[[nn.Module, Tensor, Tensor], float]
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def copy_for_scoring(model: nn.Module) -> nn.Module:
    """Copy a network without gradients, all weights trainable, normalising by the batch.

    Running statistics inherited from a supernet fit no subnetwork; those of the batch always do.
    Dropout and the like are off, so that a score is a function of weights and batch.
    """
    twin = copy.deepcopy(model).eval()
    for parameter in twin.parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
    for module in twin.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    return twin


def find_logits(outputs: Any) -> Tensor:
    """Find the tensor in a network's output: itself, or the ``logits`` of a Hugging Face model."""
    found = outputs if isinstance(outputs, Tensor) else getattr(outputs, "logits", None)
    if found is None and isinstance(outputs, (tuple, list)):
        found = outputs[0]
    if not isinstance(found, Tensor):
        raise InputError(
            f"the network returns {type(outputs).__name__}; a proxy needs a tensor or an object "
            "with .logits"
        )
    return found


def list_weighted(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """List names and modules of all convolutions and linear layers, as registered."""
    return [(n, m) for n, m in model.named_modules() if isinstance(m, WEIGHTED)]


def compute_gradients(
    model: nn.Module, inputs: Tensor, targets: Tensor
) -> list[tuple[str, Tensor, Tensor]]:
    """Compute weight and gradient of the loss for every convolution and linear layer that ran.

    Args:
        model: Left alone; a copy is run.
        inputs: A batch as the network takes it.
        targets: Class indices ``(N,)``, or token ids ``(N, T)``.
    """
    twin = copy_for_scoring(model)
    with torch.enable_grad():
        cross_entropy(find_logits(twin(inputs)), targets).backward()
    layers = [(name, module.weight) for name, module in list_weighted(twin)]
    return [(n, w.detach(), w.grad) for n, w in layers if w.grad is not None]  # type: ignore


class Watch(TorchFunctionMode):
    """Shows every torch function to ``see``, which may answer in its place.

    Functional calls inside a forward pass have no module to hook; this meets them all.
    """

    def __init__(self, see: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()
        self.see = see

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        answer = self.see(func, args, kwargs or {})
        return func(*args, **(kwargs or {})) if answer is None else answer


@contextmanager
def track_modules(model: nn.Module) -> Iterator[list[str]]:
    """Keep a list of the names of the modules that are running, outermost first."""
    stack: list[str] = []
    handles = []
    for name, module in model.named_modules():

        def enter(_: nn.Module, _args: Any, name: str = name) -> None:
            stack.append(name)

        def leave(_: nn.Module, _args: Any, _outputs: Any) -> None:
            stack.pop()

        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()


def sum_layers(by_layer: Callable[[nn.Module, Tensor, Tensor], dict[str, float]]) -> Score:
    """Make the score of a whole network of what ``by_layer`` says of its layers.

    Args:
        by_layer: Takes an extracted network, which it leaves alone, a batch as the network takes
            it, and class indices ``(N,)`` or token ids ``(N, T)``.
    """

    def score(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
        """Add up what each layer has."""
        return float(sum(by_layer(model, inputs, targets).values()))

    return score
