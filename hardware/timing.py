"""Timing that survives a busy machine: every sample is bracketed by runs of a fixed reference.

Two virtual processors often share one core: the same code then takes 1.5 to 1.8 times as long
while the other one works, and the state flips every few hundred milliseconds. Each sample is
therefore stored with the reference's time before and after it. Samples are brought to the
quiet machine's scale with the measured estimate_sensitivity, and the quieter ones count more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
from scipy.special import stdtrit

from hardware.backend import Timer
from hardware.device import Device
from hardware.reference_model import build_reference_graph
from supernet.errors import InputError
from supernet.graph.language import Graph
from supernet.graph.onnx_model import draw_random_inputs, to_onnx

# A sample whose reference took twice the quiet time has 1/16 of the weight of a quiet one.
_QUIETNESS = 4

# Quantile of the samples that is called the latency: chosen on recorded campaigns, see
# docs/latency.md.
_LEVEL = 0.4

# Assumed growth of a model's time with the reference's until it has been measured.
_SENSITIVITY = 0.8


@dataclass(frozen=True, slots=True)
class Effort:
    """How long one visit to a loaded model lasts.

    Args:
        warmup: Runs thrown away; the first runs of a session allocate memory.
        least: Fewest samples.
        most: Most samples.
        budget_ms: Stop once the samples took this long, but not before ``least``.
        burst_ms: A sample repeats the model about this long, so that the reference, which has
            to run between samples, does not empty the caches before every single run.
    """

    warmup: int = 2
    least: int = 4
    most: int = 20
    budget_ms: float = 6.0
    burst_ms: float = 0.15


@dataclass(frozen=True, slots=True)
class Quiet:
    """What turns a sample from a busy machine into one from the quiet machine.

    Args:
        reference_ns: Time of the reference model on the quiet machine.
        units: How the time of a unit grows with the reference's, an exponent.
        networks: The same for whole networks. They run longer than a busy spell may last, so
            the reference around them says less and the exponent is smaller.
    """

    reference_ns: float
    units: float
    networks: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """Latency of one model on one device, at batch 1, brought to the quiet machine's scale.

    Args:
        latency_ms: The number to use: weighted 40 % quantile of the samples.
        median_ms: Weighted median of the samples.
        low_ms: Lower end of a 95 % interval of ``latency_ms``, from the spread between visits.
        high_ms: Upper end.
        spread: Standard deviation between visits over the latency.
        repeats: Timed runs (bursts count once).
        visits: Separate visits, interleaved with those to other models.
        clock: "thread-cpu" or "wall".
        quiet: Share of samples taken while the reference was within 10 % of its best.
        at: When, ISO 8601.
    """

    latency_ms: float
    median_ms: float
    low_ms: float
    high_ms: float
    spread: float
    repeats: int
    visits: int
    clock: str
    quiet: float
    at: str

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)


def load_timer(graph: Graph, device: Device, seed: int = 0) -> Timer:
    """Load a graph with random weights and inputs at batch 1.

    Args:
        graph: What to load.
        device: Where to load it.
        seed: Draws weights and inputs.

    Raises:
        InputError: The device cannot be used, cannot load the graph, or does not say in
            nanoseconds how long a run took.
    """
    model = to_onnx(graph, seed=seed, batch=1).SerializeToString()
    timer = device.load(model, draw_random_inputs(graph, seed))
    first = timer()
    if not isinstance(first, int) or first <= 0:
        raise InputError(
            f"a run on device backend {device.backend!r} took {first!r}; it must be a whole number "
            "of nanoseconds above 0"
        )
    return timer


def load_reference(device: Device) -> Timer:
    """Load the reference model; a call times one run after a run that fills the caches."""
    timer = load_timer(build_reference_graph(), device)
    for _ in range(50):
        timer()

    def warm() -> int:
        timer()
        return min(timer(), timer())

    return warm


def visit(timer: Timer, reference: Timer, effort: Effort) -> np.ndarray:
    """Visit a loaded model once.

    Args:
        timer: Runs the model.
        reference: Runs the reference model.
        effort: How long the visit lasts.

    Returns:
        Nanoseconds, ``(samples, 3)``: model, reference before, reference after.
    """
    last = 0
    for _ in range(max(1, effort.warmup)):
        last = timer()
    burst = int(min(20, max(1, effort.burst_ms * 1e6 // max(last, 1))))
    rows: list[tuple[int, int, int]] = []
    before, total = reference(), 0
    while len(rows) < effort.least or (total < effort.budget_ms * 1e6 and len(rows) < effort.most):
        elapsed = sum(timer() for _ in range(burst))
        after = reference()
        rows.append((elapsed // burst, before, after))
        before, total = after, total + elapsed + after
    return np.array(rows, dtype=np.int64)


def estimate_quiet_reference(visits: Sequence[np.ndarray], known: float | None = None) -> float:
    """Estimate what the reference takes on the quiet machine: its 5th percentile.

    Args:
        visits: All visits of a campaign.
        known: The value of an earlier campaign on the same device; the smaller one holds,
            because a machine that was busy all the time has no quiet samples.

    Returns:
        Nanoseconds.
    """
    own = float(np.percentile(np.concatenate([v[:, 1] for v in visits]), 5))
    return own if known is None else min(own, known)


def estimate_sensitivity(groups: Sequence[np.ndarray], reference: float, default: float) -> float:
    """Estimate how a model's time grows with the reference's: an exponent, median over models.

    Args:
        groups: All samples of each model, ``(samples, 3)``.
        reference: :func:`estimate_quiet_reference`.
        default: What holds where fewer than 5 models were seen both quiet and busy.
    """
    found = []
    for samples in groups:
        ratio = _estimate_busyness(samples, reference)
        quiet, busy = ratio < 1.05, ratio > 1.2
        if quiet.sum() >= 3 and busy.sum() >= 3:
            level = np.median(samples[quiet, 0])
            found.append(np.median(np.log(samples[busy, 0] / level) / np.log(ratio[busy])))
    return float(np.clip(np.median(found), 0.0, 2.0)) if len(found) >= 5 else default


def summarise(
    visits: Sequence[np.ndarray], reference: float, exponent: float, clock: str, at: str
) -> Measurement:
    """Combine the visits to one model.

    Args:
        visits: Each ``(samples, 3)`` nanoseconds.
        reference: :func:`estimate_quiet_reference` of the campaign.
        exponent: :func:`estimate_sensitivity` of the campaign.
        clock: Which clock the samples are from.
        at: When, ISO 8601.

    Raises:
        InputError: There is no visit.
    """
    if not visits:
        raise InputError("there is no visit to summarise; measure at least once")
    ratios = [_estimate_busyness(v, reference) for v in visits]
    values = [v[:, 0] / r**exponent / 1e6 for v, r in zip(visits, ratios, strict=True)]
    weights = [r**-_QUIETNESS for r in ratios]
    everything, importance = np.concatenate(values), np.concatenate(weights)
    centre = weigh_quantile(everything, importance, _LEVEL)
    each = np.array([weigh_quantile(v, w, _LEVEL) for v, w in zip(values, weights, strict=True)])
    trust = np.array([w.mean() for w in weights])
    deviation = float(np.sqrt(np.average((each - centre) ** 2, weights=trust)))
    effective = float(trust.sum() ** 2 / (trust**2).sum())
    freedom = max(1, int(effective) - 1)
    half = float(stdtrit(freedom, 0.975)) * deviation / max(1.0, effective - 1) ** 0.5
    return Measurement(
        latency_ms=centre,
        median_ms=weigh_quantile(everything, importance, 0.5),
        low_ms=max(0.0, centre - half),
        high_ms=centre + half,
        spread=deviation / centre if centre else 0.0,
        repeats=len(everything),
        visits=len(visits),
        clock=clock,
        quiet=float((np.concatenate(ratios) < 1.1).mean()),
        at=at,
    )


def summarise_all(
    units: Mapping[str, Sequence[np.ndarray]],
    networks: Mapping[str, Sequence[np.ndarray]],
    clock: str,
    *,
    known: Quiet | None = None,
) -> tuple[dict[str, Measurement], Quiet]:
    """Summarise every model of a campaign by key, and say what they were corrected with.

    Args:
        units: Visits to units by key.
        networks: Visits to networks by key.
        clock: Which clock the samples are from.
        known: The correction of an earlier campaign on the same device, if there was one.
    """
    everything = [v for kind in (units, networks) for group in kind.values() for v in group]
    reference = estimate_quiet_reference(everything, known.reference_ns if known else None)
    if known is None:
        kinds = [[np.concatenate(list(g)) for g in kind.values()] for kind in (units, networks)]
        both = estimate_sensitivity([*kinds[0], *kinds[1]], reference, _SENSITIVITY)
        quiet = Quiet(
            reference, *(estimate_sensitivity(groups, reference, both) for groups in kinds)
        )
    else:
        quiet = Quiet(reference, known.units, known.networks)
    at = write_time()
    found = {k: summarise(list(g), reference, quiet.units, clock, at) for k, g in units.items()}
    for key, group in networks.items():
        found[key] = summarise(list(group), reference, quiet.networks, clock, at)
    return found, quiet


def weigh_quantile(values: np.ndarray, weights: np.ndarray, level: float) -> float:
    """Find the value below which ``level`` of the weight lies, interpolated between samples."""
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    middles = np.cumsum(weights) - weights / 2
    return float(np.interp(level * weights.sum(), middles, values))


def _estimate_busyness(samples: np.ndarray, reference: float) -> np.ndarray:
    """Estimate how much slower than quiet each sample's surroundings were, ``(samples,)``, >= 1."""
    around = np.sqrt(samples[:, 1].astype(np.float64) * samples[:, 2])
    return np.maximum(around / reference, 1.0)


def write_time() -> str:
    """Write down the time, ISO 8601 in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


Progress = Callable[[int, int], None]
"""Called with (visits done, visits planned)."""
