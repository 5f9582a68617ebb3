"""How strongly the projections of each attention head respond to some token."""

from __future__ import annotations

from torch import Tensor, nn

from supernet.proxies._attention import record_attentions

SUMMARY = "largest response of queries, keys and values over tokens, per head; transformers only"


def score(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Sum head confidence over heads and layers (Serianni and Kalita 2023, section 5).

    For each head and each of its query, key and value projections ``(batch, tokens, head size)``:
    the maximum over **tokens**, then the mean over batch and head size; then the mean over the
    three.

    Args:
        model: An extracted transformer; left alone.
        inputs: Token ids ``(N, T)``.
        targets: Has no part in the score.

    Raises:
        ValueError: The network has no attention.
    """
    return sum(by_layer(model, inputs, targets).values())


def by_layer(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Sum over the heads of each layer, by module path."""
    found: dict[str, float] = {}
    for layer in record_attentions(model, inputs):
        # Axes (batch, head, token, feature): over tokens, then over batch and features.
        parts = [x.amax(2).mean((0, 2)).sum() for x in (layer.query, layer.key, layer.value)]
        found[layer.name] = found.get(layer.name, 0.0) + float(sum(parts)) / len(parts)
    return found
