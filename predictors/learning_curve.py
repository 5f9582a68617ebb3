"""How ranking improves with evaluations, and how many more a wanted rank correlation takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor, log10

import numpy as np

from predictors.predictor import Fit, Rows, Values, prepare_training_rows
from predictors.report_card import AIM, ReportCard
from predictors.scores import kendall_tau
from predictors.select import fit as fit_best
from supernet.errors import InputError
from supernet.space import SearchSpace

Curve = tuple[tuple[int, float], ...]
SHARES = (0.2, 0.3, 0.45, 0.65, 0.85)
REPEATS = 3
_LEAST_ROWS, _LEAST_TEST = 8, 6
# Beyond so many times the present number a power law is a guess, and a scatter of its
# logarithms above a quarter means that the points do not follow one.
_FURTHEST, _SCATTER, _FLATTEST = 10.0, 0.25, 0.05


def measure_learning_curve(
    space: SearchSpace,
    positions: Rows,
    values: Values,
    *,
    fit: Fit = fit_best,
    seed: int,
    shares: Sequence[float] = SHARES,
    repeats: int = REPEATS,
) -> Curve:
    """Measure Kendall's tau on the rest after fits to random parts of the rows.

    Args:
        space: The search space.
        positions: ``(n, len(space))``.
        values: Finite values ``(n,)``.
        fit: The method, by default the automatic choice at every size.
        seed: Deals the rows, and is handed to the method.
        shares: Sizes of the parts as shares of ``n``; sizes below 8 are left out.
        repeats: Random parts per size, averaged.

    Returns:
        Pairs of size and mean tau, sizes rising; empty with too few rows or constant values.

    Raises:
        InputError: As in :class:`predictors.predictor.Fit`.
    """
    rows, targets = prepare_training_rows(space, positions, values)
    curve = []
    for size in sorted({round(share * len(rows)) for share in shares}):
        if size < _LEAST_ROWS or len(rows) - size < _LEAST_TEST:
            continue
        found = []
        for repeat in range(repeats):
            order = np.random.default_rng((seed, repeat)).permutation(len(rows))
            part, rest = order[:size], order[size:]
            model = fit(space, rows[part], targets[part], seed=seed)
            found.append(kendall_tau(model.mean(rows[rest]), targets[rest]))
        if np.isfinite(found).all():
            curve.append((size, float(np.mean(found))))
    return tuple(curve)


def estimate_needed(curve: Curve, aim: float = AIM) -> int | None:
    """Estimate how many evaluations more than the last point's lead to a Kendall tau of ``aim``.

    Fits ``1 - tau = a * n ** -b``, the power law that errors of most learners follow (Hestness et
    al. 2017, "Deep Learning Scaling is Predictable, Empirically"), larger samples weighing more.

    Args:
        curve: Pairs of sample size and held-out tau, sizes rising.
        aim: Wanted tau, above 0 and below 1.

    Returns:
        A number of two significant digits; 0 when the last point is there already; ``None`` with
        fewer than three points, when they do not fall on a power law, do not improve, or when its
        rate, one standard error slower, leads beyond ten times the last size.

    Raises:
        InputError: ``aim`` is not between 0 and 1.
    """
    if not 0 < aim < 1:
        raise InputError(f"aim = {aim} is no rank correlation to reach; it must lie in (0, 1)")
    if curve and curve[-1][1] >= aim:
        return 0
    if len(curve) < 3:
        return None
    sizes, taus = (np.array(column, dtype=np.float64) for column in zip(*curve, strict=True))
    x, y = np.log(sizes), np.log(np.maximum(1 - taus, 1e-6))
    weights = np.sqrt(sizes / sizes.sum())
    slope, level = np.polyfit(x, y, 1, w=weights)
    scatter = float(np.sqrt((weights**2 * (y - level - slope * x) ** 2).sum()))
    if scatter > _SCATTER:
        return None
    # The law gives the rate, the last and best known point the place. A rate that could as well
    # be so slow that the aim is out of sight is none.
    spread = np.sqrt((weights**2 * (x - (weights**2 * x).sum()) ** 2).sum())
    error = scatter / spread / np.sqrt(len(sizes) - 2)
    steps = np.log((1 - aim) / (1 - taus[-1]))
    if slope + error > -_FLATTEST or steps / (slope + error) > np.log(_FURTHEST):
        return None
    return _rounded(sizes[-1] * (np.exp(steps / slope) - 1))


def add_learning_curve(report: ReportCard, curve: Curve, *, aim: float = AIM) -> ReportCard:
    """Put a learning curve on the report, and the estimate made from it.

    The curve's last point becomes the report's own: all rows, held out one by one or fold by fold.

    Args:
        report: The report of a method.
        curve: :func:`measure_learning_curve` of the same method and rows.
        aim: The Kendall tau to reach.

    Raises:
        InputError: ``aim`` is not between 0 and 1.
    """
    if np.isfinite(report.tau):
        curve = (*curve, (report.samples, report.tau))
    return replace(report, curve=curve, needed=estimate_needed(curve, aim), aim=aim)


def _rounded(count: float) -> int:
    unit = 10 ** max(floor(log10(max(count, 1.0))) - 1, 0)
    return max(ceil(count / unit) * unit, 1)
