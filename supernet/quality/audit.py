"""What a ranking by inherited weights is worth: networks to train alone, and checks of weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.data import IMAGES, DataSource, lay_channels_last
from supernet.elastic.edits import Pick
from supernet.errors import InputError
from supernet.quality.evaluate import (
    CALIBRATION_SAMPLES,
    choose_batch_size,
    recalibrate_extracted,
    score_samples,
)
from supernet.quality.sampling_error import Z_TWO_SIDED_95, compute_standard_error
from supernet.space import Architecture, Positions, SearchSpace
from supernet.supernet import Supernet

POOL, ROUNDS = 4096, 64
LARGEST_CURVE = 64
OUTPUT_SAMPLES = 256


@dataclass(frozen=True)
class Violation:
    """A network that contains another one and is worse, by more than the noise of the samples.

    Args:
        smaller: The network inside.
        larger: The network around it, no choice of which is smaller.
        drop: Quality of the smaller less that of the larger; positive.
        error: Standard error of ``drop`` over the samples, both having seen the same ones; over
            groups of samples where there are some.
    """

    smaller: Architecture
    larger: Architecture
    drop: float
    error: float


@dataclass(frozen=True)
class Effect:
    """What one choice changes when everything else stays.

    Args:
        name: The choice.
        lower: The network with the earlier value.
        higher: The same network with a later value of the choice.
        change: Quality of ``higher`` less that of ``lower``.
        output_change: Probability that moves to another class (or token), mean over samples.
        identical: Whether the outputs are the same bit for bit.
    """

    name: str
    lower: Architecture
    higher: Architecture
    change: float
    output_change: float
    identical: bool


@dataclass(frozen=True)
class Curve:
    """Quality against the number of batches behind the normalisation statistics.

    Args:
        batch_size: Samples in a batch.
        batches: Numbers of batches; 0 stands for the statistics of the supernet itself.
        values: Mean accuracy or loss with each.
        settled: The least number from which on no quality differs from the last by more than the
            noise of the samples; ``None`` when only the last does.
    """

    batch_size: int
    batches: tuple[int, ...]
    values: tuple[float, ...]
    settled: int | None


def sample_across_costs(
    space: SearchSpace,
    cost: Callable[[Positions], NDArray[np.float64]],
    count: int,
    rng: np.random.Generator,
) -> list[Architecture]:
    """Draw distinct architectures from cheapest to dearest: both ends, and one per part between.

    Uniform sampling would return networks of nearly one cost, which no ranking of sizes could
    get wrong or right.

    Args:
        space: The space to draw from.
        cost: Gives the costs ``(n,)`` of populations ``(n, len(space))``.
        count: Number of architectures, at least 2.
        rng: Source of randomness.

    Returns:
        The smallest and the largest of the space and ``count - 2`` at random, one from each of as
        many equal parts of the cost range (the nearest where a part is empty), by cost.

    Raises:
        InputError: The space has fewer than ``count`` architectures, or hardly more.
    """
    if count > space.size:
        raise InputError(
            f"{count} networks are more than the search space has ({space.size}); ask for fewer"
        )
    pool = _draw_pool(space, count, rng)
    if count > len(pool):
        raise InputError(
            f"{count} networks are more than were found ({len(pool)} of {space.size}); "
            "ask for fewer"
        )
    costs = np.asarray(cost(pool), dtype=np.float64)
    chosen = [0] if space.smallest == space.largest else [0, 1]
    edges = np.linspace(costs.min(), costs.max(), count - 1)
    free = np.ones(len(pool), dtype=bool)
    free[chosen] = False
    for low, high in pairwise(edges):
        inside = np.flatnonzero(free & (costs >= low) & (costs <= high))
        if not len(inside):
            distance = np.where(free, np.abs(costs - (low + high) / 2), np.inf)
            inside = np.array([int(distance.argmin())])
        chosen.append(int(rng.choice(inside)))
        free[chosen[-1]] = False
    return space.decode(pool[sorted(chosen, key=lambda i: (costs[i], i))])


def _draw_pool(space: SearchSpace, count: int, rng: np.random.Generator) -> Positions:
    """Distinct members, ``(n, len(space))``: both ends first, then as many draws as it takes."""
    pool = space.encode([space.smallest, space.largest])
    for _ in range(ROUNDS):
        # A random tilt for each draw reaches the small and the large end too.
        tilt = np.exp(rng.normal(size=(POOL, 1)))
        drawn = (rng.random((POOL, len(space))) ** tilt * space.cardinalities).astype(np.int16)
        drawn = space.canonical(np.minimum(drawn, space.cardinalities - 1))
        pool = np.concatenate([pool, drawn])
        _, first = np.unique(pool, axis=0, return_index=True)
        pool = pool[np.sort(first)]
        if len(pool) >= count:
            break
    return pool


def draw_chain(
    space: SearchSpace,
    rng: np.random.Generator,
    length: int,
    fixed: Collection[str] = (),
) -> list[Architecture]:
    """Draw distinct architectures each of which contains the one before it.

    Args:
        space: The space to draw from.
        rng: Source of randomness.
        length: Number of draws; fewer come back when some are the same network.
        fixed: Choices whose values have no order (operations); all members share a random one.
    """
    draws = rng.integers(0, space.cardinalities, (length, len(space)))
    columns = [space.index(name) for name in fixed]
    draws[:, columns] = draws[:1, columns]
    # Values that rise in every choice stay so when choices that do not matter are set to 0.
    rising = np.sort(draws, axis=0)
    return list(dict.fromkeys(space.decode(rising)))


def find_unordered_choices(supernet: Supernet) -> frozenset[str]:
    """Find choices whose later values do not contain earlier ones: they swap modules."""
    rows = (row for row in supernet.edits if isinstance(row, Pick))
    return frozenset(name for row in rows for name in row.child.choices)


def find_violations(
    members: Sequence[Architecture],
    qualities: Sequence[NDArray[np.float64]],
    groups: Tensor | None = None,
) -> tuple[int, list[Violation]]:
    """Find pairs of a chain in which the larger network is worse by more than noise.

    A larger network can do all a smaller one can, so one that is worse has weights that sharing
    has hurt.

    Args:
        members: A chain (:func:`draw_chain`), smallest first.
        qualities: The quality of each member on every sample, higher is better, ``(samples,)``,
            the same samples for all.
        groups: Group of each sample, ``(samples,)``; ``None`` where all are independent.

    Returns:
        How many pairs were compared, and the violations: the mean paired difference is above 1.96
        standard errors.
    """
    found = []
    for j in range(len(members)):
        for i in range(j):
            difference = np.asarray(qualities[i], dtype=np.float64) - qualities[j]
            drop, error = float(difference.mean()), compute_standard_error(difference, groups)
            if drop > Z_TWO_SIDED_95 * error and drop > 0:
                found.append(Violation(members[i], members[j], drop, error))
    return len(members) * (len(members) - 1) // 2, found


def pair_corners(space: SearchSpace, name: str) -> list[tuple[Architecture, Architecture]]:
    """Pair networks at both ends of the space that are nested and differ in one choice.

    Random chains rarely meet one choice at its last value while all others stand at their first,
    where a network whose parts never trained together is most likely to be worse.

    Args:
        space: The space to draw from.
        name: A choice with at least two values.

    Returns:
        ``(smallest, smallest with the choice raised)`` and ``(largest with it lowered, largest)``;
        choices it depends on are raised as far as it needs them.
    """
    column = space.index(name)
    raised = np.zeros(len(space), dtype=np.int16)
    _activate(space, name, raised)
    base = raised.copy()
    raised[column] = space.cardinalities[column] - 1
    largest = space.cardinalities - 1
    lowered = largest.copy()
    lowered[column] = 0
    low, high, less, most = space.decode(np.stack([base, raised, lowered, largest]))
    return [(low, high), (less, most)]


def draw_pair(
    space: SearchSpace, name: str, rng: np.random.Generator
) -> tuple[Architecture, Architecture]:
    """Draw two networks that differ in one choice alone, everything else at random.

    Choices that depend on it come and go with it. The choice matters in both networks.

    Args:
        space: The space to draw from.
        name: A choice with at least two values.
        rng: Source of randomness.

    Returns:
        The network with the earlier value, and the one with the later.
    """
    row = space.sample(rng, 1)[0]
    column = space.index(name)
    _activate(space, name, row)
    rows = np.stack([row, row])
    rows[:, column] = np.sort(rng.choice(len(space.choices[column].values), 2, replace=False))
    lower, higher = space.decode(rows)
    return lower, higher


def _activate(space: SearchSpace, name: str, row: Positions) -> None:
    """Raise what a choice depends on until the choice matters, in place; ``(len(space),)``."""
    above = space.choice(name).needs
    while above is not None:
        parent = space.choice(above[0])
        at = space.index(parent.name)
        row[at] = max(int(row[at]), parent.position(above[1]))
        above = parent.needs


def measure_effect(
    supernet: Supernet,
    name: str,
    pair: tuple[Architecture, Architecture],
    data: DataSource,
    split: str,
) -> Effect:
    """Run both networks of a probe on a split and compare what they say.

    Args:
        supernet: Holds the weights.
        name: The choice that differs.
        pair: What :func:`draw_pair` returned.
        data: Where the split and calibration samples come from.
        split: Name of the split.
    """
    means, outputs = [], []
    for architecture in pair:
        model = extract_recalibrated(supernet, architecture, data)
        means.append(float(measure_quality(supernet, architecture, data, split, model).mean()))
        outputs.append(_run_outputs(model, supernet, architecture, data, split))
    first, second = (logits.softmax(-1) for logits in outputs)
    moved = float((first - second).abs().sum(-1).mean()) / 2
    identical = bool(torch.equal(outputs[0], outputs[1]))
    return Effect(name, *pair, means[1] - means[0], moved, identical)


def extract_recalibrated(
    supernet: Supernet, architecture: Architecture, data: DataSource
) -> nn.Module:
    """Extract a network with recalibrated statistics, as :func:`evaluate` runs it."""
    model = supernet.extract(architecture)
    recalibrate_extracted(model, supernet, architecture, data, CALIBRATION_SAMPLES)
    return model


def measure_quality(
    supernet: Supernet,
    architecture: Architecture,
    data: DataSource,
    split: str,
    model: nn.Module | None = None,
) -> NDArray[np.float64]:
    """Measure a network on each sample of a split, higher is better; shape ``(samples,)``.

    Args:
        supernet: Holds the weights.
        architecture: The network that is meant.
        data: Where the split comes from.
        split: Name of the split.
        model: The network, when it is at hand; extracted and recalibrated otherwise.

    Returns:
        1 or 0 for a right or wrong class, or the loss in nats per token with its sign turned.
    """
    model = extract_recalibrated(supernet, architecture, data) if model is None else model
    return orient_scores(score_samples(model, supernet, architecture, data, split), data)


def orient_scores(values: NDArray[np.float64], data: DataSource) -> NDArray[np.float64]:
    """Turn the sign of losses, and leave accuracies, so that higher is better."""
    return values if data.shape.task == IMAGES else -values


def measure_recalibration(
    supernet: Supernet,
    architecture: Architecture,
    data: DataSource,
    split: str,
    batch_size: int = 64,
) -> Curve | None:
    """Measure how the quality of a network depends on the batches it was recalibrated on.

    Args:
        supernet: Holds the weights.
        architecture: The network that is meant.
        data: Where the split and calibration samples come from.
        split: Name of the split.
        batch_size: Samples in a batch, at most.

    Returns:
        The curve over 0, 1, 2, 4, ... batches, as far as the training split or 64 batches go;
        ``None`` for a network without batch normalisation.
    """
    size = min(batch_size, choose_batch_size(supernet, architecture), len(data.train))
    whole = min(len(data.train) // size, LARGEST_CURVE)
    counts = [0, *(2**i for i in range(whole.bit_length()))]
    scores = []
    for count in counts:
        model = supernet.extract(architecture).eval()
        if not any(isinstance(m, _BatchNorm) for m in model.modules()):
            return None
        if count:
            recalibrate_extracted(
                model, supernet, architecture, data, count * size, batch_size=size
            )
        scores.append(score_samples(model, supernet, architecture, data, split))
    values = tuple(float(s.mean()) for s in scores)
    groups = data.split(split).groups
    return Curve(size, tuple(counts), values, _find_settled(counts, scores, groups))


def _find_settled(
    counts: Sequence[int], scores: Sequence[NDArray[np.float64]], groups: Tensor | None = None
) -> int | None:
    found = None
    for count, values in zip(counts[-2::-1], scores[-2::-1], strict=True):
        difference = values - scores[-1]
        error = compute_standard_error(difference, groups)
        if abs(float(difference.mean())) > Z_TWO_SIDED_95 * error:
            break
        found = count
    return found


def _run_outputs(
    model: nn.Module, supernet: Supernet, architecture: Architecture, data: DataSource, split: str
) -> Tensor:
    """Logits of the first samples of a split, on the CPU."""
    size = min(OUTPUT_SAMPLES, choose_batch_size(supernet, architecture))
    device = next(supernet.parameters()).device
    inputs, _ = data.split(split).batch(slice(0, size), device)
    with torch.no_grad():
        logits: Tensor = model(lay_channels_last(supernet.prepare(inputs, architecture)))
    return logits.float().cpu()
