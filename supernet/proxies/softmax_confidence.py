"""How decidedly each attention head looks at one token."""

from __future__ import annotations

from torch import Tensor, nn

from supernet.proxies._attention import Attention, sum_by_layer

SUMMARY = "largest attention probability of each query, per head; transformers only"


def score(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Sum softmax confidence over heads and layers (Voita et al. 2019).

    Of the probabilities ``(batch, heads, queries, keys)`` of each head: the maximum over **keys**,
    then the mean over batch and queries. 1 where every query looks at one token only; the first
    query of a causal network always does.

    Model, inputs and errors are those of :func:`supernet.proxies._attention.record_attentions`;
    targets have no part in the score.
    """
    return sum(by_layer(model, inputs, targets).values())


def by_layer(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Sum over the heads of each layer, by module path."""
    return sum_by_layer(model, inputs, _measure_decision)


def _measure_decision(layer: Attention) -> float:
    return float(layer.probabilities().amax(3).mean((0, 2)).sum())
