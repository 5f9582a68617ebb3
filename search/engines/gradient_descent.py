"""Architectures as points of a continuous space, and small networks to descend on there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from search.integer.binaries import needed_positions
from supernet.space import SearchSpace

if TYPE_CHECKING:
    from torch import Tensor, nn

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Relaxation:
    """Each choice as a point of a simplex: probabilities of its values, from logits by softmax.

    A choice counts as much as it is probable that it is active. Corners of the simplices are the
    masked one-hot code of architectures.
    """

    space: SearchSpace

    @property
    def width(self) -> int:
        """Most values of a choice: the last axis of logits and probabilities."""
        return int(self.space.cardinalities.max())

    @cached_property
    def legal(self) -> NDArray[np.bool_]:
        """Which entries ``(choices, width)`` belong to a value."""
        return np.arange(self.width)[None] < self.space.cardinalities[:, None]

    @cached_property
    def _needs(self) -> tuple[tuple[int, int, int], ...]:
        """``(choice, other, least position)``, after those that the other one needs."""
        found = {i: needed_positions(self.space, i) for i in range(len(self.space))}

        def depth(i: int) -> int:
            needed = found[i]
            return 0 if needed is None else 1 + depth(needed[0])

        ordered = sorted((i for i in found if found[i] is not None), key=depth)
        return tuple((i, *needed) for i in ordered if (needed := found[i]) is not None)

    def features(self, logits: Tensor) -> Tensor:
        """Features ``(n, choices * width)`` of logits ``(n, choices, width)``, differentiable."""
        import torch

        mask = torch.from_numpy(~self.legal)
        share = torch.softmax(logits.masked_fill(mask, -torch.inf), dim=-1)
        active = {i: torch.ones(len(logits)) for i in range(len(self.space))}
        for i, other, least in self._needs:
            active[i] = active[other] * share[:, other, least:].sum(-1)
        weights = torch.stack([active[i] for i in range(len(self.space))], dim=1)
        return (share * weights[..., None]).flatten(1)

    def corners(self, rows: NDArray[np.integer]) -> Tensor:
        """Features ``(n, choices * width)`` of architectures ``(n, choices)``."""
        import torch

        there = self.space.active(np.asarray(rows))
        code = (np.asarray(rows)[..., None] == np.arange(self.width)) & there[..., None]
        return torch.from_numpy(code.reshape(len(rows), -1).astype(np.float32))

    def logits(self, rows: NDArray[np.integer], sharpness: float) -> Tensor:
        """Logits ``(n, choices, width)`` near the corners of architectures ``(n, choices)``."""
        import torch

        code = np.asarray(rows)[..., None] == np.arange(self.width)
        return torch.from_numpy(code.astype(np.float32) * sharpness)

    def rounded(self, logits: Tensor) -> NDArray[np.int16]:
        """The canonical architectures ``(n, choices)`` of the most probable values."""
        values = np.where(self.legal[None], logits.detach().numpy(), -np.inf)
        return self.space.canonical(values.argmax(-1).astype(np.int16))


@dataclass(frozen=True)
class TeacherStudent:
    """A network with dropout that predicts, and one that has learned how unsure it is.

    Args:
        teacher: ``(n, features)`` to ``(n, quantities)``, targets scaled to the unit interval.
        student: The teacher's standard deviation under dropout, of the same shape.
    """

    teacher: nn.Module
    student: nn.Module


def train(
    features: Tensor,
    targets: Tensor,
    *,
    passes: int,
    epochs: int,
    dropout: float,
    rate: float,
) -> TeacherStudent:
    """Fit the teacher to targets, then the student to its spread under dropout.

    Call inside :func:`private_generator`, on which initial weights and dropout depend.

    Args:
        features: ``(n, features)``.
        targets: ``(n, quantities)`` in the unit interval; NaN where a value is missing.
        passes: Passes with dropout from which a spread is taken.
        epochs: Steps over all rows.
        dropout: Share of hidden units dropped.
        rate: Learning rate.
    """
    import torch
    from torch import nn

    def network(share: float, last: nn.Module) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(features.shape[1], 64),
            nn.Softplus(),
            nn.Dropout(share),
            nn.Linear(64, 32),
            nn.Softplus(),
            nn.Dropout(share),
            nn.Linear(32, targets.shape[1]),
            last,
        )

    known = torch.isfinite(targets)
    aims = torch.nan_to_num(targets)

    def fit(model: nn.Module, wanted: Tensor, where: Tensor, steps: int) -> None:
        optimiser = torch.optim.AdamW(model.parameters(), lr=rate, fused=True)
        weights = where / where.sum()
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            optimiser.zero_grad()
            loss = ((model(features) - wanted) ** 2 * weights).sum()
            loss.backward()
            optimiser.step()

    teacher = network(dropout, nn.Sigmoid()).train()
    fit(teacher, aims, known, epochs)
    with torch.no_grad():
        spread = torch.stack([teacher(features) for _ in range(passes)]).std(0)
    student = network(0.0, nn.Softplus())
    # A smooth function of a few outputs: half the steps are plenty.
    fit(student, spread, torch.ones_like(known), max(epochs // 2, 1))
    for model in (teacher, student):
        model.eval().requires_grad_(False)
    return TeacherStudent(teacher, student)


@contextmanager
def private_generator(seed: int) -> Iterator[None]:
    """torch's generator seeded inside, and as it was before outside; one thread inside.

    Networks this small gain nothing from threads, which on a busy machine wait for each other, and
    sums do not depend on their number then.
    """
    import torch

    threads = ThreadpoolController().select(user_api="openmp")
    with torch.random.fork_rng(devices=[]), threads.limit(limits=1):
        torch.manual_seed(seed)
        yield
