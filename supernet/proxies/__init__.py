"""Zero-cost proxies: what one batch says about an untrained or extracted network."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernet.data import DataSource, Split
from supernet.errors import InputError
from supernet.space import Architecture, SearchSpace, nearest
from supernet.supernet import Supernet

SAMPLES = 64

Scores = TypeVar("Scores")


def list_proxies() -> tuple[str, ...]:
    """List the proxies in this folder, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_"))


def load_proxy(name: str) -> ModuleType:
    """Import a proxy: a module with ``score`` and, where it adds up, ``by_layer``.

    Raises:
        InputError: No such proxy; the nearest name is in the message.
    """
    known = list_proxies()
    if name not in known:
        raise InputError(
            f"unknown proxy {name!r}{nearest(name, known)}; proxies are {', '.join(known)}"
        )
    return importlib.import_module(f"{__name__}.{name}")


@dataclass(frozen=True)
class ProxyStatistics:
    """Proxies of the subnetworks of a supernet as numbers per architecture.

    Called with positions ``(n, len(space))`` it returns ``(n, number of proxies)``, so it can be
    given to a predictor as ``statistics``. Every architecture is scored once.

    Args:
        supernet: The supernet whose subnetworks are scored, with its weights at the first call.
        batch: Inputs and targets, the same for every architecture.
        proxies: Names of the proxies, one per column.
    """

    supernet: Supernet
    batch: Split
    proxies: tuple[str, ...]
    _known: dict[bytes, tuple[float, ...]] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, positions: NDArray[np.integer]) -> NDArray[np.float64]:
        """Scores ``(n, number of proxies)``."""
        found = _score_once(self._known, self.supernet.space, positions, self._score)
        return np.array(found, dtype=np.float64).reshape(len(found), len(self.proxies))

    def _score(self, architecture: Architecture) -> tuple[float, ...]:
        model, inputs, targets = _extract_ready(self.supernet, self.batch, architecture)
        return tuple(float(load_proxy(name).score(model, inputs, targets)) for name in self.proxies)


@dataclass(frozen=True)
class LayerStatistics:
    """Proxies of every unit of every subnetwork: a zero-padded matrix per architecture.

    Called with positions ``(n, len(space))`` it returns ``(n, units, number of proxies)``, rows in
    the order of ``supernet.costs.enumeration`` and zero where a unit is not there, for
    :mod:`predictors.research.nodewise`.
    """

    supernet: Supernet
    batch: Split
    proxies: tuple[str, ...]
    _known: dict[bytes, NDArray[np.float64]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __call__(self, positions: NDArray[np.integer]) -> NDArray[np.float64]:
        """Scores ``(n, units, number of proxies)``."""
        found = _score_once(self._known, self.supernet.space, positions, self._score_units)
        shape = (len(found), len(self.supernet.units), len(self.proxies))
        return np.array(found).reshape(shape)

    def _score_units(self, architecture: Architecture) -> NDArray[np.float64]:
        units = self.supernet.units
        model, inputs, targets = _extract_ready(self.supernet, self.batch, architecture)
        matrix = np.zeros((len(units), len(self.proxies)))
        for column, name in enumerate(self.proxies):
            for layer, value in load_proxy(name).by_layer(model, inputs, targets).items():
                for place, unit in enumerate(units):
                    if layer == unit or layer.startswith(unit + "."):
                        matrix[place, column] += value
        return matrix


def _score_once(
    known: dict[bytes, Scores],
    space: SearchSpace,
    positions: NDArray[np.integer],
    score: Callable[[Architecture], Scores],
) -> list[Scores]:
    """Scores of every row of positions; those not ``known`` yet are computed and added."""
    rows = space.canonical(np.asarray(positions).reshape(-1, len(space)))
    for row, architecture in zip(rows, space.decode(rows), strict=True):
        if row.tobytes() not in known:
            known[row.tobytes()] = score(architecture)
    return [known[row.tobytes()] for row in rows]


def make_proxy_statistics(
    supernet: Supernet,
    data: DataSource | Split,
    proxies: Sequence[str],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> ProxyStatistics:
    """Make proxies into free statistics of a supernet's architectures.

    Args:
        supernet: Has initial or trained weights and runs on the device its parameters are on.
        data: Data whose training split the batch is drawn from, or a batch of your own.
        proxies: Names of modules in this folder.
        samples: Size of the batch.
        seed: Seed of the training samples that are drawn.

    Raises:
        InputError: An unknown proxy, no proxy, or fewer than 2 samples.
    """
    return ProxyStatistics(supernet, _draw_batch(data, samples, seed), _check_names(proxies))


def make_layer_statistics(
    supernet: Supernet,
    data: DataSource | Split,
    proxies: Sequence[str],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> LayerStatistics:
    """Make the same by unit of the supernet, of proxies that have a value per layer.

    Raises:
        InputError: An unknown proxy or one without layers, no proxy, or fewer than 2 samples.
    """
    for name in _check_names(proxies):
        if not hasattr(load_proxy(name), "by_layer"):
            parts = [n for n in list_proxies() if hasattr(load_proxy(n), "by_layer")]
            raise InputError(f"proxy {name!r} has no value per layer; {', '.join(parts)} have one")
    return LayerStatistics(supernet, _draw_batch(data, samples, seed), _check_names(proxies))


def pick_warm_start(
    scores: NDArray[np.floating],
    rows: NDArray[np.integer],
    count: int,
    cost: NDArray[np.floating] | None = None,
) -> NDArray[np.int16]:
    """Pick the rows to evaluate first, the best ones by a proxy (Abdelfattah et al. 2021).

    Args:
        scores: A proxy of each row ``(n,)``, larger is better.
        rows: Candidates ``(n, len(space))``.
        count: Number of rows to return, at most.
        cost: A cheap objective ``(n,)``. With it, the rows are the best of equally full bands of
            cost, so that the whole front is started, and not only its expensive end, which most
            proxies prefer.

    Returns:
        ``(at most count, len(space))``: cheapest band first, or best score first without cost.

    Raises:
        InputError: Lengths differ, or ``count`` is below 1.
    """
    lengths = {len(rows), len(scores)} | (set() if cost is None else {len(cost)})
    if len(lengths) > 1 or count < 1:
        raise InputError(
            f"a warm start needs count >= 1 and as many scores and costs as rows; got count = "
            f"{count}, {len(rows)} rows, {len(scores)} scores"
            + ("" if cost is None else f" and {len(cost)} costs")
        )
    candidates = np.asarray(rows, dtype=np.int16)
    better = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    if cost is None:
        return candidates[better[:count]]
    order = np.argsort(np.asarray(cost, dtype=np.float64), kind="stable")
    rank = np.empty(len(better), dtype=np.intp)
    rank[better] = np.arange(len(better))
    bands = np.array_split(order, min(count, len(order)))
    return candidates[[band[np.argmin(rank[band])] for band in bands]]


def _check_names(proxies: Sequence[str]) -> tuple[str, ...]:
    if not proxies:
        raise InputError(f"no proxy was named; proxies are {', '.join(list_proxies())}")
    for name in proxies:
        load_proxy(name)
    return tuple(proxies)


def _draw_batch(data: DataSource | Split, samples: int, seed: int) -> Split:
    split = data if isinstance(data, Split) else data.train
    count = min(samples, len(split))
    if count < 2:
        raise InputError(f"a proxy needs a batch of at least 2 samples; got {count}")
    rows = torch.from_numpy(np.random.default_rng(seed).permutation(len(split))[:count])
    return split.take(rows)


def _extract_ready(
    supernet: Supernet, batch: Split, architecture: Architecture
) -> tuple[torch.nn.Module, Tensor, Tensor]:
    device = next(supernet.parameters()).device
    inputs, targets = batch.batch(slice(None), device)
    return supernet.extract(architecture), supernet.prepare(inputs, architecture), targets
