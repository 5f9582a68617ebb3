"""The built-in data: 1,797 handwritten digits of 8x8 pixels that ship with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from .source import DataSource, make_image_source, split_stratified


def open_digits() -> DataSource:
    """Digits, split 70/15/15 by class; the split is the same in every run."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy((digits.images / 16).astype(np.float32))[:, None]
    targets = torch.from_numpy(digits.target.astype(np.int64))
    parts = split_stratified(digits.target, {"train": 0.70, "val": 0.15, "test": 0.15}, seed=0)
    return make_image_source(
        "digits",
        {name: (images[rows], targets[rows]) for name, rows in parts.items()},
        tuple(str(digit) for digit in range(10)),
        augmentation="affine",
    )
