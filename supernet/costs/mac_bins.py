"""A space cut into bins of multiply-accumulates, and architectures drawn from one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.costs.cost_model import CostModel
from supernet.errors import InputError
from supernet.space import Positions, SearchSpace

# Architectures the histogram and the tables are counted from.
SAMPLES = 2**14
# Rounds of candidates before the nearest one is good enough.
ROUNDS = 8
ROUND_SIZE = 128

Macs = Callable[[Positions], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class MacBins:
    """Bins of multiply-accumulates (MACs), what is in them and how to draw from them.

    Args:
        space: The space that is cut.
        macs: MACs of positions ``(n, len(space))``, shape ``(n,)``.
        edges: Bounds of the bins in MACs, rising, shape ``(bins + 1,)``; a MAC count belongs to
            the bin whose lower edge it reaches. Outer edges may be infinite.
        prior: Share of the space in each bin, shape ``(bins,)``.
        tables: Probability of each option of each choice given the bin and that the choice
            matters, shape ``(bins, len(space), most options)``.
    """

    space: SearchSpace
    macs: Macs
    edges: NDArray[np.float64]
    prior: NDArray[np.float64]
    tables: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.prior)

    def find_bins(self, positions: Positions) -> NDArray[np.intp]:
        """Find the bin of each architecture, shape ``(n,)``; -1 and ``len(bins)`` lie outside."""
        return np.searchsorted(self.edges, self.macs(positions), side="right") - 1

    def draw(self, rng: np.random.Generator, bin: int, count: int) -> Positions:
        """Different architectures of a bin, every choice from its table, others rejected.

        Choices are independent given the bin, as in AttentiveNAS (section 3.2), so this is not
        uniform within the bin.

        Args:
            rng: Source of randomness.
            bin: Index of the bin.
            count: Number of architectures.

        Returns:
            ``(n, len(space))`` with ``1 <= n <= count``: fewer when no more were found, the
            nearest one when none was.
        """
        return self._reject(lambda size: self._propose(rng, bin, size), bin, count)

    def draw_uniform(self, rng: np.random.Generator, bin: int, count: int) -> Positions:
        """Different architectures of a bin, uniform within it; otherwise like :meth:`draw`."""
        return self._reject(lambda size: self.space.sample(rng, size), bin, count)

    def _propose(self, rng: np.random.Generator, bin: int, size: int) -> Positions:
        bounds = np.cumsum(self.tables[bin], axis=1)
        draws = rng.random((size, len(self.space)))
        positions = (draws[:, :, None] >= bounds).sum(axis=2)
        # Cumulated probabilities may end below one by a rounding error.
        return self.space.canonical(np.minimum(positions, self.space.cardinalities - 1))

    def _reject(self, propose: Callable[[int], Positions], bin: int, count: int) -> Positions:
        found: dict[bytes, NDArray[np.int16]] = {}
        nearest, gap = None, np.inf
        for _ in range(ROUNDS):
            positions = propose(ROUND_SIZE)
            macs = self.macs(positions)
            inside = np.searchsorted(self.edges, macs, side="right") - 1 == bin
            known = len(found)
            for row in positions[inside]:
                found.setdefault(row.tobytes(), row)
                if len(found) == count:
                    return np.stack([*found.values()])
            if known and known == len(found):
                break  # A round without a new one: the bin hardly holds more.
            low, high = self.edges[bin], self.edges[bin + 1]
            distance = np.maximum(low - macs, macs - high)
            best = int(distance.argmin())
            if nearest is None or distance[best] < gap:
                nearest, gap = positions[best], distance[best]
        if found:
            return np.stack([*found.values()])
        assert nearest is not None
        return nearest[None]


def cut_into_mac_bins(
    cost_model: CostModel,
    bins: int = 10,
    *,
    least: float | None = None,
    most: float | None = None,
    seed: int = 0,
) -> MacBins:
    """Cut a space into bins of equal width.

    Counted from 16,384 uniform architectures. Bins in which none of them lies are left out, their
    place joins the bin below.

    Args:
        cost_model: What the architectures of the space cost.
        bins: Number of bins, at most.
        least: Fewest MACs; by default the bins begin at the first percentile, and the first one
            also holds everything below.
        most: Most MACs; by default the bins end at the last percentile, and the last one also holds
        seed: Seed of the architectures that are counted.

    Raises:
        InputError: All architectures cost the same, none lies within the bounds, the bounds
            contradict each other, or there are no bins.
    """
    if bins < 1:
        raise InputError(f"bins = {bins} is impossible; it must be at least 1")
    space, macs = cost_model.space, cost_model.macs
    positions = space.sample(np.random.default_rng([seed, SAMPLES]), SAMPLES)
    costs = macs(positions)
    if costs.min() == costs.max():
        raise InputError(
            f"all architectures of this space have {costs[0]:,.0f} MACs, so a sampler cannot tell "
            "them apart by cost; use sampler = 'uniform'"
        )
    low = np.quantile(costs, 0.01) if least is None else least
    high = np.quantile(costs, 0.99) if most is None else most
    if least is not None and most is not None and most < least:
        raise InputError(f"most = {most:,.0f} MACs is below least = {least:,.0f} MACs")
    if high <= low:
        # Nearly all architectures cost the same: the few others deserve bins too.
        low, high = costs.min(), costs.max()
    edges = np.linspace(low, high, bins + 1)
    edges[0] = -np.inf if least is None else least
    edges[-1] = np.inf if most is None else np.nextafter(most, np.inf)
    place = np.searchsorted(edges, costs, side="right") - 1
    inside = (place >= 0) & (place < bins)
    if not inside.any():
        raise InputError(
            f"no architecture was found between {low:,.0f} and {high:,.0f} MACs; the space has "
            f"{costs.min():,.0f} to {costs.max():,.0f}"
        )
    kept, place = np.unique(place[inside], return_inverse=True)
    positions = positions[inside]
    prior = np.bincount(place) / len(place)
    edges = np.append(edges[kept], edges[kept[-1] + 1])
    return MacBins(space, macs, edges, prior, _count_tables(space, positions, place, len(kept)))


def _count_tables(
    space: SearchSpace, positions: Positions, place: NDArray[np.intp], bins: int
) -> NDArray[np.float64]:
    """How often each option occurs in each bin among the architectures where it matters."""
    counts = np.zeros((bins, len(space), int(space.cardinalities.max())))
    active = space.active(positions)
    for column in range(len(space)):
        rows = active[:, column]
        np.add.at(counts[:, column], (place[rows], positions[rows, column]), 1.0)
    legal = np.arange(counts.shape[2]) < space.cardinalities[:, None]
    total = counts.sum(axis=2, keepdims=True)
    return np.where(total > 0, counts, legal) / np.where(
        total > 0, total, space.cardinalities[:, None]
    )
