"""How sure a subnetwork is of its answers, sample by sample."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernet.data import IMAGES, DataSource
from supernet.errors import InputError
from supernet.quality.evaluate import BatchCache, recalibrate_extracted, run_samples
from supernet.quantization.calibration import DEFAULT_ESTIMATOR
from supernet.space import Architecture
from supernet.supernet import Supernet


def answer_samples(
    supernet: Supernet,
    architecture: Architecture,
    data: DataSource,
    split: str,
    *,
    cache: BatchCache | None = None,
    estimator: str = DEFAULT_ESTIMATOR,
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Let a subnetwork answer, extracted and recalibrated as for any evaluation.

    Args:
        supernet: In eval mode.
        architecture: Of its space.
        data: Images.
        split: ``"val"`` or ``"test"``.
        cache: Keeps batches from one architecture to the next.
        estimator: How ranges of activations follow from their values.

    Returns:
        Whether each answer is right, and the largest of the probabilities, both ``(samples,)``.

    Raises:
        InputError: Unknown split, data that are no images, or outputs that are no numbers.
    """
    if data.shape.task != IMAGES:
        raise InputError(f"confidence is that of a class; these data are for {data.shape.task}")
    with torch.inference_mode():
        model = supernet.extract(architecture)
        recalibrate_extracted(model, supernet, architecture, data, cache=cache, estimator=estimator)

        def score(inputs: Tensor, targets: Tensor) -> Tensor:
            chances, classes = model(inputs).double().softmax(-1).max(-1)
            return torch.stack(((classes == targets).double(), chances), dim=-1)

        found = run_samples(model, supernet, architecture, data, split, score, cache=cache)
    if not np.isfinite(found).all():
        raise InputError(f"{architecture.digest} has outputs that are no numbers")
    # A sum of exponentials may round a probability just past 1.
    return found[:, 0] > 0.5, found[:, 1].clip(0.0, 1.0)
