"""Small graphs that quantize and dequantize, written by hand, and what ONNX Runtime makes of them.

Every method appends operators in the form that exported networks have, and returns the name of
the float tensor that comes out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from supernet.graph.language import BATCH, Attribute, Constant, Graph, Node, TensorSpec
from supernet.graph.onnx_model import to_onnx


class QuantizedGraph:
    """A graph under construction, with one input ``x`` and one output ``y``."""

    def __init__(self, shape: tuple[int, ...], dtype: str = "float32") -> None:
        self.input = TensorSpec("x", (BATCH, *shape), dtype)
        self.nodes: list[Node] = []
        self.weights: dict[str, TensorSpec] = {}
        self.constants: dict[str, Constant] = {}
        self.scope = ""

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Attribute) -> str:
        names = [f"v{len(self.nodes)}", *(f"v{len(self.nodes)}_{i}" for i in range(1, outputs))]
        pairs = tuple(sorted(attributes.items()))
        self.nodes.append(Node(op, inputs, tuple(names), pairs, self.scope))
        return names[0]

    def weight(self, name: str, shape: tuple[int, ...], dtype: str, bits: int = 0) -> str:
        self.weights[name] = TensorSpec(name, shape, dtype, bits)
        return name

    def constant(self, array: np.ndarray) -> str:
        for name, known in self.constants.items():
            if known == Constant.from_array(name, array):
                return name
        name = f"constant_{len(self.constants)}"
        self.constants[name] = Constant.from_array(name, array)
        return name

    def steps(self, key: str) -> tuple[str, str]:
        scale = self.weight(f"{key}.scale", (), "float32")
        return scale, self.weight(f"{key}.zero_point", (), "uint8")

    def quantize(self, name: str, key: str) -> str:
        steps = self.steps(key)
        return self.add("DequantizeLinear", self.add("QuantizeLinear", name, *steps), *steps)

    def quantize_fixed(self, name: str, levels: int) -> str:
        """Quantize 0..1 with ``levels`` steps, from zero."""
        scale, zero = np.float32(1 / levels), np.uint8(0)
        steps = (self.constant(np.asarray(scale)), self.constant(np.asarray(zero)))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", name, *steps), *steps)

    def _affine(self, name: str, shape: tuple[int, ...], bits: int, axis: int) -> tuple[str, str]:
        """A weight and a bias, dequantized."""
        self.scope = name
        size = shape[axis]
        zeros = self.constant(np.zeros(size, dtype=np.int8))
        w = self.weight(f"{name}.weight", shape, "int8", bits)
        scale = self.weight(f"{name}.weight.scale", (size,), "float32")
        weight = self.add("DequantizeLinear", w, scale, zeros, axis=axis)
        b = self.weight(f"{name}.bias", (size,), "int32")
        scale = self.weight(f"{name}.bias.scale", (size,), "float32")
        return weight, self.add("DequantizeLinear", b, scale, axis=0)

    def conv(
        self, x: str, name: str, shape: tuple[int, int, int, int], bits: int = 0, group: int = 1
    ) -> str:
        weight, bias = self._affine(name, shape, bits, 0)
        return self.add(
            "Conv",
            x,
            weight,
            bias,
            dilations=(1, 1),
            group=group,
            kernel_shape=shape[2:],
            pads=tuple(k // 2 for k in shape[2:]) * 2,
            strides=(1, 1),
        )

    def gemm(self, x: str, name: str, shape: tuple[int, int], bits: int = 0) -> str:
        return self.add("Gemm", x, *self._affine(name, shape, bits, 0), transB=1)

    def matmul(self, x: str, name: str, shape: tuple[int, int], bits: int = 0) -> str:
        """Weights of shape (in, out) and a float bias."""
        zeros = self.constant(np.zeros(shape[1], dtype=np.int8))
        w = self.weight(f"{name}.weight", shape, "int8", bits)
        scale = self.weight(f"{name}.weight.scale", shape[1:], "float32")
        weight = self.add("DequantizeLinear", w, scale, zeros, axis=1)
        return self._add_bias(self.add("MatMul", x, weight), name, shape[1])

    def matmul_dynamic(self, x: str, name: str, shape: tuple[int, int], bits: int = 0) -> str:
        q = self.add("DynamicQuantizeLinear", x, outputs=3)
        w = self.weight(f"{name}.weight", shape, "int8", bits)
        product = self.add("MatMulInteger", q, w, f"{q}_2")
        number = self.add("Cast", product, to=onnx.TensorProto.FLOAT)
        scale = self.weight(f"{name}.weight.scale", shape[1:], "float32")
        product = self.add("Mul", number, self.add("Mul", f"{q}_1", scale))
        return self._add_bias(product, name, shape[1])

    def matmul_blocks(self, x: str, name: str, shape: tuple[int, int]) -> str:
        """Four bits in blocks of 32 input features."""
        w = self.weight(f"{name}.weight", shape, "int4")
        scale = self.weight(f"{name}.weight.scale", (shape[0] // 32, shape[1]), "float32")
        weight = self.add("DequantizeLinear", w, scale, axis=0, block_size=32)
        return self._add_bias(self.add("MatMul", x, weight), name, shape[1])

    def _add_bias(self, x: str, name: str, size: int) -> str:
        return self.add("Add", x, self.weight(f"{name}.bias", (size,), "float32"))

    def hardsigmoid(self, x: str, key: str) -> str:
        """HardSigmoid of what was quantized last, with ``key``, by an addition that saturates."""
        integers = next(n for n in self.nodes if n.outputs == (x,)).inputs[0]
        sixth = self.weight(f"{key}.sixth", (), "float32")
        third = self.add("DequantizeLinear", integers, sixth, f"{key}.zero_point")
        half = self.add(
            "DequantizeLinear",
            self.constant(np.asarray(np.uint8(128))),
            self.constant(np.asarray(np.float32(0.5 / 128))),
            self.constant(np.asarray(np.uint8(0))),
        )
        return self.quantize_fixed(self.add("Add", third, half), 255)

    def hardswish(self, x: str, key: str, out: str) -> str:
        """HardSwish of what was quantized last, with ``key``."""
        return self.quantize(self.add("Mul", x, self.hardsigmoid(x, key)), out)

    def squeeze(self, x: str, name: str, width: int, bits: int = 0) -> str:
        """Squeeze-and-excitation of ``width`` channels, a quarter of them inside."""
        pooled = self.quantize(self.add("GlobalAveragePool", x), f"{name}.pool")
        y = self.conv(pooled, f"{name}.reduce", (width // 4, width, 1, 1), bits)
        y = self.quantize(y, f"{name}.reduce")
        y = self.conv(y, f"{name}.expand", (width, width // 4, 1, 1), bits)
        gate = self.hardsigmoid(self.quantize(y, f"{name}.expand"), f"{name}.expand")
        return self.quantize(self.add("Mul", x, gate), f"{name}.product")

    def finish(self, output: str, shape: tuple[int | str, ...]) -> Graph:
        nodes = [Node("Identity", (output,), ("y",))]
        needed = {output}
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                nodes.insert(0, node)
        return Graph(
            inputs=(self.input,),
            outputs=(TensorSpec("y", (BATCH, *shape), "float32"),),
            nodes=tuple(nodes),
            weights=tuple(w for w in self.weights.values() if w.name in needed),
            constants=tuple(c for c in self.constants.values() if c.name in needed),
            macs=0,
            parameters=0,
        )


def make_blocks(
    blocks: int, width: int, bits: tuple[int, ...] = (0,), size: int = 7, squeeze: bool = False
) -> Graph:
    """Inverted residuals of ``4 * width`` channels inside, a pool and a classifier of 10.

    Args:
        blocks: how many.
        width: channels between blocks.
        bits: of the blocks' weights, taken in turn.
        size: rows and columns of the input of ``width`` channels.
        squeeze: squeeze and excite in every other block.
    """
    g = QuantizedGraph((width, size, size))
    x = g.quantize("x", "input")
    for i in range(blocks):
        b, n, p = bits[i % len(bits)], 4 * width, f"stages.0.{i}"
        y = g.quantize(g.conv(x, f"{p}.expand.conv", (n, width, 1, 1), b), f"{p}.expand.bn")
        y = g.hardswish(y, f"{p}.expand.bn", f"{p}.expand.act")
        y = g.conv(y, f"{p}.depthwise.conv", (n, 1, 3, 3), b, group=n)
        y = g.quantize(y, f"{p}.depthwise.bn")
        y = g.hardswish(y, f"{p}.depthwise.bn", f"{p}.depthwise.act")
        if squeeze and i % 2:
            y = g.squeeze(y, f"{p}.depthwise.se", n, b)
        y = g.quantize(g.conv(y, f"{p}.project.conv", (width, n, 1, 1), b), f"{p}.project.bn")
        x = g.quantize(g.add("Add", y, x), f"{p}.project.bn/add")
    pooled = g.quantize(g.add("GlobalAveragePool", x), "pool")
    flat = g.quantize(g.add("Flatten", pooled, axis=1), "pool")
    return g.finish(g.gemm(flat, "classifier", (10, width)), (10,))


def load_session(model: bytes) -> onnxruntime.InferenceSession:
    """Load a model at default options, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def list_optimised(model: bytes, folder: Path) -> Counter[str]:
    """Operators of a model after ONNX Runtime's default optimisation, by how many there are."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(folder / "optimised.onnx").graph.node)


def run(graph: Graph, weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Outputs of a graph in ONNX Runtime."""
    session = load_session(to_onnx(graph, weights).SerializeToString())
    result: np.ndarray = session.run(None, {"x": x})[0]
    return result
