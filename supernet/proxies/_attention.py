"""Queries, keys and values of every attention of a network, whatever module computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.errors import InputError
from supernet.proxies._probe import Watch, copy_for_scoring, track_modules


@dataclass(frozen=True)
class Attention:
    """One attention of a forward pass.

    Args:
        name: Module path it ran in.
        query: ``(batch, heads, queries, head size)``.
        key: ``(batch, heads, keys, head size)``.
        value: ``(batch, heads, keys, head size)``.
        mask: Added to the scores, or boolean with True for keys that count; ``None``: all count.
        causal: Whether a query sees no later keys.
        scale: Factor of the scores.
    """

    name: str
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    causal: bool
    scale: float

    def probabilities(self) -> Tensor:
        """Softmax over keys, ``(batch, heads, queries, keys)``."""
        scores = self.query @ self.key.transpose(-2, -1) * self.scale
        if self.causal:
            ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(ahead, -torch.inf)
        if self.mask is not None:
            boolean = self.mask.dtype == torch.bool
            scores = scores.masked_fill(~self.mask, -torch.inf) if boolean else scores + self.mask
        return scores.softmax(-1)


def record_attentions(model: nn.Module, inputs: Tensor) -> list[Attention]:
    """Record what ``scaled_dot_product_attention`` of torch is given in a forward pass.

    Hugging Face models that compute attention step by step are asked to use that function.

    Args:
        model: Left alone; a copy is run.
        inputs: Token ids ``(N, T)``, or whatever the network takes.

    Raises:
        InputError: The network has no such attention.
    """
    twin = copy_for_scoring(model)
    for module in twin.modules():
        config: Any = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation"):
            config._attn_implementation = "sdpa"
    found: list[Attention] = []
    with track_modules(twin) as running:

        def see(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if func is F.scaled_dot_product_attention:
                found.append(_describe_attention(running[-1] if running else "", *args, **kwargs))

        with torch.no_grad(), Watch(see):
            twin(inputs)
    if not found:
        raise InputError(
            f"{type(model).__name__} has no attention that runs through torch's "
            "scaled_dot_product_attention; this proxy is for transformers"
        )
    return found


def sum_by_layer(
    model: nn.Module, inputs: Tensor, measure: Callable[[Attention], float]
) -> dict[str, float]:
    """Sum a measure over the attentions of each layer, by module path.

    Model, inputs and errors are those of :func:`record_attentions`.
    """
    found: dict[str, float] = {}
    for layer in record_attentions(model, inputs):
        found[layer.name] = found.get(layer.name, 0.0) + measure(layer)
    return found


def _describe_attention(
    name: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Attention:
    if enable_gqa:
        groups = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    return Attention(name, query, key, value, attn_mask, is_causal, factor)
