"""The patterns that quantized networks are written with, each as a model of a few operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from supernet.graph.fusion.building import QdqGraphBuilder, QuantizedGraph
from supernet.graph.fusion.contract import MOVED
from supernet.graph.language import BATCH, Attribute

_CHANNELS = 16
_SIDE = 8
_WIDTH = 64
_IMAGE: tuple[int | str, ...] = (BATCH, _CHANNELS, _SIDE, _SIDE)
_ROWS: tuple[int | str, ...] = (BATCH, _WIDTH)
_TOKENS: tuple[int | str, ...] = (BATCH, 4, _WIDTH)


@dataclass(frozen=True)
class Pattern:
    """A model and what of it is allowed to be a border between float and int8.

    Attributes:
        built: The model.
        quantize: How many QuantizeLinear belong to its own inputs and outputs.
        dequantize: How many DequantizeLinear do.
    """

    built: QuantizedGraph
    quantize: int
    dequantize: int


def build_patterns() -> Mapping[str, Pattern]:
    """Build every pattern by name."""
    return {
        **{name: _build_unary(*case) for name, case in _UNARY.items()},
        **{name: _build_binary(op) for name, op in _BINARY.items()},
        **{name: _build_layer(write, x, quantized) for name, (write, x, quantized) in _LAYERS},
        **{MOVED[op]: _build_moved(op) for op in MOVED},
        **{f"through_{MOVED[op]}": _build_carrying(op) for op in MOVED},
    }


_UNARY: Mapping[str, tuple[str, tuple[int | str, ...], dict[str, Attribute]]] = {
    "average_pool": ("AveragePool", _IMAGE, {"kernel_shape": (2, 2), "strides": (2, 2)}),
    "clip": ("Clip", _IMAGE, {}),
    "global_average_pool": ("GlobalAveragePool", _IMAGE, {}),
    "hard_sigmoid": ("HardSigmoid", _IMAGE, {"alpha": 1 / 6, "beta": 0.5}),
    "hard_swish": ("HardSwish", _IMAGE, {}),
    "layer_norm": ("LayerNormalization", _TOKENS, {"axis": -1}),
    "leaky_relu": ("LeakyRelu", _IMAGE, {"alpha": 0.1}),
    "reduce_mean": ("ReduceMean", _IMAGE, {}),
    "relu": ("Relu", _IMAGE, {}),
    "sigmoid": ("Sigmoid", _IMAGE, {}),
    "softmax": ("Softmax", _TOKENS, {"axis": -1}),
    "tanh": ("Tanh", _IMAGE, {}),
}
_BINARY: Mapping[str, str] = {"add": "Add", "div": "Div", "mul": "Mul", "sub": "Sub"}

Write = Callable[[QdqGraphBuilder, str], str]


def _build_unary(
    op: str, shape: tuple[int | str, ...], attributes: dict[str, Attribute]
) -> Pattern:
    b = QdqGraphBuilder()
    x = b.quantize(b.add_input("x", shape), "x")
    rest: list[str] = []
    if op == "Clip":
        rest = [b.add_constant(np.float32(-1)), b.add_constant(np.float32(1))]
    elif op == "LayerNormalization":
        rest = [b.add_constant(np.ones(_WIDTH, np.float32))]
    elif op == "ReduceMean":
        rest = [b.add_constant(np.array([2, 3]))]
    return _finish(b, b.quantize(b.add(op, (x, *rest), **attributes), "y"), len(shape), 1, 1)


def _build_binary(op: str) -> Pattern:
    b = QdqGraphBuilder()
    x = b.quantize(b.add_input("x", _IMAGE), "x")
    z = b.quantize(b.add_input("z", _IMAGE), "z")
    return _finish(b, b.quantize(b.add(op, (x, z)), "y"), 4, 2, 1)


def _build_layer(write: Write, shape: tuple[int | str, ...], borders: tuple[int, int]) -> Pattern:
    b = QdqGraphBuilder()
    y = write(b, b.add_input("x", shape))
    return _finish(b, y, len(shape), *borders)


def _move(b: QdqGraphBuilder, op: str, x: str) -> str:
    """Apply a moving operator to an image; the first output of several."""
    arrays: Mapping[str, list[np.ndarray]] = {
        "Expand": [np.array([2, 1, 1, 1, 1])],
        "Gather": [np.array([0, 1])],
        "ReduceMax": [np.array([2, 3])],
        "ReduceMin": [np.array([2, 3])],
        "Reshape": [np.array([0, _CHANNELS, _SIDE * _SIDE])],
        "Slice": [np.array([0]), np.array([4]), np.array([1])],
        "Squeeze": [np.array([4])],
        "Tile": [np.array([1, 1, 2, 2])],
        "Unsqueeze": [np.array([1])],
    }
    attributes: Mapping[str, dict[str, Attribute]] = {
        "Flatten": {"axis": 1},
        "Gather": {"axis": 1},
        "MaxPool": {"kernel_shape": (2, 2), "strides": (2, 2)},
        "Resize": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"},
        "Transpose": {"perm": (0, 2, 3, 1)},
    }
    inputs = [x, *(b.add_constant(a) for a in arrays.get(op, []))]
    if op == "Resize":
        inputs = [x, "", b.add_constant(np.array([1, 1, 2, 2], np.float32))]
    return b.add(op, inputs, **attributes.get(op, {}))


def _build_moved(op: str) -> Pattern:
    shape = (*_IMAGE, 1) if op == "Squeeze" else _IMAGE
    b = QdqGraphBuilder()
    x = b.quantize(b.add_input("x", shape), "x")
    if op != "Split":
        return _finish(b, b.quantize(_move(b, op, x), "x"), 4, 1, 1)
    halves = b.add_many("Split", (x, b.add_constant(np.array([8, 8]))), 2, axis=1)
    first, second = (b.quantize(half, "x") for half in halves)
    return _finish(b, b.quantize(b.add("Add", (first, second)), "y"), 4, 1, 1)


def _build_carrying(op: str) -> Pattern:
    """A sigmoid whose result is quantized only behind a moving operator."""
    shape = (*_IMAGE, 1) if op == "Squeeze" else _IMAGE
    b = QdqGraphBuilder()
    x = b.quantize(b.add_input("x", shape), "x")
    y = b.add("Sigmoid", (x,))
    if op == "Split":
        halves = b.add_many("Split", (y, b.add_constant(np.array([8, 8]))), 2, axis=1)
        y, other = (b.quantize(half, "y") for half in halves)
        return _finish(b, b.quantize(b.add("Add", (y, other)), "z"), 4, 1, 1)
    return _finish(b, b.quantize(_move(b, op, y), "y"), 4, 1, 1)


# -- layers and combinations -----------------------------------------------------------------


def _conv(b: QdqGraphBuilder, x: str, groups: int = 1) -> str:
    q = b.quantize(x, "x")
    return b.add_conv(q, "conv", (_CHANNELS, _CHANNELS), kernel=3, groups=groups)


def _conv_clip(scale: float) -> Write:
    def write(b: QdqGraphBuilder, x: str) -> str:
        bounds = [b.add_constant(np.float32(v)) for v in (0, 6)]
        return b.quantize(b.add("Clip", (_conv(b, x), *bounds)), "y", scale / 255, 0)

    return write


def _gemm_clip(b: QdqGraphBuilder, x: str) -> str:
    y = b.add_gemm(b.quantize(x, "x"), "fc", _LINEAR)
    bounds = [b.add_constant(np.float32(v)) for v in (0, 6)]
    return b.quantize(b.add("Clip", (y, *bounds)), "y", 8 / 255, 0)


def _product_clip(b: QdqGraphBuilder, x: str) -> str:
    bounds = [b.add_constant(np.float32(v)) for v in (0, 6)]
    return b.quantize(b.add("Clip", (_product(b, x), *bounds)), "y", 8 / 255, 0)


def _conv_bias_scale_off(b: QdqGraphBuilder, x: str) -> str:
    q = b.quantize(x, "x")
    size = (_CHANNELS, _CHANNELS, 1, 1)
    bias = [
        b.add_constant(np.ones(_CHANNELS, np.int32)),
        b.add_constant(np.full(_CHANNELS, 0.05 * 0.01 * 1.1, np.float32)),
    ]
    names = (q, _dequantize_rows(b, size, 0), b.add("DequantizeLinear", bias, axis=0))
    return b.quantize(b.add("Conv", names, kernel_shape=(1, 1)), "y")


def _hard_swish_sum(b: QdqGraphBuilder, x: str) -> str:
    return b.add_hard_swish_sum(b.quantize(x, "x"), "y")


def _hard_swish_clip(b: QdqGraphBuilder, x: str) -> str:
    return b.add_hard_swish(b.quantize(_conv(b, x), "y"), "z")


def _silu(b: QdqGraphBuilder, x: str) -> str:
    q = b.quantize(x, "x")
    return b.quantize(b.add("Mul", (q, b.quantize_fixed(b.add("Sigmoid", (q,)), 1 / 256))), "y")


def _concat(b: QdqGraphBuilder, x: str) -> str:
    q = b.quantize(x, "x")
    return b.quantize(b.add("Concat", (q, b.quantize(b.add("Sigmoid", (q,)), "s")), axis=1), "y")


def _where(b: QdqGraphBuilder, x: str) -> str:
    mask = b.add_constant(np.array([[True, False] * (_WIDTH // 2)]))
    low = [b.add_constant(v) for v in (np.uint8(0), np.float32(0.05), np.uint8(128))]
    return b.quantize(
        b.add("Where", (mask, b.quantize(x, "x"), b.add("DequantizeLinear", low))), "y"
    )


def _product(b: QdqGraphBuilder, x: str) -> str:
    q = b.quantize(x, "x")
    turned = b.move("Transpose", q, perm=(0, 2, 1))
    return b.add("MatMul", (q, turned))


def _gelu(b: QdqGraphBuilder, x: str) -> str:
    return b.quantize(b.add_gelu(b.quantize(x, "x")), "y")


def _dequantize_rows(b: QdqGraphBuilder, shape: tuple[int, ...], top: int, axis: int = 0) -> str:
    """Dequantize weights per channel; zero points run from 0 to ``top``."""
    levels = b.add_constant(np.ones(shape, np.int8))
    scale = b.add_constant(np.full(shape[axis], 0.01, np.float32))
    zeros = b.add_constant((np.arange(shape[axis]) % (top + 1)).astype(np.int8))
    return b.add("DequantizeLinear", (levels, scale, zeros), axis=axis)


def _dequantize_blocks(b: QdqGraphBuilder, shape: tuple[int, ...], axis: int) -> str:
    blocks = tuple(-(-size // 32) if i == axis else size for i, size in enumerate(shape))
    levels = b.add_constant(np.ones(shape, np.int8))
    scale = b.add_constant(np.full(blocks, 0.01, np.float32))
    return b.add("DequantizeLinear", (levels, scale), axis=axis, block_size=32)


def _with_weight(op: str, weight: Callable[[QdqGraphBuilder], str], *, quantized: bool) -> Write:
    def write(b: QdqGraphBuilder, x: str) -> str:
        attributes: dict[str, Attribute] = {"transB": 1} if op == "Gemm" and quantized else {}
        if op == "Conv":
            attributes = {"kernel_shape": (1, 1)}
        y = b.add(op, (b.quantize(x, "x") if quantized else x, weight(b)), **attributes)
        return b.quantize(y, "y") if quantized else y

    return write


def _float_conv_between(b: QdqGraphBuilder, x: str) -> str:
    q = b.quantize(x, "x")
    return b.quantize(b.add_float_conv(q, "conv", (_CHANNELS, _CHANNELS)), "y")


def _float_gemm_between(b: QdqGraphBuilder, x: str) -> str:
    q = b.quantize(x, "x")
    weight = b.add_weight("weight", np.ones((_WIDTH, _WIDTH), np.float32))
    bias = b.add_weight("bias", np.ones(_WIDTH, np.float32))
    return b.quantize(b.add("Gemm", (q, weight, bias), transB=1), "y")


def _shared_dynamic(b: QdqGraphBuilder, x: str) -> str:
    pair = [b.add_dynamic(x, key, (_WIDTH, _WIDTH)) for key in ("first", "second")]
    return b.add("Sub", pair)


_CONV_SHAPE = (_CHANNELS, 32, 1, 1)
_LINEAR = (_WIDTH, _WIDTH)
_LAYERS: tuple[tuple[str, tuple[Write, tuple[int | str, ...], tuple[int, int]]], ...] = (
    ("conv", (lambda b, x: b.quantize(_conv(b, x), "y"), _IMAGE, (1, 1))),
    ("depthwise", (lambda b, x: b.quantize(_conv(b, x, _CHANNELS), "y"), _IMAGE, (1, 1))),
    (
        "conv_relu",
        (lambda b, x: b.quantize(b.add("Relu", (_conv(b, x),)), "y", 0.02, 0), _IMAGE, (1, 1)),
    ),
    ("conv_bias_scale_off", (_conv_bias_scale_off, _IMAGE, (1, 1))),
    ("conv_clip", (_conv_clip(6.0), _IMAGE, (1, 1))),
    ("conv_clip_beyond", (_conv_clip(8.0), _IMAGE, (1, 1))),
    ("gemm_clip_beyond", (_gemm_clip, _ROWS, (1, 1))),
    ("act_matmul_clip_beyond", (_product_clip, _TOKENS, (1, 1))),
    ("hard_sigmoid_sum", (lambda b, x: b.add_hard_sigmoid(b.quantize(x, "x")), _IMAGE, (1, 1))),
    ("hard_swish_sum", (_hard_swish_sum, _IMAGE, (1, 1))),
    ("hard_swish_clip", (_hard_swish_clip, _IMAGE, (1, 1))),
    ("silu", (_silu, _IMAGE, (1, 1))),
    ("concat", (_concat, _IMAGE, (1, 1))),
    ("where", (_where, _ROWS, (1, 1))),
    ("gelu", (_gelu, _TOKENS, (1, 1))),
    (
        "gemm_q",
        (
            lambda b, x: b.quantize(b.add_gemm(b.quantize(x, "x"), "fc", _LINEAR), "y"),
            _ROWS,
            (1, 1),
        ),
    ),
    (
        "gemm_float_out",
        (lambda b, x: b.add_gemm(b.quantize(x, "x"), "fc", _LINEAR), _ROWS, (1, 0)),
    ),
    (
        "matmul_q",
        (
            _with_weight("MatMul", lambda b: _dequantize_rows(b, _LINEAR, 0, 1), quantized=True),
            _TOKENS,
            (1, 1),
        ),
    ),
    (
        "matmul_float_out",
        (lambda b, x: b.add_matmul(b.quantize(x, "x"), "fc", _LINEAR), _TOKENS, (1, 0)),
    ),
    ("act_matmul", (lambda b, x: b.quantize(_product(b, x), "y"), _TOKENS, (1, 1))),
    ("act_matmul_float_out", (_product, _TOKENS, (1, 0))),
    ("dynamic_matmul", (lambda b, x: b.add_dynamic(x, "fc", _LINEAR), _TOKENS, (0, 0))),
    ("dynamic_matmul_shared", (_shared_dynamic, _TOKENS, (0, 0))),
    ("block4_matmul", (lambda b, x: b.add_weights4(x, "fc", _LINEAR), _TOKENS, (0, 0))),
    (
        "block4_matmul_of_quantized",
        (lambda b, x: b.add_weights4(b.quantize(x, "x"), "fc", _LINEAR), _TOKENS, (1, 1)),
    ),
    (
        "block4_matmul_q",
        (
            lambda b, x: b.quantize(b.add("MatMul", (x, _dequantize_blocks(b, _LINEAR, 0))), "y"),
            _TOKENS,
            (1, 1),
        ),
    ),
    (
        "weight_only_conv",
        (
            _with_weight("Conv", lambda b: _dequantize_rows(b, (16, 16, 1, 1), 0), quantized=False),
            _IMAGE,
            (0, 0),
        ),
    ),
    (
        "weight_only_matmul",
        (
            _with_weight("MatMul", lambda b: _dequantize_rows(b, _LINEAR, 0, 1), quantized=False),
            _TOKENS,
            (0, 0),
        ),
    ),
    (
        "block4_gemm",
        (
            _with_weight("Gemm", lambda b: _dequantize_blocks(b, _LINEAR, 0), quantized=False),
            _ROWS,
            (0, 0),
        ),
    ),
    (
        "weight_only_gemm",
        (
            _with_weight("Gemm", lambda b: _dequantize_rows(b, _LINEAR, 0, 1), quantized=False),
            _ROWS,
            (0, 0),
        ),
    ),
    (
        "group_conv",
        (
            _with_weight("Conv", lambda b: _dequantize_blocks(b, _CONV_SHAPE, 1), quantized=True),
            (BATCH, 32, _SIDE, _SIDE),
            (1, 1),
        ),
    ),
    (
        "group_gemm",
        (
            _with_weight("Gemm", lambda b: _dequantize_blocks(b, _LINEAR, 1), quantized=True),
            _ROWS,
            (1, 1),
        ),
    ),
    (
        "asymmetric_conv",
        (
            _with_weight("Conv", lambda b: _dequantize_rows(b, (16, 16, 1, 1), 3), quantized=True),
            _IMAGE,
            (1, 1),
        ),
    ),
    (
        "asymmetric_gemm",
        (
            _with_weight("Gemm", lambda b: _dequantize_rows(b, _LINEAR, 3), quantized=True),
            _ROWS,
            (1, 1),
        ),
    ),
    ("float_conv_between", (_float_conv_between, _IMAGE, (1, 1))),
    ("float_gemm_between", (_float_gemm_between, _ROWS, (1, 1))),
)


def _finish(b: QdqGraphBuilder, y: str, rank: int, quantize: int, dequantize: int) -> Pattern:
    shape = [BATCH, *(f"d{i}" for i in range(1, rank))]
    return Pattern(b.finish({y: (shape, "float32")}), quantize, dequantize)
