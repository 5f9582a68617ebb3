"""Data importance sampling: samples with larger gradients are seen more often."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from supernet.data import DataSource
from supernet.space import Architecture
from supernet.training import distributed
from supernet.training.recipe import Recipe
from supernet.training.streams import IMPORTANCE

# The largest distance between a distribution and a corner of the simplex.
HIGHEST = math.sqrt(2)


class ImportanceRows:
    """Training samples drawn with replacement, by a bound of the norm of their gradients.

    The bound is ``||softmax(logits) - one-hot label||_2`` (PA&DA, section 3.3), for tokens its
    mean over the window, averaged over all that was said about a sample in an epoch. Epoch by
    epoch it becomes a probability ``tau * score / sum of scores + (1 - tau) / N`` with ``tau``
    rising from 0 to 1 over the training; a sample nobody has seen has the largest score there is.
    The loss is not re-weighted, as in the paper; :meth:`compute_weights` makes it unbiased.

    Args:
        count: Samples in the training split, ``N``.
        steps: Steps of the whole training.
        seed: Seed of the rows that are drawn.
    """

    def __init__(self, count: int, steps: int, seed: int = 0) -> None:
        self.count, self.steps, self.seed = count, steps, seed
        self.epoch = 0
        self.scores = np.full(count, HIGHEST)
        self.sums = np.zeros(count)
        self.times = np.zeros(count)
        self.probabilities = np.full(count, 1 / count)
        self._bounds = np.cumsum(self.probabilities)
        self._pending: list[tuple[Tensor, Tensor]] = []

    def choose(self, step: int, batch_size: int) -> NDArray[np.int64]:
        """Choose rows ``(batch_size,)`` of the training split by seed, step and scores.

        The first step of an epoch turns what was seen in the one before into probabilities.
        """
        epoch = step // math.ceil(self.count / batch_size)
        if epoch != self.epoch:
            self.epoch = epoch
            self._end_epoch(min(1.0, step / self.steps))
        draws = np.random.default_rng([self.seed, step, IMPORTANCE]).random(batch_size)
        found = np.searchsorted(self._bounds, draws * self._bounds[-1], side="right")
        return np.minimum(found, self.count - 1)

    def compute_weights(self, rows: NDArray[np.integer], most: float = 10.0) -> NDArray[np.float64]:
        """Compute factors ``1 / (N p)`` of losses, shape as ``rows``, at most ``most``.

        The mean of losses multiplied by them has the expectation of a plain epoch's.
        """
        return np.minimum(1 / (self.count * self.probabilities[rows]), most)

    def observe(
        self,
        step: int,
        rows: NDArray[np.integer],
        architecture: Architecture,
        logits: Tensor,
        targets: Tensor,
    ) -> None:
        """Take in the logits ``(N, ..., classes)`` of samples and their labels ``(N, ...)``."""
        error = torch.softmax(logits.detach().float(), dim=-1)
        labels = targets.unsqueeze(-1)
        error = error.scatter_add(-1, labels, -torch.ones_like(labels, dtype=error.dtype))
        scores = error.norm(dim=-1).flatten(1).mean(1) if targets.ndim > 1 else error.norm(dim=-1)
        self._pending.append((torch.from_numpy(np.asarray(rows)).to(scores.device), scores))

    def learn(self, step: int, losses: Mapping[Architecture, float]) -> None:
        """Put together what all ranks have seen in a step."""
        if not self._pending:
            return
        rows = _gather_ranks(torch.cat([rows for rows, _ in self._pending])).cpu().numpy()
        scores = _gather_ranks(torch.cat([scores for _, scores in self._pending]))
        self._pending.clear()
        np.add.at(self.sums, rows, scores.double().cpu().numpy())
        np.add.at(self.times, rows, 1.0)

    def state_dict(self) -> dict[str, Tensor]:
        """Scores and probabilities of all samples, and the epoch they belong to."""
        state = {name: torch.from_numpy(getattr(self, name).copy()) for name in _STATE}
        return {**state, "epoch": torch.tensor([self.epoch])}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where :meth:`state_dict` was called."""
        for name in _STATE:
            setattr(self, name, state[name].cpu().numpy().copy())
        self.epoch = int(state["epoch"])
        self._bounds = np.cumsum(self.probabilities)
        self._pending.clear()

    def _end_epoch(self, tau: float) -> None:
        seen = self.times > 0
        self.scores = np.where(seen, self.sums / np.maximum(self.times, 1), self.scores)
        self.sums, self.times = np.zeros(self.count), np.zeros(self.count)
        total = self.scores.sum()
        # A network that is right about everything leaves nothing to choose by.
        by_score = self.scores / total if total > 0 else np.full(self.count, 1 / self.count)
        self.probabilities = tau * by_score + (1 - tau) / self.count
        self._bounds = np.cumsum(self.probabilities)


_STATE = ("scores", "sums", "times", "probabilities")


def make_rows(data: DataSource, recipe: Recipe, steps: int) -> ImportanceRows:
    """Make the rows of a recipe."""
    return ImportanceRows(len(data.train), steps, recipe.seed)


def _gather_ranks(values: Tensor) -> Tensor:
    """The tensors of all ranks, equally long, one after the other."""
    _, size = distributed.get_world()
    if size == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(size)]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)
