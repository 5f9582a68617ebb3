"""Graphs of quantized networks built layer by layer, with drawn weights and given scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from supernet.graph.language import Attribute, Constant, Graph, Node, TensorSpec

_BLOCK = 32


@dataclass(frozen=True)
class QuantizedGraph:
    """A graph and the values of its weights by name.

    Attributes:
        graph: The operators.
        weights: Arrays of the weights' shapes; of four-bit weights the numbers -7 to 7 as int8.
    """

    graph: Graph
    weights: dict[str, np.ndarray]


class QdqGraphBuilder:
    """Collects the operators of a quantized network, one layer per call.

    Values are named by strings, as in the graph. A value whose scale is known was dequantized
    just before; layers that compute in int8 take such values.
    """

    def __init__(self, seed: int = 0) -> None:
        """Start without operators; weights are drawn from ``seed``."""
        self.nodes: list[Node] = []
        self.inputs: list[TensorSpec] = []
        self.scope = ""
        self._rng = np.random.default_rng(seed)
        self._specs: dict[str, TensorSpec] = {}
        self._values: dict[str, np.ndarray] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Constant] = {}
        self._scales: dict[str, tuple[str, str]] = {}

    # -- parts -----------------------------------------------------------------------------

    def add_input(self, name: str, shape: Sequence[int | str], dtype: str = "float32") -> str:
        """Add a graph input."""
        self.inputs.append(TensorSpec(name, tuple(shape), dtype))
        return name

    def add_weight(self, name: str, value: np.ndarray, dtype: str = "", bits: int = 0) -> str:
        """Add a weight; ``dtype`` names another one than the array's, such as ``"int4"``."""
        value = np.asarray(value)
        self._specs[name] = TensorSpec(name, value.shape, dtype or value.dtype.name, bits)
        self._values[name] = value
        return name

    def add_constant(self, value: np.ndarray) -> str:
        """Add a constant, or name an equal one."""
        value = np.asarray(value)
        key = (value.dtype.name, value.shape, value.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = Constant.from_array(name, value)
        return self._constants[key].name

    def add(self, op: str, inputs: Sequence[str], **attributes: Attribute) -> str:
        """Add an operator with one output and name that."""
        return self.add_many(op, inputs, 1, **attributes)[0]

    def add_many(
        self, op: str, inputs: Sequence[str], count: int, **attributes: Attribute
    ) -> tuple[str, ...]:
        """Add an operator with ``count`` outputs and name them."""
        outputs = tuple(f"v{len(self.nodes)}_{i}" for i in range(count))
        pairs = tuple(sorted(attributes.items()))
        self.nodes.append(Node(op, tuple(inputs), outputs, pairs, self.scope))
        return outputs

    def finish(self, outputs: Mapping[str, tuple[Sequence[int | str], str]]) -> QuantizedGraph:
        """Make the graph whose outputs are the named values, with their shapes and dtypes.

        Operators that nobody reads are left out: runtimes would execute them.
        """
        specs = tuple(TensorSpec(n, tuple(s), d) for n, (s, d) in outputs.items())
        used, kept = set(outputs), []
        for node in reversed(self.nodes):
            if used.intersection(node.outputs):
                used.update(node.inputs)
                kept.append(node)
        weights = {n: s for n, s in self._specs.items() if n in used}
        graph = Graph(
            inputs=tuple(self.inputs),
            outputs=specs,
            nodes=tuple(reversed(kept)),
            weights=tuple(weights.values()),
            constants=tuple(c for c in self._constants.values() if c.name in used),
            macs=0,
            parameters=0,
        )
        return QuantizedGraph(graph, {n: self._values[n] for n in weights})

    # -- quantization of activations ---------------------------------------------------------

    def quantize(self, x: str, key: str, scale: float = 0.05, zero_point: int = 128) -> str:
        """Quantize a value at ``key`` and dequantize it again.

        Returns:
            The dequantized value.
        """
        names = (f"{key}.scale", f"{key}.zero_point")
        if names[0] not in self._specs:
            self.add_weight(names[0], np.float32(scale))
            self.add_weight(names[1], np.uint8(zero_point))
        return self._round(x, names)

    def is_quantized(self, x: str) -> bool:
        """Whether a value was dequantized just before."""
        return x in self._scales

    def quantize_fixed(self, x: str, scale: float) -> str:
        """Quantize a value from zero upwards with a scale that is part of the structure."""
        return self._round(
            x, (self.add_constant(np.float32(scale)), self.add_constant(np.uint8(0)))
        )

    def move(self, op: str, x: str, *rest: str, **attributes: Attribute) -> str:
        """Apply an operator that moves values to a dequantized one and quantize it as before."""
        return self._round(self.add(op, (x, *rest), **attributes), self._scales[x])

    def _round(self, x: str, names: tuple[str, str]) -> str:
        quantized = self.add("QuantizeLinear", (x, *names))
        result = self.add("DequantizeLinear", (quantized, *names))
        self._scales[result] = names
        return result

    # -- layers in int8 ----------------------------------------------------------------------

    def add_conv(
        self,
        x: str,
        key: str,
        sizes: tuple[int, int],
        kernel: int = 1,
        groups: int = 1,
        **rest: int,
    ) -> str:
        """Add a convolution with int8 weights per output channel and an int32 bias.

        Args:
            x: A dequantized value, (batch, sizes[0], height, width).
            key: The layer's name.
            sizes: Channels read and written.
            kernel: Its side; the padding keeps height and width at stride 1.
            groups: Groups of channels.
            rest: ``stride``.
        """
        shape = (sizes[1], sizes[0] // groups, kernel, kernel)
        names = (x, self._add_rows(key, shape), self._add_bias(x, key, sizes[1]))
        return self.add("Conv", names, **_describe_conv(kernel, groups, **rest))

    def add_gemm(self, x: str, key: str, sizes: tuple[int, int]) -> str:
        """Add a linear layer on (batch, sizes[0]) with int8 weights and an int32 bias."""
        weight = self._add_rows(key, (sizes[1], sizes[0]))
        return self.add("Gemm", (x, weight, self._add_bias(x, key, sizes[1])), transB=1)

    def add_matmul(self, x: str, key: str, sizes: tuple[int, int]) -> str:
        """Add a linear layer on (batch, ..., sizes[0]) with int8 weights and a float bias."""
        self.add_weight(f"{key}.weight", self._draw_levels(sizes, 127))
        self.add_weight(f"{key}.weight.scale", self._draw_scales(sizes[1]))
        zeros = self.add_constant(np.zeros(sizes[1], np.int8))
        names = (f"{key}.weight", f"{key}.weight.scale", zeros)
        weight = self.add("DequantizeLinear", names, axis=1)
        return self._add_float_bias(self.add("MatMul", (x, weight)), key, sizes[1])

    def add_dynamic(self, x: str, key: str, sizes: tuple[int, int]) -> str:
        """Add a linear layer with int8 weights whose input is quantized when it runs."""
        self.add_weight(f"{key}.weight", self._draw_levels(sizes, 127))
        self.add_weight(f"{key}.weight.scale", self._draw_scales(sizes[1]))
        levels, scale, zero = self.add_many("DynamicQuantizeLinear", (x,), 3)
        product = self.add("MatMulInteger", (levels, f"{key}.weight", zero))
        product = self.add("Cast", (product,), to=1)
        factor = self.add("Mul", (scale, f"{key}.weight.scale"))
        return self._add_float_bias(self.add("Mul", (product, factor)), key, sizes[1])

    def add_weights4(self, x: str, key: str, sizes: tuple[int, int]) -> str:
        """Add a linear layer with four-bit weights in blocks of 32 input features."""
        self.add_weight(f"{key}.weight", self._draw_levels(sizes, 7), dtype="int4", bits=4)
        scales = np.full((-(-sizes[0] // _BLOCK), sizes[1]), 0.02, np.float32)
        self.add_weight(f"{key}.weight.scale", scales)
        names = (f"{key}.weight", f"{key}.weight.scale")
        weight = self.add("DequantizeLinear", names, axis=0, block_size=_BLOCK)
        return self._add_float_bias(self.add("MatMul", (x, weight)), key, sizes[1])

    def add_hard_sigmoid(self, x: str) -> str:
        """Add HardSigmoid of a dequantized value, as a saturating sum."""
        scale, zero = self._scales[x]
        key = scale.removesuffix(".scale")
        if f"{key}.sixth" not in self._specs:
            self.add_weight(f"{key}.sixth", np.float32(self._values[scale] / np.float32(6)))
        quantized = next(n.inputs[0] for n in self.nodes if n.outputs == (x,))
        sixth = self.add("DequantizeLinear", (quantized, f"{key}.sixth", zero))
        level, unit = np.uint8(128), np.float32(0.5 / 128)
        half = [self.add_constant(v) for v in (level, unit, np.uint8(0))]
        total = self.add("Add", (sixth, self.add("DequantizeLinear", half)))
        return self.quantize_fixed(total, 1 / 255)

    def add_hard_swish(self, x: str, key: str) -> str:
        """Add HardSwish of a dequantized value and quantize the result at ``key``.

        The value's lowest level is taken for -3; its factor is its own integers, up to 3.
        """
        scale, _ = self._scales[x]
        source = scale.removesuffix(".scale")
        if f"{source}.bend" not in self._specs:
            last = min(round(6 / float(self._values[scale])), 255)
            self.add_weight(f"{source}.bend", np.uint8(last))
            self.add_weight(f"{source}.factor", np.float32(self._values[scale] / np.float32(6)))
        quantized = next(n.inputs[0] for n in self.nodes if n.outputs == (x,))
        clipped = self.add("Clip", (quantized, "", f"{source}.bend"))
        zero = self.add_constant(np.uint8(0))
        factor = self.add("DequantizeLinear", (clipped, f"{source}.factor", zero))
        return self.quantize(self.add("Mul", (x, factor)), key)

    def add_hard_swish_sum(self, x: str, key: str) -> str:
        """Add HardSwish of a dequantized value on whatever levels; its factor is a sum."""
        return self.quantize(self.add("Mul", (x, self.add_hard_sigmoid(x))), key)

    # -- layers in float ---------------------------------------------------------------------

    def add_float_conv(
        self,
        x: str,
        key: str,
        sizes: tuple[int, int],
        kernel: int = 1,
        groups: int = 1,
        **rest: int,
    ) -> str:
        """Add a float convolution; the arguments are those of :meth:`add_conv`."""
        shape = (sizes[1], sizes[0] // groups, kernel, kernel)
        self.add_weight(f"{key}.weight", self._draw(shape))
        self.add_weight(f"{key}.bias", self._draw((sizes[1],)))
        names = (x, f"{key}.weight", f"{key}.bias")
        return self.add("Conv", names, **_describe_conv(kernel, groups, **rest))

    def add_float_linear(self, x: str, key: str, sizes: tuple[int, int]) -> str:
        """Add a float linear layer on (batch, ..., sizes[0])."""
        self.add_weight(f"{key}.weight", self._draw(sizes))
        return self._add_float_bias(self.add("MatMul", (x, f"{key}.weight")), key, sizes[1])

    def add_layer_norm(self, x: str, key: str, width: int) -> str:
        """Add a layer normalisation over the last dimension."""
        self.add_weight(f"{key}.weight", self._draw((width,)))
        self.add_weight(f"{key}.bias", self._draw((width,)))
        names = (x, f"{key}.weight", f"{key}.bias")
        return self.add("LayerNormalization", names, axis=-1, epsilon=1e-5)

    def add_gelu(self, x: str) -> str:
        """Add GELU by the error function, as five operators."""
        root = self.add("Div", (x, self.add_constant(np.float32(2**0.5))))
        factor = self.add("Add", (self.add("Erf", (root,)), self.add_constant(np.float32(1))))
        product = self.add("Mul", (x, factor))
        return self.add("Mul", (product, self.add_constant(np.float32(0.5))))

    # -- weights -----------------------------------------------------------------------------

    def _add_rows(self, key: str, shape: tuple[int, ...]) -> str:
        self.add_weight(f"{key}.weight", self._draw_levels(shape, 127))
        self.add_weight(f"{key}.weight.scale", self._draw_scales(shape[0]))
        zeros = self.add_constant(np.zeros(shape[0], np.int8))
        names = (f"{key}.weight", f"{key}.weight.scale", zeros)
        return self.add("DequantizeLinear", names, axis=0)

    def _add_bias(self, x: str, key: str, size: int) -> str:
        source, _ = self._scales[x]
        fixed = {c.name: c.array() for c in self._constants.values()}
        scale = self._values[source] if source in self._values else fixed[source]
        self.add_weight(f"{key}.bias", self._draw_levels((size,), 1000).astype(np.int32))
        self.add_weight(
            f"{key}.bias.scale", np.float32(scale) * self._values[f"{key}.weight.scale"]
        )
        return self.add("DequantizeLinear", (f"{key}.bias", f"{key}.bias.scale"), axis=0)

    def _add_float_bias(self, x: str, key: str, size: int) -> str:
        return self.add("Add", (x, self.add_weight(f"{key}.bias", self._draw((size,)))))

    def _draw(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._rng.standard_normal(shape, dtype=np.float32) * np.float32(0.1)

    def _draw_levels(self, shape: tuple[int, ...], top: int) -> np.ndarray:
        levels = self._rng.integers(-top, top + 1, shape)
        return levels.astype(np.int8 if top < 128 else np.int32)

    def _draw_scales(self, size: int) -> np.ndarray:
        return self._rng.uniform(0.001, 0.002, size).astype(np.float32)


def _describe_conv(kernel: int, groups: int, stride: int = 1) -> dict[str, Attribute]:
    return {
        "kernel_shape": (kernel, kernel),
        "pads": (kernel // 2,) * 4,
        "strides": (stride, stride),
        "group": groups,
        "dilations": (1, 1),
    }
