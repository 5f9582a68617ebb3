"""What training methods do to accuracy on digits: differences that hold over seeds."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from supernet.data import DataSource, open_data
from supernet.elastic.edits import Cut, Edit, Set, follow
from supernet.quality.evaluate import evaluate, recalibrate_extracted
from supernet.space import Architecture, Choice, SearchSpace
from supernet.supernet import InputSpec, Supernet
from supernet.training import Recipe, find_recipe, train
from supernet.training.schedules.reorganise import reorganise

WIDTHS = (4, 8, 16, 32)
BASE = replace(
    find_recipe("digits+inplace+sgd"),
    distill="none",
    augment="none",
    checkpoint_every=10**6,
    log_every=10**6,
)


@cache
def digits() -> DataSource:
    return open_data("digits")


def network(seed: int, widths: tuple[int, ...] = WIDTHS) -> Supernet:
    """Three convolutions of elastic width: small enough to be trained dozens of times."""
    widest = max(widths)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    choices, table = [], list[Edit]()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for i in range(1, 4):
            inputs = 1 if i == 1 else widest
            layers[f"conv{i}"] = nn.Conv2d(inputs, widest, 3, 1 if i == 1 else 2, 1, bias=False)
            layers[f"norm{i}"] = nn.BatchNorm2d(widest)
            layers[f"act{i}"] = nn.ReLU()
        layers["pool"], layers["flat"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        layers["out"] = nn.Linear(widest, 10)
    for i in range(1, 4):
        choices.append(Choice(f"layer{i}.width", widths, "expand"))
        width = follow(choices[-1], int)
        reader, kind = (f"conv{i + 1}", "in_channels") if i < 3 else ("out", "in_features")
        vectors = ("weight", "bias", "running_mean", "running_var")
        table += [
            Cut(f"conv{i}.weight", 0, width),
            Set(f"conv{i}", "out_channels", width),
            *(Cut(f"norm{i}.{name}", 0, width) for name in vectors),
            Set(f"norm{i}", "num_features", width),
            Cut(f"{reader}.weight", 1, width),
            Set(reader, kind, width),
        ]
    return Supernet(
        nn.Sequential(layers),
        SearchSpace(tuple(choices)),
        table,
        units=list(layers),
        inputs=InputSpec((1, 8, 8), torch.float32),
    )


def fit(seed: int, changes: Mapping[str, Any], widths: tuple[int, ...] = WIDTHS) -> Supernet:
    net = network(seed, widths)
    steps = int(changes["steps"])
    recipe: Recipe = BASE.replace({"warmup_steps": steps // 10, "seed": seed, **changes})
    with tempfile.TemporaryDirectory() as folder:
        train(net, digits(), recipe, Path(folder))
    return net


def accuracy(net: Supernet, architecture: Architecture) -> float:
    """On validation and test images together, with statistics estimated anew."""
    parts = [evaluate(net, architecture, digits(), split) for split in ("val", "test")]
    return sum(p.value * p.samples for p in parts) / sum(p.samples for p in parts)


def of_width(net: Supernet, width: int) -> Architecture:
    return net.space.architecture(dict.fromkeys(net.space.names, width))


def by_width(net: Supernet) -> list[float]:
    return [accuracy(net, of_width(net, width)) for width in WIDTHS]


def mean(seeds: int, changes: Mapping[str, Any]) -> np.ndarray:
    """Accuracy by width, averaged over trainings with different seeds."""
    found: np.ndarray = np.mean([by_width(fit(seed, changes)) for seed in range(seeds)], axis=0)
    return found


SANDWICH = {"sampler": "sandwich", "random_architectures": 2}
UNIFORM = {"sampler": "uniform", "random_architectures": 4}
PROGRESSIVE = {
    "phases": "progressive", "sampler": "uniform", "distill": "teacher", "label_share": 1.0
}  # fmt: skip


@pytest.mark.slow
def test_the_sandwich_lifts_the_smallest_at_equal_cost() -> None:
    # Four networks per step each.
    uniform = mean(3, {"steps": 100, **UNIFORM})
    sandwich = mean(3, {"steps": 100, **SANDWICH})
    assert sandwich[0] > uniform[0] + 0.04
    assert sandwich[-1] > uniform[-1] - 0.01


@pytest.mark.slow
def test_sorting_channels_makes_narrow_parts_of_a_trained_network_better() -> None:
    before, after = [], []
    for seed in range(5):
        alone = {"steps": 200, "sampler": "uniform", "random_architectures": 1}
        net = network(seed)
        net.load_state_dict(fit(seed, alone, WIDTHS[-1:]).state_dict())
        before.append(by_width(net))
        reorganise(net)
        after.append(by_width(net))
    gain = np.mean(after, axis=0) - np.mean(before, axis=0)
    assert gain[2] > 0.05  # half width
    assert gain[1] > -0.01  # a quarter
    assert abs(gain[3]) < 1e-6


@pytest.mark.slow
def test_progressive_shrinking_against_training_all_at_once_at_equal_cost() -> None:
    steps = 300
    # Forward and backward passes: 180 of 325 steps with one network, the rest with four.
    equal = round(steps * (180 + 145 * 4) / 325 / 4)
    together = mean(3, {"steps": equal, **UNIFORM})
    taught = mean(3, {"steps": steps, **PROGRESSIVE})
    alone = mean(3, {"steps": steps, **PROGRESSIVE, "distill": "none"})
    # The largest gains, and the smallest owe what they have to the frozen largest.
    assert taught[-1] > together[-1]
    assert taught[0] > alone[0] + 0.04
    assert taught[0] > together[0] - 0.05


def disagreement(net: Supernet) -> float:
    """Mean divergence, in nats, of the smallest network from the largest on held-out images."""
    logits = []
    for architecture in (net.space.largest, net.space.smallest):
        alone = net.extract(architecture)
        recalibrate_extracted(alone, net, architecture, digits())
        images = torch.cat([digits().split(split).inputs for split in ("val", "test")])
        with torch.no_grad():
            logits.append(alone(net.prepare(images, architecture)))
    large, small = (rows.log_softmax(-1) for rows in logits)
    return float((large.exp() * (large - small)).sum(-1).mean())


@pytest.mark.slow
def test_the_alpha_divergence_brings_the_smallest_closer_to_the_largest() -> None:
    distilled = {"distill": "inplace", "divergence": "alpha", "clip_value": 1.0}
    pairs = [
        (
            disagreement(fit(seed, {"steps": 500, **SANDWICH})),
            disagreement(fit(seed, {"steps": 500, **SANDWICH, **distilled})),
        )
        for seed in range(3)
    ]
    assert all(taught < labels for labels, taught in pairs)
    labels, taught = np.mean(pairs, axis=0)
    assert taught < 0.95 * labels
