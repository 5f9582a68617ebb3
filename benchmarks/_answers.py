"""Right and wrong answers of many subnetworks of one supernet, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from supernet.data import IMAGES, DataSource
from supernet.quality.evaluate import BatchCache, recalibrate_extracted, score_samples
from supernet.space import Architecture
from supernet.supernet import Supernet

_WINDOWS = 64


def answer(
    supernet: Supernet, networks: Sequence[Architecture], data: DataSource, splits: Sequence[str]
) -> NDArray[np.bool_]:
    """Answers of extracted networks, the statistics of each recalibrated once.

    Args:
        supernet: In evaluation mode.
        networks: Of its space.
        data: What it was trained on.
        splits: Of equally many samples.

    Returns:
        Whether answers are right, ``(networks, splits, samples)``; of a text every token is a
        sample, right where it is the one that the network thinks most probable.
    """
    images = data.shape.task == IMAGES
    found, cache = [], BatchCache()
    for architecture in networks:
        with torch.inference_mode():
            model = supernet.extract(architecture)
            recalibrate_extracted(model, supernet, architecture, data, cache=cache)
            if images:
                scores = [
                    score_samples(model, supernet, architecture, data, name, cache=cache)
                    for name in splits
                ]
                found.append([one > 0.5 for one in scores])
            else:
                found.append([_predict_tokens(model, data, name) for name in splits])
    return np.array(found)


def count_samples(data: DataSource, split: str) -> int:
    """Count what :func:`answer` answers: images, or tokens."""
    return data.split(split).targets.numel()


def group_samples(data: DataSource, split: str) -> NDArray[np.int64]:
    """Group samples that are not independent, ``(samples,)``.

    Those of one base image belong together, and the tokens of one window.
    """
    part = data.split(split)
    groups = torch.arange(len(part)) if part.groups is None else part.groups
    tokens = part.targets.numel() // len(part)
    return groups.repeat_interleave(tokens).numpy()


def _predict_tokens(model: nn.Module, data: DataSource, split: str) -> NDArray[np.bool_]:
    part = data.split(split)
    right = []
    for start in range(0, len(part), _WINDOWS):
        rows = slice(start, min(start + _WINDOWS, len(part)))
        inputs, targets = part.batch(rows, torch.device("cpu"))
        right.append((model(inputs).argmax(-1) == targets).flatten())
    return torch.cat(right).numpy()
