"""Probability shift: costs whose networks still improve are trained more often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernet.costs.mac_bins import MacBins, cut_into_mac_bins
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training.method import Score
from supernet.training.recipe import Recipe
from supernet.training.samplers._order import list_distinct

SUMMARY = "Random architectures, more often from the costs that still improve"
LARGEST_FIRST = False


class Shift:
    """Buckets of MACs, drawn by how much their networks have lately improved.

    Each bucket keeps a smoothed loss, and a smoothed gain: by which share that loss fell when the
    bucket was last trained, 0 when it rose. A bucket is drawn with probability
    ``(1 - floor) * softmax(gain / (temperature * mean gain)) + floor / buckets``, an architecture
    inside it like the candidates of :class:`MacBins`. The idea is ShiftNAS's (section 3.2), whose
    formulas and code are not public; these are ours, with tables instead of its trained generator.
    Gains are compared with their mean because they shrink by orders of magnitude as training goes
    on, and a fixed temperature would soon see none.

    Args:
        bins: The buckets.
        seed: Seed of the buckets and architectures that are drawn.
        count: Architectures per step.
        floor: Share that is always spread evenly.
        temperature: Larger values shift less.
        smoothing: Weight of the past in smoothed losses and gains.
    """

    def __init__(
        self,
        bins: MacBins,
        seed: int = 0,
        count: int = 1,
        *,
        floor: float = 0.2,
        temperature: float = 1.0,
        smoothing: float = 0.9,
    ) -> None:
        self.bins = bins
        self.seed, self.count = seed, count
        self.floor, self.temperature, self.smoothing = floor, temperature, smoothing
        # A loss of 0 marks a bucket that has not been trained yet.
        self.losses = np.zeros(len(bins))
        self.gains = np.zeros(len(bins))

    def compute_probabilities(self) -> NDArray[np.float64]:
        """Compute those of the buckets, shape ``(buckets,)``."""
        buckets = len(self.bins)
        # Of a bucket nobody has seen, the best is expected.
        gains = np.where(self.losses > 0, self.gains, self.gains.max())
        mean = gains.mean()
        if mean == 0:
            return np.full(buckets, 1 / buckets)
        scaled = gains / (self.temperature * mean)
        weights = np.exp(scaled - scaled.max())
        result: NDArray[np.float64] = (1 - self.floor) * weights / weights.sum()
        return result + self.floor / buckets

    def draw(self, step: int, score: Score) -> tuple[Architecture, ...]:
        """A function of seed, step and the losses so far; fewer when one is drawn twice."""
        rng = np.random.default_rng([self.seed, step])
        buckets = rng.choice(len(self.bins), size=self.count, p=self.compute_probabilities())
        drawn = [self.bins.draw(rng, int(bucket), 1) for bucket in buckets]
        return list_distinct(self.bins.space, np.concatenate(drawn))

    def learn(self, step: int, losses: Mapping[Architecture, float]) -> None:
        """Take in the losses of a step."""
        architectures = [*losses]
        places = self.bins.find_bins(self.bins.space.encode(architectures))
        by_bucket: dict[int, list[float]] = defaultdict(list)
        for architecture, bucket in zip(architectures, places.tolist(), strict=True):
            if 0 <= bucket < len(self.bins):
                by_bucket[bucket].append(losses[architecture])
        for bucket, values in by_bucket.items():
            new, before = sum(values) / len(values), self.losses[bucket]
            if before == 0:
                self.losses[bucket] = new
                continue
            after = self.smoothing * before + (1 - self.smoothing) * new
            gain = max(0.0, before - after) / max(after, 1e-12)
            self.losses[bucket] = after
            self.gains[bucket] = self.smoothing * self.gains[bucket] + (1 - self.smoothing) * gain

    def state_dict(self) -> dict[str, Tensor]:
        """Losses in nats and gains of the buckets."""
        state = {"losses": self.losses, "gains": self.gains}
        return {name: torch.from_numpy(values.copy()) for name, values in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where :meth:`state_dict` was called."""
        self.losses = state["losses"].cpu().numpy().copy()
        self.gains = state["gains"].cpu().numpy().copy()


def build(supernet: Supernet, recipe: Recipe, steps: int) -> Shift:
    """Build the sampler of a recipe; InputError when all architectures cost the same."""
    count = max(1, recipe.random_architectures)
    return Shift(cut_into_mac_bins(supernet.cost_model(), seed=recipe.seed), recipe.seed, count)


def count(recipe: Recipe) -> int:
    """Count the architectures of a step."""
    return recipe.random_architectures
