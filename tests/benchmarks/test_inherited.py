"""The ranking benchmark of choice blocks: shared beginnings change nothing, summaries are right."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import nas_bench_macro as benchmark
from _cifar10 import cifar10
from _inherited import inherited

from supernet.data import open_data
from supernet.families import nas_bench_macro as family
from supernet.quality.evaluate import evaluate

SHEETS = Path(__file__).resolve().parents[3] / "shared/data/train/cifar10"


def test_paths_that_share_their_beginning_score_as_if_run_alone() -> None:
    data = open_data("digits")
    net = family.build(family.configure("tiny", data.shape))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    positions = net.space.sample(np.random.default_rng(0), 12)
    positions[1, :-1] = positions[0, :-1]
    found = {row: values for row, *values in inherited(net, positions, data, "test", 999, 512)}
    assert sorted(found) == list(range(12))
    for row, architecture in enumerate(net.space.decode(positions)):
        alone = evaluate(net, architecture, data, "test", calibration_samples=512)
        assert found[row][0] == pytest.approx(alone.value, abs=1e-9)
    assert len({round(accuracy, 6) for accuracy, _ in found.values()}) > 3


def _truth(count: int) -> benchmark.Truth:
    rng = np.random.default_rng(1)
    flops = rng.permutation(count) + 1
    accuracy = 60 + 0.1 * flops + rng.normal(0, 1, count)
    seeds = accuracy[:, None] + rng.normal(0, 0.1, (count, 3))
    return benchmark.Truth(np.zeros((count, 2)), seeds.mean(1), flops, 2 * flops, seeds)


def test_summary_of_a_perfect_and_a_reversed_supernet() -> None:
    truth = _truth(300)
    sample, top = benchmark.chosen_networks(truth, 300, seed=0)
    assert len(sample) == 300
    assert truth.accuracy[top].min() >= np.quantile(truth.accuracy, 0.9)
    for sign in (1.0, -1.0):
        found = {i: (0.5 + sign * a / 1000, -sign * a) for i, a in enumerate(truth.accuracy)}
        result = benchmark.summary(truth, found, sample, top)
        for kind in ("tau", "spearman", "tau_top_tenth"):
            assert result[kind]["accuracy"] == result[kind]["loss"] == sign
        assert result["tau_in_flops_slices"]["accuracy"] == [sign] * 5
        assert 0.8 < result["tau"]["flops"] == result["tau"]["params"] < 1
        reached = result["true_percent"]["of_the_inherited_best"]
        end = truth.accuracy.max() if sign > 0 else truth.accuracy.min()
        assert reached == pytest.approx(end, abs=1e-4)


def test_a_small_budget_still_covers_the_top() -> None:
    truth = _truth(300)
    sample, top = benchmark.chosen_networks(truth, 40, seed=0)
    assert len(set(sample)) == 40
    assert len(set(top)) == 10
    assert truth.accuracy[top].min() >= np.quantile(truth.accuracy, 0.9)


@pytest.mark.slow
def test_sheets_are_read_as_published() -> None:
    if not SHEETS.exists():
        pytest.skip("needs shared/data/train/cifar10 beside the repository")
    data = cifar10(SHEETS, 16)
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [45_000, 5_000, 10_000]
    assert data.shape.input == (3, 16, 16)
    assert np.allclose(data.shape.mean, (0.4914, 0.4822, 0.4465), atol=0.003)
    for split in ("train", "val", "test"):
        counts = torch.bincount(data.split(split).targets)
        assert (counts == len(data.split(split)) // 10).all()
