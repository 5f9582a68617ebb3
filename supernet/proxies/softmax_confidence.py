"""How decidedly each attention head looks at one token."""

from __future__ import annotations

from torch import Tensor, nn

from supernet.proxies._attention import record_attentions

SUMMARY = "largest attention probability of each query, per head; transformers only"


def score(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Sum softmax confidence over heads and layers (Voita et al. 2019).

    Of the probabilities ``(batch, heads, queries, keys)`` of each head: the maximum over **keys**,
    then the mean over batch and queries. 1 where every query looks at one token only; the first
    query of a causal network always does.

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
        confidence = float(layer.probabilities().amax(3).mean((0, 2)).sum())
        found[layer.name] = found.get(layer.name, 0.0) + confidence
    return found
