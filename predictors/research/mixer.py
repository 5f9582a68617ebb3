"""A small mixer over a network's layers, many members trained at once on different rows."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from predictors.networks.perceptron import Training
from predictors.networks.ranking_losses import Loss

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float32]

# Of the published settings what few labels bear: 16 channels instead of 512, 2 blocks instead of 4.
CHANNELS = 16
BLOCKS = 2
TOKEN_EXPANSION = 0.5
CHANNEL_EXPANSION = 2


@dataclass(frozen=True)
class Mixer:
    """Weights of ``m`` mixers of one shape, by name; see :func:`initialise`."""

    weights: dict[str, Array]

    def __call__(self, matrices: NDArray[np.floating]) -> Array:
        """Scores ``(m, n)`` of layer matrices ``(n, layers, statistics)``."""
        import torch

        members = len(self.weights["embed"])
        x = torch.from_numpy(np.asarray(matrices, dtype=np.float32))
        tensors = {name: torch.from_numpy(value) for name, value in self.weights.items()}
        with torch.no_grad():
            found: Array = _forward(tensors, x.expand(members, *x.shape)).numpy()
        return found


def initialise(members: int, layers: int, statistics: int, seed: int) -> Mixer:
    """Random mixers for matrices ``(layers, statistics)``; residual branches start small."""
    rng = np.random.default_rng(seed)
    tokens, channels = max(2, int(layers * TOKEN_EXPANSION)), CHANNEL_EXPANSION * CHANNELS
    shapes = {"embed": (statistics, CHANNELS), "place": (layers, CHANNELS), "head": (CHANNELS, 1)}
    for block in range(BLOCKS):
        shapes[f"{block}.tokens.in"] = (layers, tokens)
        shapes[f"{block}.tokens.out"] = (tokens, layers)
        shapes[f"{block}.channels.in"] = (CHANNELS, channels)
        shapes[f"{block}.channels.out"] = (channels, CHANNELS)
    weights = {}
    for name, (before, after) in shapes.items():
        scale = before**-0.5 * (0.3 if name.endswith("out") or name == "place" else 1.0)
        draw = rng.standard_normal((members, before, after), dtype=np.float32)
        weights[name] = draw * np.float32(scale)
    return Mixer(weights)


def train(
    start: Mixer,
    matrices: NDArray[np.floating],
    targets: NDArray[np.floating],
    rows: NDArray[np.integer],
    training: Training,
    loss: Loss,
) -> Mixer:
    """Train every mixer on its own rows; members never influence each other.

    Args:
        start: Initial weights of ``m`` mixers; left alone.
        matrices: ``(n, layers, statistics)``, standardised, zero where a layer is not there.
        targets: ``(n,)``, standardised.
        rows: Training rows of each member, ``(m, t)``; used whole in every step.
        training: Steps and rates.
        loss: Compares ``(m, t)`` scores and targets.
    """
    import torch

    own = torch.from_numpy(np.array(rows, dtype=np.int64))
    x = torch.from_numpy(np.asarray(matrices, dtype=np.float32))[own]
    y = torch.from_numpy(np.asarray(targets, dtype=np.float32))[own]
    weights = {n: torch.tensor(value, requires_grad=True) for n, value in start.weights.items()}
    optimiser = torch.optim.AdamW(
        list(weights.values()), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    for step in range(training.steps):
        for group in optimiser.param_groups:
            group["lr"] = training.learning_rate * (1 + cos(pi * step / training.steps)) / 2
        optimiser.zero_grad()
        with torch.enable_grad():
            loss(_forward(weights, x), y).sum().backward()
        optimiser.step()
    return Mixer({name: value.detach().numpy() for name, value in weights.items()})


def _forward(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Scores ``(m, n)`` of matrices ``(m, n, layers, statistics)``."""
    members = x.shape[0]

    def dense(x: Tensor, name: str) -> Tensor:
        # One product for each member; a broadcast one for each row is several times slower.
        return (x.flatten(1, 2) @ weights[name]).unflatten(1, x.shape[1:3])

    x = dense(x, "embed") + weights["place"].view(members, 1, *weights["place"].shape[1:])
    for block in range(BLOCKS):
        # Transposed, so that this product runs over the layers; on the channels as they lie, no
        # layer would ever learn of another.
        tokens = _normalised(x).transpose(2, 3)
        tokens = dense(dense(tokens, f"{block}.tokens.in").relu(), f"{block}.tokens.out")
        x = x + tokens.transpose(2, 3)
        channels = dense(_normalised(x), f"{block}.channels.in").relu()
        x = x + dense(channels, f"{block}.channels.out")
    return (x.mean(2) @ weights["head"])[..., 0]


def _normalised(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
