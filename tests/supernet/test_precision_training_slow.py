"""What training in several precisions does on digits: differences that hold over seeds."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supernet.data import DataSource, open_data
from supernet.families import resnet
from supernet.precision.elastic import list_precision_choices, make_precision_elastic
from supernet.precision.steps import add_learned_steps
from supernet.quality.evaluate import evaluate
from supernet.quantization.distribution import kurtosis
from supernet.quantization.formats import parse_policy
from supernet.supernet import Supernet
from supernet.training import find_recipe, train
from supernet.training.standalone import make_standalone_recipe
from supernet.training.weight_distribution import list_quantized_weights

PRECISIONS = ("w2a8", "w3a8", "w4a8", "int8")
SEEDS = (0, 1)
RECIPE = find_recipe("digits+eqnet+sgd").replace(
    {"weight_distribution": 0.0, "checkpoint_every": 10**9, "log_every": 10**9}
)
VARIANTS: dict[str, dict[str, Any]] = {
    "elastic": {},
    "minmax": {"quantizer": "minmax"},
    "labels": {"distill": "none"},
    "even": {"weight_distribution": 1.0},
}


@dataclass(frozen=True)
class Result:
    """Accuracy in per cent by precision, and the mean kurtosis of weights."""

    accuracy: dict[str, float]
    kurtosis: float


@cache
def digits() -> DataSource:
    return open_data("digits")


def build(seed: int) -> Supernet:
    config = resnet.configure("tiny", digits().shape)
    stages = {"stem_width": 16, "widths": ((16,), (32,)), "depths": ((1,), (1,))}
    return resnet.build(replace(config, **stages, seed=seed))


@cache
def fit_float(seed: int) -> dict[str, Tensor]:
    supernet = build(seed)
    recipe = RECIPE.replace({"steps": 300, "warmup_steps": 30, "seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        train(supernet, digits(), make_standalone_recipe(recipe, {}, 0), Path(folder))
    return dict(supernet.state_dict())


@cache
def fit(seed: int, variant: str) -> Result:
    """Go on from the float network's weights, as with a run that is there already."""
    plain = build(seed)
    plain.load_state_dict(fit_float(seed))
    shorter = {"steps": 200, "warmup_steps": 20, "learning_rate": 0.04, "seed": seed}
    recipe = RECIPE.replace({**shorter, **VARIANTS[variant]})
    supernet = make_precision_elastic(plain, parse_policy(",".join(PRECISIONS)))
    supernet = add_learned_steps(supernet, digits(), seed, recipe.quantizer)
    with tempfile.TemporaryDirectory() as folder:
        train(supernet, digits(), recipe, Path(folder))
    weights = list_quantized_weights(supernet)[1:]
    return Result(
        {precision: measure(supernet, precision) for precision in PRECISIONS},
        float(torch.stack([kurtosis(weight.detach()) for weight in weights]).mean()),
    )


def measure(supernet: Supernet, precision: str) -> float:
    values = supernet.space.largest.to_dict()
    values |= {c.name: precision for c in list_precision_choices(supernet.space)}
    architecture = supernet.space.architecture(values)
    runs = [evaluate(supernet, architecture, digits(), split) for split in ("val", "test")]
    return 100 * sum(r.value * r.samples for r in runs) / sum(r.samples for r in runs)


def mean(variant: str, *precisions: str) -> float:
    found = [fit(seed, variant).accuracy[p] for seed in SEEDS for p in precisions]
    return float(np.mean(found))


@pytest.mark.slow
def test_trained_steps_beat_extremes_at_few_bits() -> None:
    for seed in SEEDS:
        assert fit(seed, "elastic").accuracy["w2a8"] > fit(seed, "minmax").accuracy["w2a8"]
    assert mean("elastic", "w2a8", "w3a8") > mean("minmax", "w2a8", "w3a8") + 0.5


@pytest.mark.slow
def test_guidance_beats_labels_at_the_fewest_bits() -> None:
    assert mean("elastic", "w2a8") > mean("labels", "w2a8")


@pytest.mark.slow
def test_the_penalty_brings_kurtosis_towards_that_of_a_uniform_distribution() -> None:
    for seed in SEEDS:
        plain, even = fit(seed, "elastic").kurtosis, fit(seed, "even").kurtosis
        assert abs(even - 1.8) < 0.85 * abs(plain - 1.8)
