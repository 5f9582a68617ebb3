"""Right and wrong answers of many subnetworks of one supernet, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from supernet.data import DataSource
from supernet.quality.evaluate import BatchCache, recalibrate_extracted, score_samples
from supernet.space import Architecture
from supernet.supernet import Supernet


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
        Whether answers are right, ``(networks, splits, samples)``.
    """
    found, cache = [], BatchCache()
    for architecture in networks:
        with torch.inference_mode():
            model = supernet.extract(architecture)
            recalibrate_extracted(model, supernet, architecture, data, cache=cache)
            scores = [
                score_samples(model, supernet, architecture, data, name, cache=cache)
                for name in splits
            ]
        found.append([one > 0.5 for one in scores])
    return np.array(found)
