"""How strongly the projections of each attention head respond to some token."""

from __future__ import annotations

from torch import Tensor, nn

from supernet.proxies._attention import Attention, sum_by_layer
from supernet.proxies._probe import sum_layers

SUMMARY = "largest response of queries, keys and values over tokens, per head; transformers only"


def by_layer(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Sum head confidence over the heads of each layer (Serianni and Kalita 2023, section 5).

    For each head and each of its query, key and value projections ``(batch, tokens, head size)``:
    the maximum over **tokens**, then the mean over batch and head size; then the mean over the
    three.

    Model, inputs and errors are those of :func:`supernet.proxies._attention.record_attentions`;
    targets have no part in the score.

    Returns:
        Sums by module path.
    """
    return sum_by_layer(model, inputs, _measure_responses)


def _measure_responses(layer: Attention) -> float:
    # Axes (batch, head, token, feature): over tokens, then over batch and features.
    parts = [x.amax(2).mean((0, 2)).sum() for x in (layer.query, layer.key, layer.value)]
    return float(sum(parts)) / len(parts)


score = sum_layers(by_layer)
