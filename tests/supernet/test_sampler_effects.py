"""What samplers change in small trainings, over several seeds; only what holds for each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supernet.data import DataSource
from supernet.data.source import make_image_source
from supernet.quality.evaluate import evaluate
from supernet.testing.toy_supernets import build_choice_supernet
from supernet.training import Recipe, train

PASSES = 900
BASE: dict[str, Any] = {
    "batch_size": 48,
    "warmup_steps": 10,
    "ema_decay": 0.9,
    "distill": "none",
    "augment": "none",
    "checkpoint_every": PASSES,
    "log_every": PASSES,
}


def three_digits() -> DataSource:
    """The digits 3, 8 and 9: 240 to train on, the others to look at."""
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    kept = np.isin(digits.target, [3, 8, 9])
    images = torch.tensor(digits.images[kept] / 16, dtype=torch.float32)[:, None]
    labels = torch.tensor(np.searchsorted([3, 8, 9], digits.target[kept]))
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order]
    rest = (images[240:], labels[240:])
    splits = {"train": (images[:240], labels[:240]), "val": rest, "test": rest}
    return make_image_source("three digits", splits, ("3", "8", "9"))


def accuracies(folder: Path, seed: int, **changes: Any) -> np.ndarray:
    """Inherited accuracies of all 18 architectures after a training of equal cost."""
    supernet, data = build_choice_supernet(seed), three_digits()
    train(supernet, data, Recipe(**{**BASE, "seed": seed, **changes}), folder)
    space = supernet.space
    grid = np.stack(np.meshgrid([0, 1, 2], [0, 1, 2], [0, 1], indexing="ij"), -1)
    members = space.decode(grid.reshape(-1, 3).astype(np.int16))
    found = [evaluate(supernet, a, data, calibration_samples=240).value for a in members]
    return np.array(found)


def over_seeds(folder: Path, **changes: Any) -> np.ndarray:
    """Accuracies of three seeds, shape ``(3, 18)``."""
    return np.stack([accuracies(folder / str(seed), seed, **changes) for seed in range(3)])


@pytest.mark.slow
def test_worst_up_lifts_the_worst_more_than_best_up(tmp_path: Path) -> None:
    four = {"steps": PASSES // 4, "random_architectures": 2}
    worst = over_seeds(tmp_path / "worst", sampler="worst_up", **four)
    best = over_seeds(tmp_path / "best", sampler="best_up", **four)
    assert (worst.min(1) > best.min(1)).all()
