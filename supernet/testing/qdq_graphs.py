"""Quantized networks as graphs, block by block and mixed at random, for checks and tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from supernet.graph.fusion.building import QdqGraphBuilder, QuantizedGraph
from supernet.graph.language import BATCH

CHANNELS = 16
WIDTH = 64
_TOKENS = 4
_HEADS = 4

Block = Callable[[QdqGraphBuilder, str, str, str], str]
"""Adds a block to a builder: what it reads, its name, its format; names what it makes."""


def read_quantized(b: QdqGraphBuilder, x: str, key: str) -> str:
    """Name a dequantized value of ``x``, quantized at ``key`` where it is not yet."""
    return x if b.is_quantized(x) else b.quantize(x, f"{key}.input")


def add_inverted_residual(b: QdqGraphBuilder, x: str, key: str, form: str) -> str:
    """Add an expansion, a depthwise convolution, squeeze-and-excitation and a projection.

    Args:
        b: Where to add.
        x: (batch, CHANNELS, height, width).
        key: The block's module path.
        form: ``"int8"`` or ``"fp32"``.
    """
    b.scope, wide = key, 2 * CHANNELS
    if form != "int8":
        y = b.add("HardSwish", (b.add_float_conv(x, f"{key}.expand", (CHANNELS, wide)),))
        y = b.add_float_conv(y, f"{key}.depthwise", (wide, wide), kernel=3, groups=wide)
        y = b.add("HardSwish", (y,))
        gate = b.add("GlobalAveragePool", (y,))
        gate = b.add("Relu", (b.add_float_conv(gate, f"{key}.reduce", (wide, 8)),))
        gate = b.add_float_conv(gate, f"{key}.gate", (8, wide))
        gate = b.add("HardSigmoid", (gate,), alpha=1 / 6, beta=0.5)
        y = b.add_float_conv(b.add("Mul", (y, gate)), f"{key}.project", (wide, CHANNELS))
        return b.add("Add", (y, x))
    x = read_quantized(b, x, key)
    y = b.quantize(b.add_conv(x, f"{key}.expand", (CHANNELS, wide)), f"{key}.expand")
    y = b.add_hard_swish(y, f"{key}.swish")
    y = b.add_conv(y, f"{key}.depthwise", (wide, wide), kernel=3, groups=wide)
    y = b.add_hard_swish(b.quantize(y, f"{key}.depthwise"), f"{key}.swish2")
    gate = b.quantize(b.add("GlobalAveragePool", (y,)), f"{key}.pool")
    gate = b.quantize(b.add_conv(gate, f"{key}.reduce", (wide, 8)), f"{key}.reduce", 0.02, 0)
    gate = b.quantize(b.add_conv(gate, f"{key}.gate", (8, wide)), f"{key}.gate")
    y = b.quantize(b.add("Mul", (y, b.add_hard_sigmoid(gate))), f"{key}.excite")
    y = b.quantize(b.add_conv(y, f"{key}.project", (wide, CHANNELS)), f"{key}.project")
    return b.quantize(b.add("Add", (y, x)), f"{key}.add")


def add_residual(
    b: QdqGraphBuilder, x: str, key: str, form: str, *, downsample: bool = False
) -> str:
    """Add two convolutions and a sum; the other branch is a convolution if ``downsample``."""
    b.scope, stride, sizes = key, 2 if downsample else 1, (CHANNELS, CHANNELS)
    if form != "int8":
        y = b.add_float_conv(x, f"{key}.first", sizes, kernel=3, stride=stride)
        y = b.add_float_conv(b.add("Relu", (y,)), f"{key}.second", sizes, kernel=3)
        short = b.add_float_conv(x, f"{key}.short", sizes, stride=stride) if downsample else x
        return b.add("Relu", (b.add("Add", (y, short)),))
    x = read_quantized(b, x, key)
    y = b.add_conv(x, f"{key}.first", sizes, kernel=3, stride=stride)
    y = b.add_conv(b.quantize(y, f"{key}.first", 0.02, 0), f"{key}.second", sizes, kernel=3)
    y = b.quantize(y, f"{key}.second")
    if downsample:
        short = b.add_conv(x, f"{key}.short", sizes, stride=stride)
        x = b.quantize(short, f"{key}.short")
    return b.quantize(b.add("Add", (y, x)), f"{key}.add", 0.02, 0)


def add_downsampling(b: QdqGraphBuilder, x: str, key: str, form: str) -> str:
    """Add a residual block that halves height and width."""
    return add_residual(b, x, key, form, downsample=True)


def add_pooling(b: QdqGraphBuilder, x: str, key: str, form: str) -> str:
    """Add a maximum pooling, which moves quantized values."""
    b.scope = key
    sizes = {"kernel_shape": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1)}
    if form != "int8":
        return b.add("MaxPool", (x,), **sizes)
    return b.move("MaxPool", read_quantized(b, x, key), **sizes)


def add_transformer(b: QdqGraphBuilder, x: str, key: str, form: str) -> str:
    """Add an attention and two linear layers with GELU, each after a layer normalisation.

    Args:
        b: Where to add.
        x: (batch, tokens, WIDTH).
        key: The block's module path.
        form: ``"int8"``, ``"int8-dynamic"``, ``"weights4"`` or ``"fp32"``.
    """
    b.scope = f"{key}.attention"
    y = b.add_layer_norm(x, f"{key}.norm", WIDTH)
    parts = [_add_linear(b, y, f"{key}.{n}", (WIDTH, WIDTH), form) for n in ("q", "k", "v")]
    heads = [_split_heads(b, p, f"{key}.{n}", form) for p, n in zip(parts, "qkv", strict=True)]
    scores = b.add("MatMul", heads[:2])
    scores = b.add("Mul", (scores, b.add_constant(np.float32(0.25))))
    if form == "int8":
        scores = b.quantize(scores, f"{key}.scores")
        weights = b.quantize_fixed(b.add("Softmax", (scores,), axis=-1), 1 / 256)
        y = b.quantize(b.add("MatMul", (weights, heads[2])), f"{key}.mixed")
    else:
        y = b.add("MatMul", (b.add("Softmax", (scores,), axis=-1), heads[2]))
    y = _reshape(b, _transpose(b, y, (0, 2, 1, 3)), (0, -1, WIDTH))
    x = b.add("Add", (_add_linear(b, y, f"{key}.out", (WIDTH, WIDTH), form), x))
    b.scope = f"{key}.ffn"
    y = b.add_layer_norm(x, f"{key}.norm2", WIDTH)
    y = b.add_gelu(_add_linear(b, y, f"{key}.up", (WIDTH, 2 * WIDTH), form))
    return b.add("Add", (_add_linear(b, y, f"{key}.down", (2 * WIDTH, WIDTH), form), x))


def _add_linear(b: QdqGraphBuilder, x: str, key: str, sizes: tuple[int, int], form: str) -> str:
    if form == "int8":
        return b.add_matmul(read_quantized(b, x, key), key, sizes)
    layers = {"int8-dynamic": b.add_dynamic, "weights4": b.add_weights4}
    return layers.get(form, b.add_float_linear)(x, key, sizes)


def _split_heads(b: QdqGraphBuilder, x: str, key: str, form: str) -> str:
    x = b.quantize(x, key) if form == "int8" else x
    x = _reshape(b, x, (0, -1, _HEADS, WIDTH // _HEADS))
    return _transpose(b, x, (0, 2, 3, 1) if key.endswith("k") else (0, 2, 1, 3))


def _reshape(b: QdqGraphBuilder, x: str, sizes: tuple[int, ...]) -> str:
    shape = b.add_constant(np.array(sizes))
    return b.move("Reshape", x, shape) if b.is_quantized(x) else b.add("Reshape", (x, shape))


def _transpose(b: QdqGraphBuilder, x: str, order: tuple[int, ...]) -> str:
    if b.is_quantized(x):
        return b.move("Transpose", x, perm=order)
    return b.add("Transpose", (x,), perm=order)


IMAGE_BLOCKS: tuple[Block, ...] = (
    add_inverted_residual,
    add_residual,
    add_downsampling,
    add_pooling,
)


def build_image_network(
    blocks: list[tuple[Block, str]], *, seed: int = 0, batch: int | str = BATCH
) -> QuantizedGraph:
    """Build a network of blocks, each in a format, and an int8 classifier behind them."""
    b = QdqGraphBuilder(seed)
    x = b.add_input("pixels", (batch, CHANNELS, 16, 16))
    for index, (block, form) in enumerate(blocks):
        x = block(b, x, f"blocks.{index}", form)
    b.scope = "head"
    x = b.quantize(b.add("GlobalAveragePool", (read_quantized(b, x, "head"),)), "head.pool")
    x = b.move("Flatten", x, axis=1)
    logits = b.add_gemm(x, "head.classifier", (CHANNELS, 10))
    return b.finish({logits: ((batch, 10), "float32")})


def build_token_network(
    forms: list[str], *, seed: int = 0, batch: int | str = BATCH
) -> QuantizedGraph:
    """Build a network of transformer blocks, one per format."""
    b = QdqGraphBuilder(seed)
    x = b.add_input("tokens", (batch, _TOKENS, WIDTH))
    for index, form in enumerate(forms):
        x = add_transformer(b, x, f"layers.{index}", form)
    return b.finish({x: ((batch, _TOKENS, WIDTH), "float32")})


def draw_image_network(seed: int, *, batch: int | str = BATCH) -> QuantizedGraph:
    """Build a network of two to six random blocks in random formats."""
    rng = np.random.default_rng(seed)
    blocks = [
        (IMAGE_BLOCKS[rng.integers(len(IMAGE_BLOCKS))], str(rng.choice(["int8", "fp32"])))
        for _ in range(rng.integers(2, 7))
    ]
    return build_image_network(blocks, seed=seed, batch=batch)


def draw_token_network(seed: int, *, batch: int | str = BATCH) -> QuantizedGraph:
    """Build a network of one to three transformer blocks in random formats."""
    rng = np.random.default_rng(seed)
    choices = ["fp32", "int8", "int8-dynamic", "weights4"]
    forms = [str(rng.choice(choices)) for _ in range(rng.integers(1, 4))]
    return build_token_network(forms, seed=seed, batch=batch)
