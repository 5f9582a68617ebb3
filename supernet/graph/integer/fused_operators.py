"""Which nodes of a QDQ graph ONNX Runtime runs as one quantized operator, found by their wiring.

A quantized operator is a node whose inputs come from DequantizeLinear and whose output goes into
QuantizeLinear. Only those whose arithmetic differs from "dequantize, compute in float32, quantize"
are named here: moving data, tables (Sigmoid, LeakyRelu) and Concat give the same bits either way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from supernet.graph.integer import integer_kernels as kernels
from supernet.graph.integer.reference_operators import read_integer, read_integers
from supernet.graph.integer.wiring import Parameters, Tensors, Wiring
from supernet.graph.language import Graph, Node

_BIAS_TOLERANCE = 0.01
"""Relative difference of a bias's steps up to which ONNX Runtime 1.32 fuses a convolution."""


@dataclass(frozen=True, slots=True)
class FusedOperator:
    """One quantized operator.

    Attributes:
        kind: the runtime's name for it.
        output: the tensor it makes.
        reads: the tensors it needs.
        run: makes the output from them.
    """

    kind: str
    output: str
    reads: tuple[str, ...]
    run: Callable[[Tensors], Tensor]


def find_fused_operators(graph: Graph, stored: Tensors) -> list[FusedOperator]:
    """Find the quantized operators of a graph whose arithmetic is their own.

    Args:
        graph: a network with QuantizeLinear and DequantizeLinear nodes, as the runtime rewrote it.
        stored: values of the graph's weights and constants, by name.

    Returns:
        The operators, in the order of the nodes they start with.
    """
    wiring = Wiring(graph, stored)
    candidates = (n for n in graph.nodes if n.op in _FUSIONS and wiring.is_read(n))
    found = (_FUSIONS[n.op](wiring, n) for n in candidates)
    return [operator for operator in found if operator is not None]


def _scale_names(quantizer: Parameters | None) -> tuple[str, ...]:
    return () if quantizer is None else (quantizer.step, quantizer.zero_point)


def _value_names(parameters: Parameters | None) -> tuple[str, ...]:
    return () if parameters is None else (parameters.values,)


def _fuse_convolution(wiring: Wiring, node: Node) -> FusedOperator | None:
    x, weight = wiring.activation(node.inputs[0]), wiring.weight(node.inputs[1])
    output = wiring.quantizer(node.outputs[0])
    has_bias = len(node.inputs) > 2
    bias = wiring.weight(node.inputs[2], torch.int32) if has_bias else None
    if x is None or weight is None or output is None or (has_bias and bias is None):
        return None
    is_image = wiring.stored[weight.values].dim() == 4
    if not is_image or not _has_steps_of_products(wiring, x, weight, bias):
        return None
    attributes = dict(node.attributes)

    def run(tensors: Tensors) -> Tensor:
        return kernels.convolve(
            x.read(tensors),
            weight.read(tensors),
            None if bias is None else tensors[bias.values],
            output.scale(tensors),
            strides=read_integers(attributes, "strides", (1, 1)),
            pads=read_integers(attributes, "pads", (0, 0, 0, 0)),
            dilations=read_integers(attributes, "dilations", (1, 1)),
            groups=read_integer(attributes, "group", 1),
        )

    reads = (*x.names, *weight.names, *_value_names(bias), *_scale_names(output))
    return FusedOperator("QLinearConv", output.values, reads, run)


def _has_steps_of_products(
    wiring: Wiring, x: Parameters, weight: Parameters, bias: Parameters | None
) -> bool:
    """Whether a bias is in the steps of products, which the runtime asks of convolutions."""
    if bias is None:
        return True
    products = wiring.stored[x.step] * wiring.stored[weight.step]
    return torch.allclose(wiring.stored[bias.step], products, rtol=_BIAS_TOLERANCE, atol=0.0)


def _fuse_gemm(wiring: Wiring, node: Node) -> FusedOperator | None:
    blocks = _fuse_blockwise(wiring, node)
    if blocks is not None:
        return blocks
    x, weight = wiring.activation(node.inputs[0]), wiring.weight(node.inputs[1])
    has_bias = len(node.inputs) > 2 and node.inputs[2] != ""
    bias = wiring.weight(node.inputs[2], torch.int32) if has_bias else None
    attributes = dict(node.attributes)
    scaled = attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0
    if x is None or weight is None or (has_bias and bias is None) or scaled:
        return None
    if read_integer(attributes, "transA", 0):
        return None
    output = wiring.quantizer(node.outputs[0])
    turned = bool(read_integer(attributes, "transB", 0))

    def run(tensors: Tensors) -> Tensor:
        other = weight.read(tensors)
        if turned:
            other = kernels.Quantized(other.values.T, other.scale)
        offset = None if bias is None else tensors[bias.values]
        scale = None if output is None else output.scale(tensors)
        return kernels.multiply_matrices(x.read(tensors), other, offset, scale)

    reads = (*x.names, *weight.names, *_value_names(bias), *_scale_names(output))
    made = node.outputs[0] if output is None else output.values
    return FusedOperator("QGemm", made, reads, run)


def _fuse_product(wiring: Wiring, node: Node) -> FusedOperator | None:
    blocks = _fuse_blockwise(wiring, node)
    if blocks is not None:
        return blocks
    x = wiring.activation(node.inputs[0])
    other = wiring.weight(node.inputs[1]) or wiring.activation(node.inputs[1])
    if x is None or other is None:
        return None
    output = wiring.quantizer(node.outputs[0])

    def run(tensors: Tensors) -> Tensor:
        scale = None if output is None else output.scale(tensors)
        return kernels.multiply_matrices(x.read(tensors), other.read(tensors), None, scale)

    reads = (*x.names, *other.names, *_scale_names(output))
    if output is None:
        return FusedOperator("MatMulIntegerToFloat", node.outputs[0], reads, run)
    return FusedOperator("QLinearMatMul", output.values, reads, run)


def _fuse_blockwise(wiring: Wiring, node: Node) -> FusedOperator | None:
    weight = wiring.dequantized(node.inputs[1])
    if weight is None or not weight.block or weight.values not in wiring.stored:
        return None
    x, bias = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else ""
    # A quantizer on either side makes it a float product with weights dequantized at every run.
    if wiring.dequantized(x) is not None or wiring.quantizer(node.outputs[0]) is not None:
        return None

    def run(tensors: Tensors) -> Tensor:
        values = tensors[weight.values]
        if weight.zero_point:
            moved = tensors[weight.zero_point].repeat_interleave(weight.block, 0)
            values = values.to(torch.int32) - moved[: values.shape[0]].to(torch.int32)
        product = kernels.multiply_blockwise(tensors[x], values, tensors[weight.step], weight.block)
        return product + tensors[bias] if bias else product

    reads = (x, *weight.names, *((bias,) if bias else ()))
    return FusedOperator("MatMulNBits", node.outputs[0], reads, run)


def _fuse_binary(
    kind: str,
    kernel: Callable[[kernels.Quantized, kernels.Quantized, kernels.Scale], Tensor],
    wiring: Wiring,
    node: Node,
) -> FusedOperator | None:
    a, b = (wiring.activation(name) for name in node.inputs)
    output = wiring.quantizer(node.outputs[0])
    if a is None or b is None or output is None:
        return None

    def run(tensors: Tensors) -> Tensor:
        return kernel(a.read(tensors), b.read(tensors), output.scale(tensors))

    return FusedOperator(kind, output.values, (*a.names, *b.names, *_scale_names(output)), run)


def _fuse_unary(
    kind: str,
    kernel: Callable[[Node, kernels.Quantized, kernels.Scale], Tensor],
    wiring: Wiring,
    node: Node,
) -> FusedOperator | None:
    x, output = wiring.activation(node.inputs[0]), wiring.quantizer(node.outputs[0])
    if x is None or output is None:
        return None

    def run(tensors: Tensors) -> Tensor:
        return kernel(node, x.read(tensors), output.scale(tensors))

    return FusedOperator(kind, output.values, (*x.names, *_scale_names(output)), run)


def _average_windows(node: Node, x: kernels.Quantized, output: kernels.Scale) -> Tensor:
    attributes = dict(node.attributes)
    return kernels.average_windows(
        x,
        output,
        kernel=read_integers(attributes, "kernel_shape"),
        strides=read_integers(attributes, "strides", (1, 1)),
        pads=read_integers(attributes, "pads", (0, 0, 0, 0)),
        count_padding=bool(read_integer(attributes, "count_include_pad", 0)),
        partial=bool(read_integer(attributes, "ceil_mode", 0)),
    )


def _average_all(node: Node, x: kernels.Quantized, output: kernels.Scale) -> Tensor:
    return kernels.average_all(x, output)


def _softmax(node: Node, x: kernels.Quantized, output: kernels.Scale) -> Tensor:
    return kernels.softmax(x, read_integer(dict(node.attributes), "axis", -1), output)


_FUSIONS: dict[str, Callable[[Wiring, Node], FusedOperator | None]] = {
    "Conv": _fuse_convolution,
    "Gemm": _fuse_gemm,
    "MatMul": _fuse_product,
    "Add": partial(_fuse_binary, "QLinearAdd", kernels.add),
    "Mul": partial(_fuse_binary, "QLinearMul", kernels.multiply),
    "GlobalAveragePool": partial(_fuse_unary, "QLinearGlobalAveragePool", _average_all),
    "AveragePool": partial(_fuse_unary, "QLinearAveragePool", _average_windows),
    "Softmax": partial(_fuse_unary, "QLinearSoftmax", _softmax),
}
