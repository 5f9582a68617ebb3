"""Ensembles whose members each leave out a fold, so that predicting and judging train once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from predictors.report_card import HeldOut, Vector


def deal_folds(count: int, folds: int, repeats: int, seed: int) -> NDArray[np.intp]:
    """Which fold each of ``count`` rows is in, for every repeat, ``(repeats, count)``."""
    rng = np.random.default_rng(seed)
    deals = [rng.permutation(np.arange(count) % folds) for _ in range(repeats)]
    return np.stack(deals).astype(np.intp)


def choose_training_rows(folds: NDArray[np.integer], number: int, seed: int) -> NDArray[np.intp]:
    """Rows outside each fold of each repeat, ``(repeats * number, t)``, all of one length.

    Folds differ in size by one at most; a member with one row too many leaves out a random one.
    """
    rng = np.random.default_rng(seed)
    kept = [np.flatnonzero(deal != fold) for deal in folds for fold in range(number)]
    least = min(len(rows) for rows in kept)
    return np.stack([np.sort(rng.permutation(rows)[:least]) for rows in kept]).astype(np.intp)


def hold_out_members(
    rows: NDArray[np.int16],
    targets: Vector,
    predicted: NDArray[np.float64],
    folds: NDArray[np.intp],
) -> tuple[HeldOut, float]:
    """Means of the members that had not seen each row, and the noise that explains their errors.

    Args:
        rows: Training rows ``(n, len(space))``.
        targets: Their values ``(n,)``.
        predicted: By every member, ``(members, n)``, in the order of :func:`choose_training_rows`.
        folds: Of :func:`deal_folds`.

    Returns:
        Held-out predictions, and the standard deviation that the disagreement of the members does
        not explain.
    """
    number = int(folds.max()) + 1
    unseen = np.concatenate([deal[None] == np.arange(number)[:, None] for deal in folds])
    counts = unseen.sum(0)
    mean = (predicted * unseen).sum(0) / counts
    variance = predicted.var(0)
    surplus = ((mean - targets) ** 2).mean() - variance.mean()
    floor = 0.05 * float(np.abs(mean - targets).mean())
    noise = max(float(np.sqrt(max(surplus, 0.0))), floor, 1e-12)
    return HeldOut(rows, targets, mean, np.sqrt(variance + noise**2)), noise
