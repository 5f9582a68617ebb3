"""How strongly the projections of each attention head respond to some token."""

from __future__ import annotations

from torch import Tensor, nn

from supernet.proxies._attention import Attention, sum_by_layer

SUMMARY = "largest response of queries, keys and values over tokens, per head; transformers only"


def score(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Sum head confidence over heads and layers (Serianni and Kalita 2023, section 5).

    For each head and each of its query, key and value projections ``(batch, tokens, head size)``:
    the maximum over **tokens**, then the mean over batch and head size; then the mean over the
    three.

    Model, inputs and errors are those of :func:`supernet.proxies._attention.record_attentions`;
    targets have no part in the score.
    """
    return sum(by_layer(model, inputs, targets).values())


def by_layer(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Sum over the heads of each layer, by module path."""
    return sum_by_layer(model, inputs, _measure_responses)


def _measure_responses(layer: Attention) -> float:
    # Axes (batch, head, token, feature): over tokens, then over batch and features.
    parts = [x.amax(2).mean((0, 2)).sum() for x in (layer.query, layer.key, layer.value)]
    return float(sum(parts)) / len(parts)
