"""What tests take for this processor's arithmetic is what it does, and only that is skipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from supernet.graph.integer.saturation import Layout, emulate_pairs, prove_no_saturation
from supernet.testing.saturation_layers import draw_layer
from tests.toys import saturating_processors
from tests.toys.integer_layers import (
    QdqBuilder,
    depthwise_convolution,
    dynamically_quantized_product,
    float_linear_between_quantizers,
    pointwise_convolution,
)
from tests.toys.saturating_processors import (
    find_inexact_layers,
    multiply_here,
    pairs_saturate,
    skip_unless_exact,
)

pytest.importorskip("onnxruntime")

Build = Callable[[QdqBuilder], None]


def build_graph(build: Build, **kwargs: Any) -> tuple[Any, dict[str, np.ndarray]]:
    builder = QdqBuilder(0, **kwargs)
    build(builder)
    return builder.graph(builder.kept), builder.values


@pytest.mark.parametrize(("rows", "length", "columns"), [(1, 63, 17), (8, 64, 32), (33, 201, 50)])
def test_the_processor_multiplies_as_one_of_the_two_kinds(
    rows: int, length: int, columns: int
) -> None:
    rng = np.random.default_rng(0)
    activations = rng.integers(0, 256, (rows, length)).astype(np.uint8)
    weights = rng.integers(-128, 128, (length, columns)).astype(np.int8)
    exact = activations.astype(np.int32) @ weights.astype(np.int32)
    emulated = emulate_pairs(activations, weights.T)
    assert not np.array_equal(emulated, exact)
    expected = emulated if pairs_saturate() else exact
    assert np.array_equal(multiply_here(activations, weights), expected)


def test_layers_proven_safe_are_exact_on_every_processor() -> None:
    rng = np.random.default_rng(1)
    proven = 0
    while proven < 20:
        weights, layout = draw_layer(rng)
        if layout is not Layout.COLUMNS or not prove_no_saturation(weights, layout).safe:
            continue
        # The two extremes of every channel, which take each pair as far as it goes.
        extremes = np.concatenate([(weights > 0).T, (weights < 0).T])
        activations = (extremes * 255).astype(np.uint8)
        exact = activations.astype(np.int32) @ weights.astype(np.int32)
        assert np.array_equal(multiply_here(activations, weights), exact)
        proven += 1


@pytest.mark.parametrize(
    ("build", "inexact"),
    [
        (pointwise_convolution, 1),
        (float_linear_between_quantizers, 1),
        (dynamically_quantized_product, 1),
        (depthwise_convolution, 0),
    ],
)
def test_layers_that_are_not_proven_safe_are_inexact(
    build: Build, inexact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saturating_processors, "pairs_saturate", lambda: True)
    graph, values = build_graph(build)
    assert len(find_inexact_layers(graph, values)) == inexact
    assert find_inexact_layers(*build_graph(build, reduce_range=True)) == []
    monkeypatch.setattr(saturating_processors, "pairs_saturate", lambda: False)
    assert find_inexact_layers(graph, values) == []


def test_only_what_may_be_wrong_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    unsafe = build_graph(pointwise_convolution)
    monkeypatch.setattr(saturating_processors, "pairs_saturate", lambda: True)
    with pytest.raises(pytest.skip.Exception, match="1 layers are not proven safe"):
        skip_unless_exact(*unsafe)
    skip_unless_exact(*build_graph(pointwise_convolution, reduce_range=True))
    monkeypatch.setattr(saturating_processors, "pairs_saturate", lambda: False)
    skip_unless_exact(*unsafe)
