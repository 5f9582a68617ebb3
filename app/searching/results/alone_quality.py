"""What the qualities of a search's points would be, were each network trained alone from scratch.

The model of :mod:`predictors.alone` takes effects that add up: of accuracies these are logits, of
losses logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from app.records.quantities import ACCURACY
from app.records.searches.alone import AloneRecord, CalibratingNetwork, CalibrationRecord
from app.searching.results.final_quality import FinalQuality
from predictors.alone import (
    Alone,
    Networks,
    Trainings,
    infer_alone,
    predict_left_out,
)
from predictors.posterior import Posterior
from predictors.scores import kendall_tau
from search import History, SearchProblem
from supernet.quality.sampling_error import Z_TWO_SIDED_95

Vector = NDArray[np.float64]
Places = NDArray[np.intp]

# Losses below this have no logarithm.
_LEAST_LOSS = 1e-6


@dataclass(frozen=True)
class AloneQuality:
    """What is known of one quality of networks, were they trained alone.

    Args:
        quality: Its posterior, on average over trainings, of the same rows as with inherited
            weights; ``samples`` are those behind the inherited one.
        low: Lower ends of 95 % intervals for one training of each, evaluated on ``val``, ``(k,)``.
        high: Upper ends.
        calibration: By which networks.
    """

    quality: FinalQuality
    low: Vector
    high: Vector
    calibration: CalibrationRecord


@dataclass(frozen=True)
class Scale:
    """The scale of a quality on which effects add up.

    Args:
        name: Of the quality.
        samples: That it is evaluated on: no share is known to be nearer than half a sample to an
            end, which has no logit.
    """

    name: str
    samples: int

    def forward(self, values: Vector) -> Vector:
        """Qualities ``(n,)`` on the scale."""
        if self.name == ACCURACY.name:
            least = 0.5 / max(self.samples, 1)
            found: Vector = logit(np.clip(values, least, 1 - least))
            return found
        return np.log(np.maximum(values, _LEAST_LOSS))

    def backward(self, values: Vector) -> Vector:
        """Qualities of places on the scale."""
        found: Vector = expit(values) if self.name == ACCURACY.name else np.exp(values)
        return found

    def stretch(self, values: Vector) -> Vector:
        """How much the quality changes with a place on the scale, at qualities ``(n,)``."""
        return values * (1 - values) if self.name == ACCURACY.name else values


@dataclass(frozen=True)
class Evaluated:
    """What a search knows of its networks before any is trained alone.

    Args:
        problem: What was searched for.
        history: What was evaluated.
        quality: Posterior with inherited weights.
        costs: Multiply-accumulates of the networks of ``quality``, ``(k,)``.
    """

    problem: SearchProblem
    history: History
    quality: FinalQuality
    costs: Vector

    @property
    def scale(self) -> Scale:
        """That of the quality."""
        return Scale(self.quality.name, int(self.quality.samples.min()))

    @property
    def networks(self) -> Networks:
        """As the model takes them."""
        objective = self.problem.quantities[self.problem.column(self.quality.name)]
        return Networks(
            self.problem.space,
            self.history.positions[self.quality.rows],
            self.scale.forward(self.quality.posterior.mean),
            np.log(np.maximum(self.costs, 1.0)),
            maximize=objective.direction == "maximize",
        )


def infer_quality_alone(
    evaluated: Evaluated, places: Places, records: Sequence[AloneRecord]
) -> AloneQuality:
    """Infer what all networks of a search would be worth trained alone.

    Args:
        evaluated: The networks.
        places: Of those that were trained, in ``evaluated.quality.rows``, ascending.
        records: What came of each; those that diverged say nothing.
    """
    scale, networks, quality = evaluated.scale, evaluated.networks, evaluated.quality
    known = [
        (place, record)
        for place, record in zip(places.tolist(), records, strict=True)
        if record.value is not None
    ]
    values = np.array([record.value for _, record in known])
    trained = Trainings(
        np.array([place for place, _ in known], dtype=np.intp),
        scale.forward(values),
        np.array([_measure_error(scale, record) for _, record in known]),
    )
    found = infer_alone(networks, trained)
    mean, deviation = found.posterior.mean, found.posterior.deviation
    sampling = float(np.sqrt((trained.errors**2).mean()))
    spread = Z_TWO_SIDED_95 * np.sqrt(deviation**2 + found.luck**2 + sampling**2)
    ends = np.stack([scale.backward(mean - spread), scale.backward(mean + spread)])
    stated = scale.backward(mean)
    # Near its mean, a quality is a straight line of its place on the scale.
    stretch = scale.stretch(stated)
    whole = found.posterior.covariance * np.outer(stretch, stretch)
    # What all networks have in common turns no order round.
    centred = whole - whole.mean(axis=0) - whole.mean(axis=1)[:, None] + whole.mean()
    rest = np.maximum(np.diag(whole) - np.diag(centred), 0.0)
    return AloneQuality(
        FinalQuality(
            quality.name,
            quality.rows,
            Posterior(stated, centred),
            np.sqrt(rest),
            quality.samples,
        ),
        ends[0],
        ends[1],
        _describe(evaluated, trained, records, [record for _, record in known]),
    )


def _describe(
    evaluated: Evaluated,
    trained: Trainings,
    records: Sequence[AloneRecord],
    known: Sequence[AloneRecord],
) -> CalibrationRecord:
    scale, places = evaluated.scale, trained.rows
    left_out: Alone = predict_left_out(evaluated.networks, trained)
    predicted = scale.backward(left_out.posterior.mean)
    inherited = evaluated.quality.posterior.mean[places]
    values = np.array([record.value for record in known], dtype=np.float64)
    order = np.argsort(evaluated.costs[places], kind="stable").tolist()
    networks = tuple(
        CalibratingNetwork(
            digest=known[i].digest,
            value=float(values[i]),
            low=_or(values[i], known[i].low),
            high=_or(values[i], known[i].high),
            inherited=float(inherited[i]),
            predicted=float(predicted[i]),
        )
        for i in order
    )
    return CalibrationRecord(
        objective=scale.name,
        networks=networks,
        steps=max(record.steps for record in known),
        diverged=len(records) - len(known),
        inherited_error=float(np.sqrt(((inherited - values) ** 2).mean())),
        predicted_error=float(np.sqrt(((predicted - values) ** 2).mean())),
        inherited_tau=_or_none(kendall_tau(inherited, values)),
        predicted_tau=_or_none(kendall_tau(predicted, values)),
    )


def measure_scatter(evaluated: Evaluated) -> float:
    """Typical standard error of an evaluation of these networks, on the scale of the model."""
    quality = evaluated.quality
    stretch = np.maximum(evaluated.scale.stretch(quality.posterior.mean), _LEAST_LOSS)
    return float(np.median(quality.deviation / stretch))


def _measure_error(scale: Scale, record: AloneRecord) -> float:
    """Standard error of an evaluation on the scale, by its interval; 0 where it has none."""
    if record.low is None or record.high is None:
        return 0.0
    low, value, high = scale.forward(np.array([record.low, record.value, record.high]))
    if scale.name == ACCURACY.name:
        return float(high - low) / (2 * Z_TWO_SIDED_95)
    # By the upper end alone: the lower one may be cut off at 0.
    return float(high - value) / Z_TWO_SIDED_95


def _or(fallback: float, value: float | None) -> float:
    return float(fallback) if value is None else value


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
