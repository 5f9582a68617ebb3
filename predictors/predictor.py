"""What every prediction method offers: how it is fitted, and what the fitted model can be asked."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from predictors.features.encoding import Extras
from predictors.report_card import HeldOut, ReportCard, Vector
from supernet.errors import InputError
from supernet.space import SearchSpace

Rows = NDArray[np.integer]
Values = NDArray[np.floating]


class Predictor(Protocol):
    """A finished model of one number per architecture; there is no unfitted state."""

    @property
    def report(self) -> ReportCard:
        """How well held-out values were predicted."""
        ...

    @property
    def held_out(self) -> HeldOut:
        """The held-out predictions behind the report."""
        ...

    def mean(self, positions: NDArray[np.integer]) -> Vector:
        """Expected values ``(n,)`` of positions ``(n, len(space))``; the fast path of a search."""
        ...

    def predict(self, positions: NDArray[np.integer]) -> tuple[Vector, Vector]:
        """Expected values and their standard deviations, ``(n,)`` each."""
        ...


class Fit(Protocol):
    """How every method is fitted; each module in ``predictors/models`` offers one as ``fit``.

    A module has ``SUMMARY``, one line about when the method suits, and ``fit``, which may take
    further keywords with defaults. :mod:`predictors.testing.predictor_contract` checks both.
    """

    def __call__(
        self,
        space: SearchSpace,
        positions: Rows,
        values: Values,
        *,
        seed: int,
        statistics: Extras = None,
    ) -> Predictor:
        """Fit to what has been evaluated; the arrays are left as they are.

        Args:
            space: The search space, which gives features their meaning.
            positions: Option positions of the evaluated architectures, ``(n, len(space))``;
                entries of inert choices may hold anything.
            values: What was measured, ``(n,)``, in the unit that predictions shall have.
            seed: Decides everything the method draws; equal seeds give equal predictors.
            statistics: Gives free numbers of architectures, such as operations and parameters,
                as further features; finite for every architecture of the space.

        Returns:
            The fitted predictor, which knows how well it predicts values it has not seen.

        Raises:
            InputError: There are fewer than 3 rows, shapes disagree, or values or statistics
                are not finite; one sentence that names the first of them.
        """
        ...


def prepare_training_rows(
    space: SearchSpace, positions: NDArray[np.integer], values: NDArray[np.floating]
) -> tuple[NDArray[np.int16], Vector]:
    """Make positions canonical and values floats, and check their shape, number and finiteness.

    Raises:
        InputError: The shapes disagree, there are fewer than 3 rows, or a value is not finite.
    """
    canonical = space.canonical(np.asarray(positions).reshape(-1, len(space)))
    targets = np.asarray(values, dtype=np.float64)
    if targets.shape != (len(canonical),):
        raise InputError(f"{len(canonical)} architectures have values of shape {targets.shape}")
    if len(targets) < 3:
        raise InputError(f"a predictor needs at least 3 evaluations; got {len(targets)}")
    if not np.isfinite(targets).all():
        row = int(np.flatnonzero(~np.isfinite(targets))[0])
        raise InputError(f"value {row} is {targets[row]}; leave failed evaluations out of a fit")
    return canonical, targets


def predict_interval(predictor: Predictor, positions: NDArray[np.integer]) -> tuple[Vector, Vector]:
    """Predict low and high ends ``(n,)`` of intervals at the level of the predictor's report."""
    mean, std = predictor.predict(positions)
    half = predictor.report.bound_half_width(std)
    return mean - half, mean + half


def predict_held_out(
    predictor: Predictor, positions: NDArray[np.integer]
) -> tuple[Vector, Vector, Vector]:
    """Predict mean, low and high ``(n,)`` by a model that had not seen the architecture.

    For rows of the training set this is the cross-validated prediction; a plain prediction would
    mostly repeat the measured value and make every predictor look exact.
    """
    mean, std = predictor.predict(positions)
    known = {row.tobytes(): i for i, row in enumerate(predictor.held_out.positions)}
    for i, row in enumerate(np.asarray(positions, dtype=np.int16)):
        j = known.get(row.tobytes())
        if j is not None:
            mean[i], std[i] = predictor.held_out.mean[j], predictor.held_out.std[j]
    half = predictor.report.bound_half_width(std)
    return mean, mean - half, mean + half
