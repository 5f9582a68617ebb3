"""Ranges of activations: one pass, bounded memory, and a quantizer that errs as little as said."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from supernet.errors import InputError
from supernet.quantization.quantizers import quantize_affine
from supernet.quantization.ranges import (
    BINS,
    Entropy,
    Histogram,
    MeanSquaredError,
    MinMax,
    Percentile,
    Range,
    RangeEstimator,
    choose_affine,
)
from supernet.quantization.squared_error import DensityIntegrals

ESTIMATORS: tuple[Callable[[str], RangeEstimator], ...] = (
    MinMax,
    Percentile,
    MeanSquaredError,
    Entropy,
)
COUNT = 40_000


def normal(seed: int = 0) -> Tensor:
    return torch.randn(COUNT, generator=torch.Generator().manual_seed(seed))


SAMPLES: dict[str, Tensor] = {
    "gaussian": normal(),
    "heavy-tailed": normal() ** 3,
    "one-sided": normal().relu(),
    "negative": -normal().abs(),
    "shifted": normal() + 2.5,
    "uniform": torch.rand(COUNT, generator=torch.Generator().manual_seed(0)),
    "like a SiLU": torch.nn.functional.silu(2 * normal()),
}


def estimate(
    estimator: Callable[[str], RangeEstimator], values: Tensor, levels: int = 255, batches: int = 5
) -> Range:
    ranges = estimator("layer")
    for batch in values.chunk(batches):
        ranges.observe(batch)
    return ranges.finish(levels)


def error(values: Tensor, clip: Range, levels: int) -> float:
    """Mean squared error of the quantizer that a range gives."""
    scale, zero_point = choose_affine(clip.low, clip.high, levels)
    precise = values.double()
    rounded = quantize_affine(precise, torch.tensor(scale), torch.tensor(zero_point), 0, levels)
    return (rounded - precise).square().mean().item()


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("levels", [15, 63, 255])
def test_the_squared_error_is_at_most_that_of_the_extremes(name: str, levels: int) -> None:
    values = SAMPLES[name]
    of_extremes = error(values, estimate(MinMax, values), levels)
    of_best = error(values, estimate(MeanSquaredError, values, levels), levels)
    # Bins are flat to the estimator: for even values both ranges are equal to a thousandth.
    assert of_best <= 1.001 * of_extremes
    if name != "uniform" and levels == 15:
        assert of_best < 0.75 * of_extremes


@pytest.mark.parametrize("name", ["gaussian", "heavy-tailed", "one-sided", "like a SiLU"])
def test_no_other_range_has_a_clearly_smaller_squared_error(name: str) -> None:
    values, levels = SAMPLES[name], 15
    low, high = float(values.min()), float(values.max())
    shares = np.geomspace(0.02, 1, 24)
    tried = [Range(low * a, high * b) for a in (shares if low < 0 else [1.0]) for b in shares]
    least = min(error(values, clip, levels) for clip in tried)
    assert error(values, estimate(MeanSquaredError, values, levels), levels) <= 1.02 * least


@pytest.mark.parametrize("estimator", [Percentile, Entropy])
def test_a_single_outlier_is_ignored(estimator: Callable[[str], RangeEstimator]) -> None:
    values = normal()
    outlier = values.clone()
    outlier[COUNT // 2] = 300
    assert estimate(MinMax, outlier).high == 300
    clip, without = estimate(estimator, outlier), estimate(estimator, values)
    assert clip.high < 10
    assert clip.high == pytest.approx(without.high, rel=0.8)
    assert clip.low == pytest.approx(without.low, rel=0.05)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", SAMPLES)
def test_neither_order_nor_size_of_batches_matters(
    estimator: Callable[[str], RangeEstimator], name: str
) -> None:
    # Sorted by magnitude, every batch but the first makes a histogram grow.
    values = SAMPLES[name]
    growing = values[values.abs().argsort()]
    expected = estimate(estimator, values, batches=1)
    assert estimate(estimator, growing, batches=40) == expected
    assert estimate(estimator, growing.flip(0), batches=7) == expected


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", SAMPLES)
def test_ranges_stay_within_what_was_observed(
    estimator: Callable[[str], RangeEstimator], name: str
) -> None:
    values = SAMPLES[name]
    for levels in (15, 255):
        clip = estimate(estimator, values, levels)
        assert clip.low >= min(float(values.min()), 0)
        assert clip.high <= max(float(values.max()), 0)
        assert clip.low < clip.high


def test_min_max_gives_the_extremes() -> None:
    values = normal()
    assert estimate(MinMax, values) == Range(float(values.min()), float(values.max()))


@pytest.mark.parametrize("name", SAMPLES)
def test_percentiles_are_those_of_the_values(name: str) -> None:
    values = SAMPLES[name]
    clip = estimate(lambda key: Percentile(key, 99), values)
    low, high = np.quantile(values.double().numpy(), [0.005, 0.995])
    bin_width = float(values.abs().max()) / (BINS / 2)
    assert clip.low == pytest.approx(low, abs=2 * bin_width)
    assert clip.high == pytest.approx(high, abs=2 * bin_width)
    everything = estimate(lambda key: Percentile(key, 100), values)
    assert everything == Range(float(values.min()), float(values.max()))


def test_a_percentile_beyond_all_is_refused() -> None:
    for percent in (0.0, 100.5, math.nan):
        with pytest.raises(InputError, match="percentile"):
            Percentile("layer", percent)


def test_entropy_keeps_all_of_an_even_distribution() -> None:
    assert estimate(Entropy, SAMPLES["uniform"]).high > 0.99


def test_a_histogram_counts_every_value_once() -> None:
    histogram = Histogram("layer")
    batches = [normal(1) * 1e-3, torch.zeros(5), normal(2), normal(3) * 1e4, normal(4) * 1e-20]
    for batch in batches:
        histogram.observe(batch)
    density = histogram.density()
    edges = (density.first + np.arange(len(density.counts) + 1)) * density.width
    everything = torch.cat(batches).double()
    everything = everything[everything != 0].numpy()
    expected, _ = np.histogram(everything, bins=edges)
    # numpy puts its last edge into the last bin; no value lies on it.
    np.testing.assert_array_equal(density.counts, expected)
    assert len(density.counts) <= 2 * BINS


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("constant", [0.0, 3.7, -3.7, 1e-42, 1e30])
def test_constant_activations_are_exact(
    estimator: Callable[[str], RangeEstimator], constant: float
) -> None:
    values = torch.full((100,), constant)
    clip = estimate(estimator, values)
    scale, zero_point = choose_affine(*clip)
    assert math.isfinite(scale)
    assert scale > 0
    assert 0 <= zero_point <= 255
    rounded = quantize_affine(values, torch.tensor(scale), torch.tensor(zero_point), 0, 255)
    assert rounded.tolist() == pytest.approx(values.tolist(), rel=1e-6, abs=1e-30)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_are_observed_too(dtype: torch.dtype) -> None:
    values = normal().to(dtype)
    for estimator in ESTIMATORS:
        assert estimate(estimator, values) == estimate(estimator, values.double())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_is_no_number_is_refused_by_name(estimator: Callable[[str], RangeEstimator]) -> None:
    for value, word in ((math.nan, "NaN"), (math.inf, "infinity"), (-math.inf, "infinity")):
        values = normal()
        values[7] = value
        with pytest.raises(InputError, match=f"stages.1.conv: .*{word}"):
            estimator("stages.1.conv").observe(values)
    with pytest.raises(InputError, match=r"stages.1.conv: .*empty"):
        estimator("stages.1.conv").observe(torch.empty(0, 3))
    with pytest.raises(InputError, match=r"stages.1.conv: no activation was observed"):
        estimator("stages.1.conv").finish()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_no_stored_step_reaches_is_refused_by_name(
    estimator: Callable[[str], RangeEstimator],
) -> None:
    watched = estimator("stages.1.conv")
    watched.observe(torch.tensor([3.4e38, -3.4e38]))
    assert math.isfinite(choose_affine(*watched.finish()).scale)
    with pytest.raises(InputError, match=r"stages.1.conv: .*beyond the float32"):
        watched.observe(torch.tensor([1.0, -1e100], dtype=torch.float64))


def test_gradients_are_not_kept() -> None:
    values = normal().requires_grad_()
    for estimator in ESTIMATORS:
        assert estimate(estimator, values) == estimate(estimator, values.detach())


@pytest.mark.parametrize(
    ("low", "high", "zero_point"),
    [(0, 6, 0), (2, 6, 0), (-1, 3, 64), (-6, 0, 255), (-6, -2, 255), (-0.375, 10, 9), (0, 0, 0)],
)
def test_levels_are_spread_over_a_range_with_zero(low: float, high: float, zero_point: int) -> None:
    affine = choose_affine(low, high)
    assert affine.zero_point == zero_point
    assert affine.scale == float(np.float32(affine.scale))
    width = max(high, 0) - min(low, 0) or 1.0
    assert affine.scale == pytest.approx(width / 255, rel=1e-6)


def test_no_level_lies_above_a_limit() -> None:
    assert choose_affine(0, 8.1, upper_limit=6) == choose_affine(0, 6)
    assert choose_affine(0, 4.2, upper_limit=6) == choose_affine(0, 4.2)
    assert choose_affine(-1, 8.1, 15, upper_limit=6) == choose_affine(-1, 6, 15)


@pytest.mark.parametrize("levels", [255, 15, 3])
@pytest.mark.parametrize("name", SAMPLES)
def test_no_range_that_is_left_out_would_have_been_the_best(name: str, levels: int) -> None:
    histogram = Histogram("layer")
    histogram.observe(SAMPLES[name])
    integrals = DensityIntegrals(histogram.density())
    low, high = histogram.extremes()
    shares = torch.logspace(0.3, -3, 40, dtype=torch.float64).tolist()
    tried = [Range(min(low, 0.0) * share, max(high, 0.0) * share) for share in shares]
    best = tried[0]
    for other in tried[1:]:
        # Of two, both errors are computed.
        best = integrals.find_least([best, other], levels)
    assert integrals.find_least(tried, levels) == best
    measured = [error(SAMPLES[name], clip, levels) for clip in tried]
    assert error(SAMPLES[name], best, levels) <= min(measured) * 1.01
