"""Many small perceptrons trained at once on different rows, as one batched product per layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from predictors.networks.ranking_losses import Loss, mse
from supernet.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = NDArray[np.float32]

_ROWS = 1024


@dataclass(frozen=True)
class Layers:
    """Weights of ``m`` perceptrons of one shape.

    Args:
        weights: The weights of each layer, ``(m, inputs, outputs)``.
        biases: The biases of each layer but the last, whose place the base value takes,
            ``(m, 1, outputs)``.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    @property
    def inputs(self) -> int:
        """Features the first layer takes."""
        return int(self.weights[0].shape[1])

    @property
    def hidden(self) -> tuple[int, ...]:
        """Sizes of the hidden layers."""
        return tuple(int(bias.shape[-1]) for bias in self.biases)

    def __call__(self, features: NDArray[np.floating]) -> Array:
        """Outputs ``(m, n, outputs)`` of features ``(n, inputs)``; needs numpy only."""
        found = np.empty((len(self.weights[0]), len(features), self.weights[-1].shape[2]), "f4")
        # In parts that stay in the cache: hidden units of all members and rows would fill memory.
        for start in range(0, len(features), _ROWS):
            x = np.asarray(features[start : start + _ROWS], dtype=np.float32)[None]
            for weight, bias in zip(self.weights, self.biases, strict=False):
                x = x @ weight
                x += bias
                np.maximum(x, 0, out=x)
            np.matmul(x, self.weights[-1], out=found[:, start : start + _ROWS])
        return found


@dataclass(frozen=True)
class Training:
    """How perceptrons are trained: Adam on the whole training set or batches of it.

    Args:
        steps: How many the optimiser takes.
        learning_rate: The rate at the start; it falls to 0 as half a cosine.
        weight_decay: Decoupled (AdamW).
        batch: Rows per step and member, at most.

    Raises:
        InputError: A number is out of range.
    """

    steps: int = 120
    learning_rate: float = 5e-3
    weight_decay: float = 1e-3
    batch: int = 256

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)} must be at least 1")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise InputError(
                f"learning_rate = {self.learning_rate} must be above 0 and weight_decay = "
                f"{self.weight_decay} at least 0"
            )


def initialise(members: int, sizes: Sequence[int], seed: int) -> Layers:
    """Draw random perceptrons with layers of ``sizes`` (inputs first, outputs last).

    Hidden weights have the variance ``2 / inputs`` that suits ReLU (He et al. 2015); the last
    layer starts near 0, so that training starts at the base value.
    """
    rng = np.random.default_rng(seed)
    weights: list[Array] = []
    biases: list[Array] = []
    for before, after in pairwise(sizes):
        scale = np.sqrt(2.0 / max(before, 1)) * (1.0 if len(weights) < len(sizes) - 2 else 0.1)
        draw = rng.standard_normal((members, before, after), dtype=np.float32)
        weights.append(draw * np.float32(scale))
        biases.append(np.zeros((members, 1, after), dtype=np.float32))
    return Layers(tuple(weights), tuple(biases[:-1]))


def train(
    start: Layers,
    features: NDArray[np.floating],
    targets: NDArray[np.floating],
    rows: NDArray[np.integer],
    training: Training,
    seed: int,
    loss: Loss = mse,
) -> Layers:
    """Train every perceptron on its own rows; members never influence each other.

    Args:
        start: Initial weights of ``m`` perceptrons; left alone.
        features: ``(n, inputs)``.
        targets: ``(n, outputs)``, standardised.
        rows: Training rows of each member, ``(m, t)``.
        training: Steps, rates and batch size.
        seed: Draws the batches, when there are more rows than fit one.
        loss: Compares ``(..., t)`` scores and targets; summed over outputs and members.

    Returns:
        The trained perceptrons.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(np.asarray(features, dtype=np.float32))
    y = torch.from_numpy(np.asarray(targets, dtype=np.float32))
    own = torch.from_numpy(np.array(rows, dtype=np.int64))
    weights = [torch.tensor(w, requires_grad=True) for w in start.weights]
    biases = [torch.tensor(b, requires_grad=True) for b in start.biases]
    groups: list[dict[str, Any]] = [
        {"params": weights},
        {"params": biases, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(
        groups,
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
    )
    for step in range(training.steps):
        rate = training.learning_rate * (1 + np.cos(np.pi * step / training.steps)) / 2
        for group in optimiser.param_groups:
            group["lr"] = rate
        chosen = _batch(own, training.batch, generator)
        scores = _forward(weights, biases, x[chosen])
        optimiser.zero_grad()
        with torch.enable_grad():
            loss(scores.transpose(1, 2), y[chosen].transpose(1, 2)).sum().backward()
        optimiser.step()
    return Layers(
        tuple(w.detach().numpy() for w in weights), tuple(b.detach().numpy() for b in biases)
    )


def _batch(rows: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Rows of each member for one step, ``(m, t)`` in and ``(m, at most size)`` out."""
    import torch

    if rows.shape[1] <= size:
        return rows
    picks = torch.randperm(rows.shape[1], generator=generator)[:size]
    return rows[:, picks]


def _forward(weights: Sequence[Tensor], biases: Sequence[Tensor], x: Tensor) -> Tensor:
    """Outputs ``(m, t, outputs)`` of features ``(m, t, inputs)``."""
    for weight, bias in zip(weights, biases, strict=False):
        x = (x @ weight + bias).relu()
    return x @ weights[-1]
