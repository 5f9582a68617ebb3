"""The real quality of one subnetwork: extract, recalibrate on training data, run on a split."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from supernet.calibrate import recalibrate
from supernet.data import IMAGES, DataSource, Split, channels_last
from supernet.space import Architecture
from supernet.supernet import Supernet

CALIBRATION_SAMPLES = 1024
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Evaluation:
    """A measured quality with its 95 % interval.

    Args:
        objective: ``"accuracy"`` or ``"loss"``.
        unit: ``"fraction"`` or ``"nats/token"``.
        value: The measurement.
        low: Lower end of the 95 % interval: Wilson's for accuracy, normal for loss.
        high: Upper end.
        split: Which split was run.
        samples: Images, or windows of text.
        calibration_samples: Training samples behind the normalisation statistics; 0 when the
            network needs none.
        seconds: Extraction, calibration and run.
    """

    objective: str
    unit: str
    value: float
    low: float
    high: float
    split: str
    samples: int
    calibration_samples: int
    seconds: float


def evaluate(
    supernet: Supernet,
    architecture: Architecture,
    data: DataSource,
    split: str = "val",
    *,
    calibration_samples: int = CALIBRATION_SAMPLES,
    batch_size: int | None = None,
) -> Evaluation:
    """Evaluate a subnetwork with inherited weights.

    The result depends on nothing but the arguments: the supernet is not touched, and calibration
    uses the same training samples every time.

    Args:
        supernet: Holds the weights; runs on the device its parameters are on.
        architecture: Which subnetwork.
        data: Where splits and calibration samples come from.
        split: ``"val"`` to choose, ``"test"`` once to verify, ``"train"`` to diagnose.
        calibration_samples: Training samples for normalisation statistics.
        batch_size: Samples at a time; by default as many as fit comfortably.

    Raises:
        ValueError: Unknown split, or an architecture of another space.
    """
    began = time.perf_counter()
    model = supernet.extract(architecture)
    used = calibrate_extracted(
        model, supernet, architecture, data, calibration_samples, batch_size=batch_size
    )
    values = sample_scores(model, supernet, architecture, data, split, batch_size=batch_size)
    value = float(values.mean())
    if data.shape.task == IMAGES:
        objective, unit = "accuracy", "fraction"
        low, high = wilson(value, len(values))
    else:
        objective, unit = "loss", "nats/token"
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        half = Z95 * spread / math.sqrt(len(values))
        low, high = value - half, value + half
    return Evaluation(
        objective, unit, value, low, high, split, len(values), used, time.perf_counter() - began
    )


def sample_scores(
    model: nn.Module,
    supernet: Supernet,
    architecture: Architecture,
    data: DataSource,
    split: str,
    *,
    batch_size: int | None = None,
) -> NDArray[np.float64]:
    """What an extracted network makes of every sample of a split, in the order of the split.

    Args:
        model: ``supernet.extract(architecture)``, calibrated.
        supernet: Knows the architecture's input size.
        architecture: Of the model.
        data: Where the split comes from.
        split: ``"train"``, ``"val"`` or ``"test"``.
        batch_size: Samples at a time; by default as many as fit comfortably.

    Returns:
        Shape ``(samples,)``: 1 or 0 for a right or wrong class, or a window's mean loss in nats
        per token.

    Raises:
        ValueError: Unknown split.
    """
    scores = []
    for inputs, targets in _batches(supernet, architecture, data.split(split), batch_size):
        with torch.no_grad():
            scores.append(_scores(model, inputs, targets, data.shape.task))
    values: NDArray[np.float64] = torch.cat(scores).double().cpu().numpy()
    return values


def calibrate_extracted(
    model: nn.Module,
    supernet: Supernet,
    architecture: Architecture,
    data: DataSource,
    samples: int = CALIBRATION_SAMPLES,
    *,
    batch_size: int | None = None,
) -> int:
    """Recalibrate an extracted network on a fixed part of the training split; eval mode after.

    Args:
        model: ``supernet.extract(architecture)``; changed in place.
        supernet: Knows the architecture's input size.
        architecture: Of the model.
        data: Whose training split is used, without augmentation.
        samples: How many training samples, at most.
        batch_size: Samples at a time; the last, smaller batch is left out.

    Returns:
        How many samples were used; 0 when the network has no statistics to estimate.
    """
    model.eval()
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        return 0
    # The same rows whatever the run's seed, spread over the split.
    rows = np.random.default_rng(0).permutation(len(data.train))[:samples]
    subset = Split(*(t[torch.from_numpy(rows)] for t in (data.train.inputs, data.train.targets)))
    size = min(batch_size or comfortable_batch(supernet, architecture), len(subset))
    whole = len(subset) // size * size
    subset = Split(subset.inputs[:whole], subset.targets[:whole])
    recalibrate(model, (x for x, _ in _batches(supernet, architecture, subset, size)))
    return whole


def comfortable_batch(supernet: Supernet, architecture: Architecture) -> int:
    """Samples that can run at once in a few hundred megabytes: full batches for tiny images."""
    shape = supernet.input_shape(architecture)
    if len(shape) == 1:
        return max(1, 4096 // shape[0])
    # A mobile network's widest activations are some 30 times its input pixels.
    return max(32, min(256, (1 << 21) // math.prod(shape)))


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share observed in ``count`` trials."""
    square = Z95 * Z95
    centre = (share + square / (2 * count)) / (1 + square / count)
    spread = math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    half = Z95 / (1 + square / count) * spread
    return max(0.0, centre - half), min(1.0, centre + half)


def _batches(
    supernet: Supernet, architecture: Architecture, split: Split, batch_size: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    device = next(supernet.parameters()).device
    size = batch_size or comfortable_batch(supernet, architecture)
    for start in range(0, len(split), size):
        inputs, targets = split.batch(slice(start, start + size), device)
        yield channels_last(supernet.prepare(inputs, architecture)), targets


def _scores(model: nn.Module, inputs: Tensor, targets: Tensor, task: str) -> Tensor:
    """Per sample: 1 or 0 for right or wrong; mean loss in nats per token of a window."""
    logits = model(inputs).float()
    if task == IMAGES:
        return (logits.argmax(-1) == targets).float()
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape).mean(-1)
