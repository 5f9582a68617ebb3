"""How much a random network of this shape amplifies small differences between inputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.errors import InputError
from supernet.proxies._probe import copy_for_scoring

SUMMARY = "Zen-score: expressivity of random weights; convolutional networks with batch norm only"


def score(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    repeats: int = 32,
    batch: int = 16,
    mix: float = 0.01,
    seed: int = 0,
) -> float:
    """``log E||f(x) - f(x + mix e)|| + sum log sqrt(mean variance)`` (Zen-NAS, Lin et al. 2021).

    ``f`` is the network with Gaussian weights up to its last batch normalisation, the last map
    before global pooling in the families here; ``x`` and ``e`` are Gaussian images. The second
    sum gives back the scale that each batch normalisation took away.

    Args:
        model: An extracted network; left alone, and its weights do not count.
        inputs: A batch; only the shape of a sample counts.
        targets: Has no part in the score.
        repeats: Random weights and images to average over.
        batch: Images of each.
        mix: Size of the difference.
        seed: Seed of weights and images.

    Raises:
        InputError: The network has no batch normalisation, or takes token ids.
    """
    twin = copy_for_scoring(model)
    norms = [m for m in twin.modules() if isinstance(m, _BatchNorm)]
    if not norms or not inputs.is_floating_point():
        raise InputError(
            f"{type(model).__name__} is no convolutional network with batch normalisation, for "
            "which alone the Zen-score is defined"
        )
    generator = torch.Generator().manual_seed(seed)
    found = []
    with torch.no_grad():
        for _ in range(repeats):
            _randomise(twin, generator)
            shape = (batch, *inputs.shape[1:])
            x, e = (torch.randn(shape, generator=generator).to(inputs.device) for _ in range(2))
            first, scales = _run_features(twin, norms, x)
            second, _ = _run_features(twin, norms, x + mix * e)
            gap = (first - second).abs().flatten(1).sum(1).mean()
            found.append(math.log(max(float(gap), 1e-300)) + scales)
    return sum(found) / len(found)


def _randomise(model: nn.Module, generator: torch.Generator) -> None:
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, _BatchNorm):
                parameter.fill_(1.0 if name == "weight" else 0.0)
            elif name == "bias":
                parameter.zero_()
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))


def _run_features(model: nn.Module, norms: list[_BatchNorm], x: Tensor) -> tuple[Tensor, float]:
    """Output of the last batch normalisation to run, and the log-scales all of them removed."""
    last: list[Tensor] = [x]
    scales = [0.0]

    def look(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        variance = args[0].transpose(0, 1).flatten(1).var(1, unbiased=False).mean()
        scales[0] += 0.5 * math.log(max(float(variance), 1e-12))
        last[0] = output

    handles = [norm.register_forward_hook(look) for norm in norms]
    model(x)
    for handle in handles:
        handle.remove()
    return last[0], scales[0]
