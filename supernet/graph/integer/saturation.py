"""Proves that no pair of products saturates on processors without 8-bit dot products.

ONNX Runtime multiplies uint8 activations by int8 weights with VPMADDUBSW where a processor has no
VNNI: that instruction adds the products of two neighbours and saturates the sum to 16 bits, so the
result is silently wrong if a pair of weights is large
(https://www.intel.com/content/www/us/en/docs/intrinsics-guide, _mm256_maddubs_epi16). Which
weights are neighbours follows from the order in which the kernels of MLAS walk a layer
(https://github.com/microsoft/onnxruntime, onnxruntime/core/mlas/lib/amd64): entries 2i and 2i + 1
of the reduction, which is (kernel row, kernel column, input channel) for a convolution and the
input features for a matrix product; a last entry without a neighbour is paired with zero.
Depthwise kernels widen every value first and add one product at a time, which fits 16 bits, and
products of two activations are made from 16-bit values, so neither can saturate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch

from supernet.errors import InputError
from supernet.graph.integer.graph_values import read_stored
from supernet.graph.integer.reference_operators import read_integer
from supernet.graph.integer.runtime_rewrites import rewrite
from supernet.graph.integer.wiring import Wiring
from supernet.graph.language import Graph, Node
from supernet.graph.quantized.channel_padding import pad_channels

LARGEST_ACTIVATION = 255
LOWEST, HIGHEST = -(2**15), 2**15 - 1

REMEDY = "weights of at most 6 bits, such as w6a8"
"""What makes a layer safe: two weights of at most 64 cannot saturate, and of the formats on offer
those of 8 bits alone have larger ones."""


class Layout(Enum):
    """How a weight's axes are ordered, which says what its kernel reduces over.

    Attributes:
        CONVOLUTION: (output channels, input channels of a group, kernel sizes).
        DEPTHWISE: the same with one input and one output channel per group.
        ROWS: (output features, input features), a Gemm with ``transB``.
        COLUMNS: (input features, output features), a MatMul.
    """

    CONVOLUTION = "convolution"
    DEPTHWISE = "depthwise"
    ROWS = "rows"
    COLUMNS = "columns"


@dataclass(frozen=True, slots=True)
class SaturationVerdict:
    """Whether a layer's sums are exact for every activation, on every processor.

    Attributes:
        safe: no activation makes a pair saturate.
        pairs: how many pairs of weights are multiplied together.
        unsafe_pairs: how many of them some activation saturates.
        unsafe_channels: output channels with such pairs.
        worst: the sum of products farthest from zero that a pair can reach.
        remedy: what would make the layer safe; empty if it is.
    """

    safe: bool
    pairs: int
    unsafe_pairs: int
    unsafe_channels: tuple[int, ...]
    worst: int
    remedy: str


def prove_no_saturation(weight: np.ndarray, layout: Layout) -> SaturationVerdict:
    """Decide for one layer whether any activation can saturate a pair of products.

    Exact in both directions: activations lie in 0..255, so the sum of a pair is largest where the
    positive weights meet 255 and the others meet 0, and lowest the other way round. Two weights
    of one sign are therefore safe if they sum to at most 128, two of opposite signs always are.

    Args:
        weight: int8, axes as ``layout`` says.
        layout: the order of the axes.

    Returns:
        The verdict, with what to do if the layer is not safe.

    Raises:
        InputError: if the weight is not int8 or has another number of axes.
    """
    if layout is Layout.DEPTHWISE:
        _check_weight(weight, layout)
        return SaturationVerdict(True, 0, 0, (), 0, "")
    pairs = _split_pairs(order_reduction(weight, layout)).astype(np.int32)
    highest = LARGEST_ACTIVATION * np.maximum(pairs, 0).sum(-1)
    lowest = LARGEST_ACTIVATION * np.minimum(pairs, 0).sum(-1)
    unsafe = (highest > HIGHEST) | (lowest < LOWEST)
    extremes = np.where(highest >= -lowest, highest, lowest).reshape(-1)
    worst = int(extremes[np.abs(extremes).argmax()]) if extremes.size else 0
    channels = tuple(int(c) for c in np.flatnonzero(unsafe.any(-1)))
    count = int(unsafe.sum())
    remedy = REMEDY if count else ""
    return SaturationVerdict(not count, unsafe.size, count, channels, worst, remedy)


def order_reduction(weight: np.ndarray, layout: Layout) -> np.ndarray:
    """A layer's weights in the order in which its kernel reduces over them.

    Args:
        weight: int8, axes as ``layout`` says.
        layout: the order of the axes; not depthwise, whose kernel has no pairs.

    Returns:
        int8 (output channels, length of the reduction).

    Raises:
        InputError: if the weight is not int8, has another number of axes, or is depthwise.
    """
    _check_weight(weight, layout)
    if layout is Layout.DEPTHWISE:
        raise InputError("a depthwise convolution has no pairs; every product is made on its own")
    if layout is Layout.CONVOLUTION:
        return np.moveaxis(weight, 1, -1).reshape(weight.shape[0], -1)
    return weight.T if layout is Layout.COLUMNS else weight


def emulate_pairs(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Multiply as VPMADDUBSW, VPMADDWD and VPADDD do: exact but for pairs, which saturate.

    Args:
        activations: uint8 (rows, length of the reduction).
        weights: int8 (output channels, length of the reduction), as ``order_reduction`` gives.

    Returns:
        int32 (rows, output channels).
    """
    u = _split_pairs(activations).astype(np.int32)
    w = _split_pairs(weights).astype(np.int32)
    # One product per row, channel and position in a pair; the sum of a pair fits 32 bits.
    sums = (u[:, None] * w[None]).sum(-1)
    return sums.clip(LOWEST, HIGHEST).sum(-1, dtype=np.int32)


def find_worst_activations(weights: np.ndarray) -> np.ndarray:
    """Activations that take every pair of every channel to its highest and its lowest sum.

    Args:
        weights: int8 (output channels, length of the reduction).

    Returns:
        uint8 (2 * output channels, length of the reduction): the highest sums of each channel,
        then the lowest.
    """
    highest = np.where(weights > 0, LARGEST_ACTIVATION, 0)
    lowest = np.where(weights < 0, LARGEST_ACTIVATION, 0)
    return np.concatenate([highest, lowest]).astype(np.uint8)


def check_graph(graph: Graph, values: Mapping[str, np.ndarray]) -> dict[str, SaturationVerdict]:
    """Prove or refute for every layer that multiplies uint8 activations by int8 weights.

    Layers have the channels that they are written with, which decide over who is whose neighbour:
    a pixel of three channels becomes one of four in the model, and its third weight is paired with
    zero (:mod:`supernet.graph.quantized.channel_padding`).

    Args:
        graph: a QDQ graph, before it is written.
        values: the graph's weights by name.

    Returns:
        Verdicts by the name of the layer's weight, in the order of execution. Float weights that
        the runtime quantizes by itself are listed under the name of the layer's output. Products
        that the runtime leaves in float are listed too, since another batch size may change that.

    Raises:
        InputError: if a weight is missing or has another shape.
    """
    written = pad_channels(graph)
    rewritten, stored = rewrite(written, read_stored(written, values))
    wiring = Wiring(rewritten, stored)
    names = {spec.name for spec in graph.weights}
    verdicts: dict[str, SaturationVerdict] = {}
    for node in rewritten.nodes:
        found = _find_layer(wiring, node)
        if found is not None:
            name, layout = found
            # A weight with more channels is named after the one that it was, "+" and numbers.
            stem = name.rpartition("+")[0]
            verdict = prove_no_saturation(stored[name].numpy(), layout)
            verdicts[stem if stem in names else name] = verdict
    return verdicts


def _find_layer(wiring: Wiring, node: Node) -> tuple[str, Layout] | None:
    """Name and layout of the int8 weight that a node multiplies quantized activations by."""
    if not wiring.is_read(node):
        return None
    if node.op == "MatMulInteger":
        name = node.inputs[1]
        is_weight = name in wiring.stored and wiring.stored[name].dtype == torch.int8
        return (name, Layout.COLUMNS) if is_weight else None
    if node.op not in ("Conv", "Gemm", "MatMul") or wiring.activation(node.inputs[0]) is None:
        return None
    weight = wiring.weight(node.inputs[1])
    if weight is None:
        return None
    attributes = dict(node.attributes)
    if node.op == "Conv":
        groups = read_integer(attributes, "group", 1)
        outputs, inputs = wiring.stored[weight.values].shape[:2]
        is_depthwise = inputs == 1 and outputs == groups
        return weight.values, Layout.DEPTHWISE if is_depthwise else Layout.CONVOLUTION
    is_turned = node.op == "Gemm" and read_integer(attributes, "transB", 0)
    return weight.values, Layout.ROWS if is_turned else Layout.COLUMNS


def _check_weight(weight: np.ndarray, layout: Layout) -> None:
    is_matrix = layout in (Layout.ROWS, Layout.COLUMNS)
    fits = weight.ndim == 2 if is_matrix else weight.ndim > 2
    if weight.dtype != np.int8 or not fits:
        axes = "2 axes" if is_matrix else "3 axes or more"
        raise InputError(
            f"a {layout.value} weight is int8 with {axes}; "
            f"this one is {weight.dtype.name} with {weight.ndim}"
        )


def _split_pairs(array: np.ndarray) -> np.ndarray:
    """(rows, k) as (rows, pairs, 2), zero where the last entry has no neighbour."""
    rows, length = array.shape
    padded = np.pad(array, ((0, 0), (0, length % 2)))
    return padded.reshape(rows, -1, 2)
