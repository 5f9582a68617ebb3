"""What accuracy is worth where classes are not equally frequent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def find_largest_class(targets: Tensor) -> tuple[int, float]:
    """Find the most frequent class of labels ``(N,)`` and its share of them.

    Always answering with it has that share as its accuracy.
    """
    counts = np.bincount(targets.numpy())
    largest = int(counts.argmax())
    return largest, float(counts[largest] / counts.sum())


def compute_balanced_accuracy(scores: NDArray[np.floating], targets: Tensor) -> float:
    """Compute the mean over classes of the share of their samples that are right.

    Every class counts the same, however frequent it is: always answering with one of ``k`` classes
    gives ``1 / k`` (Brodersen et al. 2010, "The Balanced Accuracy and Its Posterior Distribution").

    Args:
        scores: 1 or 0 for a right or wrong class of each sample, ``(N,)``.
        targets: The classes, ``(N,)``; those without a sample do not count.
    """
    classes = targets.numpy()
    counts = np.bincount(classes)
    right = np.bincount(classes, weights=scores)
    return float((right[counts > 0] / counts[counts > 0]).mean())
