"""How decidedly each attention head looks at one token."""

from __future__ import annotations

from torch import Tensor, nn

from supernet.proxies._attention import Attention, sum_by_layer
from supernet.proxies._probe import sum_layers

SUMMARY = "largest attention probability of each query, per head; transformers only"


def by_layer(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Sum softmax confidence over the heads of each layer (Voita et al. 2019).

    Of the probabilities ``(batch, heads, queries, keys)`` of each head: the maximum over **keys**,
    then the mean over batch and queries. 1 where every query looks at one token only; the first
    query of a causal network always does.

    Model, inputs and errors are those of :func:`supernet.proxies._attention.record_attentions`;
    targets have no part in the score.

    Returns:
        Sums by module path.
    """
    return sum_by_layer(model, inputs, _measure_decision)


def _measure_decision(layer: Attention) -> float:
    return float(layer.probabilities().amax(3).mean((0, 2)).sum())


score = sum_layers(by_layer)
