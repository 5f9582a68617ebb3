"""What each of torch's functions does in a network that computes in integers.

The rules follow what ONNX Runtime keeps in integers: convolutions and matrix products with what
follows them in one piece, sums, products, poolings and concatenations of integers, sigmoids from
tables, hard sigmoids as sums, and whatever only moves values. All else is computed in float.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.quantization.affine import BELOW_ONE, SHARE, Affine, Layer
from supernet.quantization.functions import (
    hard_sigmoid,
    hard_swish,
    keep_quantized,
    linear,
    linear_blocks,
    linear_dynamic,
    quantize,
    quantize_bias,
    quantize_weights,
)
from supernet.quantization.tracking import (
    CONVOLUTION,
    ELEMENTWISE,
    PRODUCT,
    State,
    find_layer,
    find_state,
    list_tensors,
    map_tensors,
    mark,
)

if TYPE_CHECKING:
    from supernet.quantization.execution import Execution

Rule = Callable[..., Any]


def _read(run: Execution, tensor: Tensor, reader: str) -> tuple[Tensor, Affine, State]:
    """What an integer operator reads: rounded values, their quantizer, and what is known."""
    taken = run.take(tensor, reader)
    state = find_state(taken)
    assert state is not None
    assert state.affine is not None
    return taken, state.affine, state


def _stays_float(taken: Tensor, affine: Affine) -> bool:
    """Whether activations are not rounded at present; structure (on meta) always has all steps."""
    return affine.scale is None and not taken.is_meta


# -- layers with weights ---------------------------------------------------------------------------


def _convolution(
    run: Execution,
    func: Rule,
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    *rest: Any,
    **kw: Any,
) -> Any:
    form = run.format
    if not form.quantizes_weights or form.products_only:
        return run.run_float(func, (input, weight, bias, *rest), kw)
    layer = find_layer(weight)
    affine = run.describe_weight(weight, layer)
    rounded = weight if run.looks_only else quantize_weights(weight, affine)
    if not form.quantizes_activations:
        return func(run.settle(input), rounded, bias, *rest, **kw)
    taken, inputs, _ = _read(run, input, layer)
    run.note_layer(Layer(weight, bias, inputs.key, affine))
    if bias is not None and (inputs.scale is not None or input.is_meta):
        bias = quantize_bias(bias, inputs, weight, affine)
    out = run.convolve(taken, rounded, bias, *rest, **kw)
    return mark(out, State(layer, CONVOLUTION, form.activation_bits, source=weight))


def _linear(
    run: Execution, func: Rule, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Any:
    form = run.format
    if not form.quantizes_weights:
        return run.run_float(func, (input, weight, bias), {})
    layer = find_layer(weight)
    affine = run.describe_weight(weight, layer)
    if form.dynamic:
        return linear_dynamic(run.settle(input), weight, bias, affine)
    if form.products_only:
        return linear_blocks(run.settle(input), weight, bias, affine)
    if not form.quantizes_activations:
        return linear(run.settle(input), weight, bias, None, affine)
    taken, inputs, _ = _read(run, input, layer)
    run.note_layer(Layer(weight, bias, inputs.key, affine))
    out = linear(taken, weight, bias, inputs, affine)
    return mark(out, State(layer, PRODUCT, form.activation_bits))


def _batch_norm(
    run: Execution, func: Rule, input: Tensor, running_mean: Any = None, *rest: Any, **kw: Any
) -> Any:
    state = find_state(input)
    ours = run.format.quantizes_activations or run.per_layer
    # Behind a ReLU, another normalisation or a border to float, it is no part of the convolution.
    if state is None or state.source is None or state.was_read or not ours:
        run.note_read(State(""), running_mean)
        return run.run_float(func, (input, running_mean, *rest), kw)
    run.note_read(state, running_mean)
    return mark(func(input, running_mean, *rest, **kw), replace(state, source=None))


def _product(run: Execution, func: Rule, input: Tensor, other: Tensor) -> Any:
    known = find_state(other) or find_state(input)
    if not run.format.quantizes_activations or known is None:
        return run.run_float(func, (input, other), {})
    left, _, _ = _read(run, input, f"{known.key}/left")
    right, _, state = _read(run, other, f"{known.key}/right")
    return mark(func(left, right), State(f"{state.key}/matmul", PRODUCT, state.bits))


def _attention(
    run: Execution,
    func: Rule,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if not run.format.quantizes_activations:
        options = {"scale": scale, "enable_gqa": enable_gqa}
        args = (query, key, value, attn_mask, dropout_p, is_causal)
        return run.run_float(func, args, options)
    q, _, _ = _read(run, query, f"{run.unit}/query")
    k, of_key, _ = _read(run, key, f"{run.unit}/key")
    v, of_value, state = _read(run, value, f"{run.unit}/value")
    if enable_gqa and k.shape[-3] != q.shape[-3]:
        repeats = q.shape[-3] // k.shape[-3]
        k = keep_quantized(k.repeat_interleave(repeats, -3), of_key)
        v = keep_quantized(v.repeat_interleave(repeats, -3), of_value)
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    scores = torch.matmul(q, keep_quantized(k.transpose(-1, -2), of_key)) * factor
    if is_causal:
        rows, columns = scores.shape[-2:]
        above = torch.ones(rows, columns, dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(above, -math.inf)
    elif attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    shares = torch.softmax(scores, -1)
    if dropout_p:
        shares = F.dropout(shares, dropout_p)
    out = torch.matmul(quantize(shares, SHARE), v)
    return mark(out, State(f"{state.key}/attention", PRODUCT, state.bits))


# -- activations -----------------------------------------------------------------------------------


def _clip(low: float, high: float) -> Rule:
    def rule(run: Execution, func: Rule, input: Tensor, *rest: Any, **kw: Any) -> Any:
        return _clip_to(run, func, low, high, input, *rest, **kw)

    return rule


def _clip_to(
    run: Execution, func: Rule, low: float, high: float, input: Tensor, *rest: Any, **kw: Any
) -> Any:
    state = find_state(input)
    # The quantizer that follows clips, too, if its range is that of the activation.
    if state is None or not state.kind or state.was_read or low > 0 or high < 0:
        return run.run_float(func, (input, *rest), kw)
    lowest, highest = max(low, state.lowest), min(high, state.highest)
    key = state.key if state.kind == PRODUCT else f"{state.key}/clip"
    run.note_read(state)
    clipped = replace(state, key=key, lowest=lowest, highest=highest, source=None)
    return mark(func(input, *rest, **kw), clipped)


def _hardtanh(
    run: Execution,
    func: Rule,
    input: Tensor,
    min_val: float = -1.0,
    max_val: float = 1.0,
    *rest: Any,
    **kw: Any,
) -> Any:
    return _clip_to(run, func, min_val, max_val, input, min_val, max_val, *rest, **kw)


def _clamp(run: Execution, func: Rule, input: Tensor, min: Any = None, max: Any = None) -> Any:
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        return run.run_float(func, (input, min, max), {})
    low, high = (-math.inf if min is None else min), (math.inf if max is None else max)
    return _clip_to(run, func, low, high, input, min, max)


def _hardswish(run: Execution, func: Rule, input: Tensor, *rest: Any, **kw: Any) -> Any:
    if not run.reads_integers(input):
        return run.run_float(func, (input, *rest), kw)
    taken = run.take_for_hard_swish(input)
    state = find_state(taken)
    assert state is not None
    affine = state.affine
    assert affine is not None
    if _stays_float(taken, affine):
        out = func(taken)
    elif affine.anchored:
        out = hard_swish(taken, affine)
    else:
        out = taken * hard_sigmoid(taken, affine)
    return mark(out, State(f"{state.key}/hardswish", ELEMENTWISE, state.bits))


def _hardsigmoid(run: Execution, func: Rule, input: Tensor, *rest: Any, **kw: Any) -> Any:
    if not run.reads_integers(input):
        return run.run_float(func, (input, *rest), kw)
    taken, affine, state = _read(run, input, "")
    out = func(taken) if _stays_float(taken, affine) else hard_sigmoid(taken, affine)
    return mark(out, State(f"{state.key}/hardsigmoid", "", 8, 0.0, 1.0, SHARE))


def _sigmoid(run: Execution, func: Rule, input: Tensor, *rest: Any, **kw: Any) -> Any:
    if not run.reads_integers(input):
        return run.run_float(func, (input, *rest), kw)
    taken, affine, state = _read(run, input, "")
    out = torch.sigmoid(taken)
    if not _stays_float(taken, affine):
        out = quantize(out, BELOW_ONE)
    return mark(out, State(f"{state.key}/sigmoid", "", 8, 0.0, 1.0, BELOW_ONE))


def _silu(run: Execution, func: Rule, input: Tensor, *rest: Any, **kw: Any) -> Any:
    if not run.reads_integers(input):
        return run.run_float(func, (input, *rest), kw)
    taken, affine, state = _read(run, input, "")
    if _stays_float(taken, affine):
        out = func(taken)
    else:
        out = taken * quantize(torch.sigmoid(taken), BELOW_ONE)
    return mark(out, State(f"{state.key}/silu", ELEMENTWISE, state.bits))


# -- several inputs, and poolings ------------------------------------------------------------------


def _join(suffix: str, plain: Rule) -> Rule:
    def rule(run: Execution, func: Rule, input: Any, other: Any, *rest: Any, **kw: Any) -> Any:
        if rest or kw or not run.reads_integers(input, other):
            return run.run_float(func, (input, other, *rest), kw)
        states = [s for s in (find_state(input), find_state(other)) if s is not None]
        # A sum is named after the branch that ends in it, not after the shortcut around that.
        latest = next((s for s in states if s.kind and not s.was_read), states[0])
        left, _, first = _read(run, input, "")
        right, _, second = _read(run, other, "")
        lowest = 0.0 if first.lowest >= 0 and second.lowest >= 0 else -math.inf
        return mark(
            plain(left, right),
            State(f"{latest.key}/{suffix}", ELEMENTWISE, latest.bits, lowest),
        )

    return rule


def _concatenate(
    run: Execution, func: Rule, tensors: Sequence[Tensor], *rest: Any, **kw: Any
) -> Any:
    if not tensors or not run.reads_integers(*tensors):
        return run.run_float(func, (tensors, *rest), kw)
    parts = [_read(run, tensor, "") for tensor in tensors]
    lowest = min(state.lowest for _, _, state in parts)
    last = parts[-1][2]
    out = func([part[0] for part in parts], *rest, **kw)
    return mark(out, State(f"{last.key}/cat", ELEMENTWISE, last.bits, lowest))


def _mean(
    run: Execution, func: Rule, input: Tensor, dim: Any = None, keepdim: bool = False, **kw: Any
) -> Any:
    axes = sorted(d % input.dim() for d in dim) if isinstance(dim, (tuple, list)) else []
    if kw or input.dim() != 4 or axes != [2, 3] or not run.reads_integers(input):
        rest = () if dim is None else (dim, keepdim)
        return run.run_float(func, (input, *rest), kw)
    pooled = _pool(run, func, input, (2, 3), True)
    return pooled if keepdim else _move(run, torch.flatten, pooled, 1)


def _pool(run: Execution, func: Rule, input: Tensor, *rest: Any, **kw: Any) -> Any:
    if not run.reads_integers(input):
        return run.run_float(func, (input, *rest), kw)
    taken, _, state = _read(run, input, "")
    limits = (state.lowest, state.highest)
    return mark(
        func(taken, *rest, **kw), State(f"{state.key}/pool", ELEMENTWISE, state.bits, *limits)
    )


# -- moving values ---------------------------------------------------------------------------------


def _move(run: Execution, func: Rule, *args: Any, **kw: Any) -> Any:
    tensors = list_tensors((args, kw))
    state = find_state(tensors[0]) if tensors else None
    if state is None:
        return func(*args, **kw)
    if state.kind == PRODUCT and state.rounded is None:
        return map_tensors(lambda t: mark(t, replace(state)), func(*args, **kw))
    if state.affine is None and not state.kind:
        # Floats that somebody reads as integers stay floats for others.
        return func(*args, **kw)
    taken, affine, known = _read(run, tensors[0], "")
    moved = func(*map_tensors(lambda t: taken if t is tensors[0] else t, args), **kw)

    def keep(tensor: Tensor) -> Tensor:
        if tensor is taken:
            return tensor
        return mark(keep_quantized(tensor, affine), replace(known, rounded=None))

    return map_tensors(keep, moved)


def _pass_on(run: Execution, func: Rule, input: Tensor, *rest: Any, **kw: Any) -> Any:
    """Of functions that leave values as they are, or drop some of them."""
    out = func(input, *rest, **kw)
    state = find_state(input)
    if state is not None and out is not input and isinstance(out, Tensor):
        mark(out, replace(state, rounded=None, saturated=None))
    return out


def writes_in_place(func: Any, args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
    """Whether a call of one of torch's functions overwrites the first tensor that it is given.

    Args:
        func: The function.
        args: Its arguments.
        kwargs: Those given by name.
    """
    if not args or not isinstance(args[0], Tensor):
        return False
    name = getattr(func, "__name__", "")
    if func in _ACTIVATIONS:
        return kwargs.get("inplace") is True or args[-1] is True
    return name in _WRITES or (name.endswith("_") and not name.endswith("__"))


_ACTIVATIONS = frozenset(
    (F.relu, F.relu6, F.hardtanh, F.hardswish, F.hardsigmoid, F.silu, F.leaky_relu, F.elu, F.mish)
)
"""Functions whose last argument says whether they overwrite their input."""

_WRITES = frozenset(("__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__", "__setitem__"))

LOOKS = frozenset(
    ("__get__", "__set__", "__len__", "__bool__", "__hash__", "__repr__", "size", "dim",
     "ndimension", "numel", "nelement", "stride", "is_floating_point", "is_complex",
     "is_contiguous", "element_size", "data_ptr", "requires_grad_", "register_hook",
     "retain_grad", "get_device", "storage_offset", "untyped_storage", "_is_view", "type",
     "is_same_size")
)  # fmt: skip
"""Names of functions that look at a tensor without reading its values."""

RULES: Mapping[Any, Rule] = {
    torch.conv2d: _convolution,
    F.linear: _linear,
    F.batch_norm: _batch_norm,
    torch.matmul: _product,
    torch.Tensor.matmul: _product,
    torch.Tensor.__matmul__: _product,
    torch.bmm: _product,
    torch.Tensor.bmm: _product,
    F.scaled_dot_product_attention: _attention,
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, torch.Tensor.relu), _clip(0.0, math.inf)),
    F.relu6: _clip(0.0, 6.0),
    F.hardtanh: _hardtanh,
    torch.clamp: _clamp,
    torch.Tensor.clamp: _clamp,
    F.hardswish: _hardswish,
    F.hardsigmoid: _hardsigmoid,
    **dict.fromkeys((torch.sigmoid, torch.Tensor.sigmoid, F.sigmoid), _sigmoid),
    F.silu: _silu,
    **dict.fromkeys(
        (torch.add, torch.Tensor.add, torch.Tensor.add_, torch.Tensor.__add__,
         torch.Tensor.__radd__, torch.Tensor.__iadd__), _join("add", torch.add)
    ),
    **dict.fromkeys(
        (torch.mul, torch.Tensor.mul, torch.Tensor.mul_, torch.Tensor.__mul__,
         torch.Tensor.__rmul__, torch.Tensor.__imul__), _join("mul", torch.mul)
    ),
    torch.cat: _concatenate,
    torch.concat: _concatenate,
    torch.mean: _mean,
    torch.Tensor.mean: _mean,
    F.adaptive_avg_pool2d: _pool,
    F.avg_pool2d: _pool,
    **dict.fromkeys(
        (
            torch.max_pool2d, F.max_pool2d, torch.flatten, torch.Tensor.flatten,
            torch.Tensor.unflatten, torch.reshape, torch.Tensor.reshape, torch.Tensor.view,
            torch.permute, torch.Tensor.permute, torch.transpose, torch.Tensor.transpose,
            torch.squeeze, torch.Tensor.squeeze, torch.unsqueeze, torch.Tensor.unsqueeze,
            torch.chunk, torch.Tensor.chunk, torch.split, torch.Tensor.split,
            torch.Tensor.unbind, torch.unbind, torch.Tensor.__getitem__, torch.Tensor.expand,
            torch.Tensor.repeat_interleave,
        ),
        _move,
    ),
    **dict.fromkeys(
        (F.dropout, torch.Tensor.contiguous, torch.Tensor.clone, torch.Tensor.detach,
         torch.Tensor.to),
        _pass_on,
    ),
}  # fmt: skip
"""Rule by function; of functions without one, the tensors they read are made float first."""
