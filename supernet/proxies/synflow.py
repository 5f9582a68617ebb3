"""Flow of weight from input to output of a network without signs and normalisation."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.proxies._probe import Watch, find_logits, list_weighted

SUMMARY = "log of the summed products of absolute weights along all paths (synaptic flow)"
_PASS = (F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm, F.rms_norm)
_CLIPPED = (F.relu6, F.hardtanh)
_BOUNDED = (F.tanh, torch.tanh, Tensor.tanh)


def score(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Compute ``log(1 + sum |w dR/dw|)``, ``R`` the summed output for ones (Tanaka 2020).

    Weights and buffers are taken absolute and in float64. Normalisation passes its input on, for
    with it the product says nothing; saturating activations do not clip; attention, which is
    undefined without signs, averages over the keys it may see; embedded tokens are ones.

    Args:
        model: An extracted network, which is left alone.
        inputs: A batch; only the shape of one sample counts.
        targets: Has no part in the score.
    """
    return math.log1p(sum(_measure_flows(model, inputs).values()))


def by_layer(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Compute ``log(1 + flow)`` of each convolution and linear layer, by module path."""
    return {name: math.log1p(flow) for name, flow in _measure_flows(model, inputs).items()}


def _measure_flows(model: nn.Module, inputs: Tensor) -> dict[str, float]:
    twin = copy.deepcopy(model).eval()
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers()):
            if tensor.is_floating_point():
                tensor.requires_grad_(False).abs_()
                tensor.grad = None
    twin.double()
    layers = list_weighted(twin)
    for _, module in layers:
        module.weight.requires_grad_(True)  # type: ignore[operator,union-attr]
    single = inputs[:1]
    ones = torch.ones_like(single, dtype=torch.float64) if single.is_floating_point() else single
    with torch.enable_grad(), Watch(_replace_by_linear):
        find_logits(twin(ones)).sum().backward()
    flows: dict[str, float] = {}
    for name, module in layers:
        weight: Any = module.weight
        if weight.grad is not None:
            flows[name] = float((weight.detach() * weight.grad).abs().sum())
    return flows


def _replace_by_linear(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a function does to positive numbers where signs, scales and limits do not exist."""
    if func in _PASS or func in _BOUNDED:
        return args[0]
    if func in _CLIPPED:
        return F.relu(args[0])
    if func is F.embedding:
        return torch.ones_like(func(*args, **kwargs))
    if func is F.softmax or func is torch.softmax or func is Tensor.softmax:
        return torch.full_like(args[0], 1 / args[0].shape[-1])
    if func is F.scaled_dot_product_attention:
        return _average_values(*args, **kwargs)
    return None


def _average_values(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if value.shape[1] != query.shape[1]:
        value = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
    if kwargs.get("is_causal", args[2] if len(args) > 2 else False):
        counts = torch.arange(1, value.shape[-2] + 1, dtype=value.dtype, device=value.device)
        return value.cumsum(-2) / counts[:, None]
    return value.mean(-2, keepdim=True).expand(*query.shape[:-1], value.shape[-1])
