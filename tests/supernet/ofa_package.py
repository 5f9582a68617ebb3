"""The published implementation as a reference: the PyPI package ``ofa``, randomised."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch

# Imported by the package for its data pipelines, declared nowhere, and of no use here.
_UNUSED = (
    "torchvision",
    "torchvision.transforms",
    "torchvision.transforms.functional",
    "torchvision.datasets",
    "tqdm",
    "yaml",
)
NETWORKS = "ofa.imagenet_classification.elastic_nn.networks"


def networks() -> ModuleType:
    """The package's elastic networks; skips the test where it is not installed."""
    if importlib.util.find_spec("ofa") is None:
        pytest.skip("the package ofa, our reference, is not installed")
    with _stand_ins():
        return importlib.import_module(NETWORKS)


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Empty modules for what is not installed, while the package is imported."""
    made: dict[str, ModuleType] = {}
    for name in _UNUSED:
        parent = name.split(".")[0]
        if parent in made or (name not in sys.modules and importlib.util.find_spec(parent) is None):
            made[name] = sys.modules[name] = StandIn(name)
            if "." in name:
                setattr(made[name.rpartition(".")[0]], name.rpartition(".")[2], made[name])
    try:
        yield
    finally:
        for name, module in made.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


class StandIn(ModuleType):
    """Every attribute is a class to derive from."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


def _window(weight: torch.Tensor) -> torch.Tensor:
    """Large in the middle of a depthwise filter, so that small kernels pass the signal on."""
    if weight.ndim < 4 or weight.shape[1] > 1:
        return torch.ones(())
    distance = (torch.arange(weight.shape[-1]) - weight.shape[-1] // 2).abs()
    return 5 * 0.35 ** torch.maximum(distance[:, None], distance[None, :])


def images(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Patches and noise in 0...1; ``(count, 3, size, size)``."""
    patches = torch.rand(count, 3, 4, 4, generator=generator).repeat_interleave(size // 4, 2)
    patches = patches.repeat_interleave(size // 4, 3)
    return (patches + torch.rand(patches.shape, generator=generator)) / 2


def randomised(network: torch.nn.Module, size: int, seed: int = 0) -> torch.nn.Module:
    """A network of the package in eval mode, in which every weight and statistic matters.

    Statistics are those of some images, shaken: made-up ones would let the signal die out, and
    a network that says the same about every image agrees with any other.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator)

    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("_matrix"):
                parameter.add_(0.03 * noise(parameter))
            elif parameter.ndim > 1:
                # Wide-open gates, one after the other, would blow the signal up.
                scale = parameter[0].numel() ** -0.5 * (0.2 if ".se." in name else 1.0)
                parameter.copy_(noise(parameter) * scale * _window(parameter))
            else:
                centre = 1.0 if name.endswith("weight") else 0.0
                parameter.copy_(centre + 0.1 * noise(parameter))
        network.set_max_net()
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        network.train()(4 * images(8, size, generator) - 2)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.running_mean.add_(0.1 * norm.running_var.sqrt() * noise(norm.running_mean))
            norm.running_var.mul_((0.1 * noise(norm.running_var)).exp())
    return network.eval()
