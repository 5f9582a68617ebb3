"""How long candidates have to be trained before their order is that of full training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from predictors.scores import spearman
from supernet.errors import InputError

THRESHOLD = 0.92


def find_sufficient_epoch(curves: NDArray[np.floating], threshold: float = THRESHOLD) -> int:
    """Find the first epoch from which on candidates rank as they do at the end.

    Fully trained pilots say where every other training may stop (Dai et al. 2021, "FBNetV3",
    section 3.2, which uses a rank correlation of 0.92).

    Args:
        curves: Quality after each epoch of a few pilots, ``(pilots, epochs)``.
        threshold: Spearman correlation with the last epoch that counts as the same order.

    Returns:
        Epochs to train, from 1 to ``epochs``; all of them where pilots end equal.

    Raises:
        InputError: Fewer than 3 pilots, no epoch, or values that are not finite.
    """
    values = np.asarray(curves, dtype=np.float64)
    if values.ndim != 2 or len(values) < 3 or not values.shape[1]:
        raise InputError(
            f"curves of shape {values.shape} do not tell when to stop; give at least 3 pilots and "
            "1 epoch as (pilots, epochs)"
        )
    if not np.isfinite(values).all():
        raise InputError("a pilot's curve is not finite; leave out pilots that failed")
    agrees = [spearman(column, values[:, -1]) >= threshold for column in values.T]
    epoch = len(agrees)
    # From the end: one lucky early epoch does not count.
    while epoch > 1 and agrees[epoch - 2]:
        epoch -= 1
    return epoch
