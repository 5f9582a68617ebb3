"""Layers of quantized networks, one of each kind that a runtime has a kernel for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from supernet.graph.language import BATCH, Attribute, Constant, Graph, Node, TensorSpec


class QdqBuilder:
    """Writes a QDQ graph tensor by tensor; scales, zero points and weights are random.

    Args:
        seed: of all random numbers.
        dynamic: leaves the batch dimension open.
        reduce_range: draws weights no pair of which saturates on any processor: of 7 bits, and
            float ones such that the int8 that the runtime makes of them are safe, too.
    """

    def __init__(self, seed: int, *, dynamic: bool = False, reduce_range: bool = False) -> None:
        self.dynamic = dynamic
        self.reduce_range = reduce_range
        self.rng = np.random.default_rng(seed)
        self.values: dict[str, np.ndarray] = {}
        self.feeds: dict[str, np.ndarray] = {}
        self.kept: list[str] = []
        self._inputs: list[TensorSpec] = []
        self._weights: list[TensorSpec] = []
        self._constants: list[Constant] = []
        self._nodes: list[Node] = []
        self._quantizers: dict[str, tuple[str, str, str]] = {}

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Attribute) -> str:
        """Append an operator; the name of its first output (the others end in ``.1``, ...)."""
        name = f"t{len(self._nodes)}"
        names = tuple(f"{name}.{i}" if i else name for i in range(outputs))
        pairs = tuple(sorted(attributes.items()))
        self._nodes.append(Node(op, inputs, names, pairs, f"layer{len(self._nodes)}"))
        return name

    def weight(self, array: Any, dtype: str = "") -> str:
        """Append a weight; ``dtype`` is what the graph says of it, if not the array's own."""
        array = np.asarray(array)
        name = f"w{len(self._weights)}"
        self._weights.append(TensorSpec(name, array.shape, dtype or array.dtype.name))
        self.values[name] = array
        return name

    def constant(self, array: Any) -> str:
        """Append a constant."""
        name = f"c{len(self._constants)}"
        self._constants.append(Constant.from_array(name, np.asarray(array)))
        return name

    def step(self, low: float = 0.01, high: float = 0.1) -> np.float32:
        """A random scale."""
        return np.float32(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def _input(self, values: np.ndarray) -> str:
        name = f"x{len(self._inputs)}"
        first = BATCH if self.dynamic else values.shape[0]
        self._inputs.append(TensorSpec(name, (first, *values.shape[1:]), values.dtype.name))
        self.feeds[name] = values
        return name

    def floats(self, shape: tuple[int, ...]) -> str:
        """A float32 graph input."""
        return self._input(self.rng.standard_normal(shape).astype(np.float32))

    def uint8(self, shape: tuple[int, ...]) -> str:
        """A uint8 graph input of random whole numbers."""
        return self._input(self.rng.integers(0, 256, shape).astype(np.uint8))

    def activation(self, shape: tuple[int, ...], zero_point: int | None = None) -> str:
        """A dequantized uint8 graph input of random whole numbers."""
        name = self.uint8(shape)
        zero_point = int(self.rng.integers(0, 256)) if zero_point is None else zero_point
        return self.dequantize(name, self.weight(self.step()), self.weight(np.uint8(zero_point)))

    def dequantize(self, values: str, step: str, zero_point: str) -> str:
        """Append DequantizeLinear of a uint8 tensor."""
        output = self.node("DequantizeLinear", values, step, zero_point)
        self._quantizers[output] = (values, step, zero_point)
        return output

    def quantize(self, name: str, step: Any = None, zero_point: int | None = None) -> str:
        """Append QuantizeLinear and DequantizeLinear; whole numbers are compared."""
        step = self.step() if step is None else step
        zero_point = int(self.rng.integers(0, 256)) if zero_point is None else zero_point
        parameters = self.weight(np.float32(step)), self.weight(np.uint8(zero_point))
        values = self.node("QuantizeLinear", name, *parameters)
        self.kept.append(values)
        return self.dequantize(values, *parameters)

    def step_of(self, name: str) -> str:
        """The weight that holds the scale of a dequantized tensor."""
        return self._quantizers[name][1]

    def requantize(self, name: str, like: str) -> str:
        """Append QuantizeLinear and DequantizeLinear with the parameters of ``like``."""
        parameters = self._quantizers[like][1:]
        values = self.node("QuantizeLinear", name, *parameters)
        self.kept.append(values)
        return self.dequantize(values, *parameters)

    def stored(
        self, shape: tuple[int, ...], axis: int, dtype: str = "int8"
    ) -> tuple[str, np.ndarray]:
        """A dequantized int8 weight with a scale per channel of ``axis``, and those scales."""
        steps = np.exp(self.rng.uniform(-7, -4, shape[axis])).astype(np.float32)
        values = self.integers(shape)
        zeros = self.constant(np.zeros(shape[axis], np.int8))
        names = self.weight(values), self.weight(steps), zeros
        return self.node("DequantizeLinear", *names, axis=axis), steps

    def integers(self, shape: tuple[int, ...]) -> np.ndarray:
        """Values of an int8 weight."""
        largest = 64 if self.reduce_range else 127
        return self.rng.integers(-largest, largest + 1, shape).astype(np.int8)

    def float_kernel(self, *shape: int) -> str:
        """A float32 weight (output channels, input channels, ...) for the runtime to quantize."""
        values = self.rng.standard_normal(shape).astype(np.float32)
        if self.reduce_range:
            # Neighbours of opposite signs are safe, and as many steps to either side make zero the
            # int8 zero; no weight is so small that rounding changes its sign.
            values = np.abs(values) + np.float32(0.1)
            values[:, 1::2] = -np.roll(values[:, ::2], 1, axis=1)
        return self.weight(values)

    def bias(self, x: str, steps: np.ndarray) -> str:
        """A dequantized int32 bias in steps of the product of both scales."""
        step = self.values[self.step_of(x)] * steps
        values = np.round(self.rng.normal(0, 1, steps.shape) / step).astype(np.int32)
        zeros = self.constant(np.zeros(steps.shape, np.int32))
        return self.node(
            "DequantizeLinear",
            self.weight(values),
            self.weight(step.astype(np.float32)),
            zeros,
            axis=0,
        )

    def dequantize_input(self, shape: tuple[int, ...], step: float) -> str:
        """A dequantized uint8 graph input of a known scale."""
        name = self.uint8(shape)
        return self.dequantize(name, self.weight(np.float32(step)), self.weight(np.uint8(128)))

    def noise(self, *shape: int) -> str:
        """A float32 weight."""
        return self.weight(self.rng.standard_normal(shape).astype(np.float32))

    def blockwise(self, inputs: int, outputs: int) -> str:
        """A dequantized int4 weight with a scale per 32 input features."""
        values = self.rng.integers(-7, 8, (inputs, outputs)).astype(np.int8)
        steps = np.exp(self.rng.uniform(-4, -2, (inputs // 32, outputs))).astype(np.float32)
        names = self.weight(values, "int4"), self.weight(steps)
        return self.node("DequantizeLinear", *names, axis=0, block_size=32)

    def hardswish(self, x: str) -> str:
        """Append HardSwish as whole numbers: a saturating sum with 1/2, then a product."""
        values, step, zero_point = self._quantizers[x]
        sixth = self.weight(np.float32(self.values[step] / np.float32(6)))
        half = [self.constant(v) for v in (np.uint8(128), np.float32(0.5 / 128), np.uint8(0))]
        total = self.node("Add", self.dequantize(values, sixth, zero_point), self.dequantize(*half))
        return self.quantize(self.node("Mul", x, self.quantize(total, 1 / 255, 0)))

    def convolve(
        self,
        x: str,
        c_in: int,
        c_out: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
    ) -> str:
        """Append a convolution of stored weights with a bias."""
        weight, steps = self.stored((c_out, c_in // groups, kernel, kernel), 0)
        return self.node(
            "Conv",
            x,
            weight,
            self.bias(x, steps),
            dilations=(dilation, dilation),
            group=groups,
            kernel_shape=(kernel, kernel),
            pads=(dilation * (kernel // 2),) * 4,
            strides=(stride, stride),
        )

    def graph(self, outputs: list[str]) -> Graph:
        """The graph, which returns ``outputs``."""
        return Graph(
            inputs=tuple(self._inputs),
            outputs=tuple(
                TensorSpec(o, (), "uint8" if o in self.kept else "float32") for o in outputs
            ),
            nodes=tuple(self._nodes),
            weights=tuple(self._weights),
            constants=tuple(self._constants),
            macs=0,
            parameters=0,
        )


# -- one layer each -----------------------------------------------------------------------------

LAYERS: dict[str, Callable[[QdqBuilder], None]] = {}


def layer(build: Callable[[QdqBuilder], None]) -> Callable[[QdqBuilder], None]:
    LAYERS[build.__name__] = build
    return build


@layer
def convolution(b: QdqBuilder) -> None:
    b.quantize(b.convolve(b.activation((2, 16, 12, 12)), 16, 24, 3), b.step(0.1, 2.0))


@layer
def strided_convolution_of_three_channels(b: QdqBuilder) -> None:
    b.quantize(b.convolve(b.activation((2, 3, 15, 15)), 3, 17, 3, stride=2), b.step(0.1, 1.0))


@layer
def pointwise_convolution(b: QdqBuilder) -> None:
    b.quantize(b.convolve(b.activation((2, 24, 10, 10)), 24, 40, 1), b.step(0.1, 1.0))


@layer
def depthwise_convolution(b: QdqBuilder) -> None:
    b.quantize(b.convolve(b.activation((2, 48, 9, 9)), 48, 48, 5, groups=48), b.step(0.1, 1.0))


@layer
def strided_depthwise_convolution(b: QdqBuilder) -> None:
    x = b.activation((2, 20, 11, 11))
    b.quantize(b.convolve(x, 20, 20, 3, groups=20, stride=2), b.step(0.1, 1.0))


@layer
def grouped_dilated_convolution(b: QdqBuilder) -> None:
    x = b.activation((2, 24, 12, 12))
    b.quantize(b.convolve(x, 24, 36, 3, groups=4, dilation=2), b.step(0.1, 1.0))


@layer
def convolution_with_an_idle_relu(b: QdqBuilder) -> None:
    x = b.activation((2, 16, 12, 12))
    b.quantize(b.node("Relu", b.convolve(x, 16, 24, 3)), b.step(0.1, 1.0), 0)


@layer
def convolution_with_a_working_relu(b: QdqBuilder) -> None:
    x = b.activation((2, 16, 12, 12))
    b.quantize(b.node("Relu", b.convolve(x, 16, 24, 3)), b.step(0.1, 1.0), 9)


@layer
def convolution_with_four_bit_output(b: QdqBuilder) -> None:
    bounds = b.constant(np.float32(0)), b.constant(np.float32(7.5))
    x = b.activation((2, 16, 12, 12))
    b.quantize(b.node("Clip", b.convolve(x, 16, 24, 3), *bounds), 0.5, 0)


@layer
def gemm(b: QdqBuilder) -> None:
    x = b.activation((64, 90))
    weight, steps = b.stored((50, 90), 0)
    b.quantize(b.node("Gemm", x, weight, b.bias(x, steps), transB=1), b.step(0.1, 2.0))


@layer
def gemm_that_stays_float(b: QdqBuilder) -> None:
    x = b.activation((64, 90))
    weight, steps = b.stored((50, 90), 0)
    logits = b.node("Gemm", x, weight, b.bias(x, steps), transB=1)
    b.quantize(b.node("Tanh", logits), 1 / 128, 128)


@layer
def product_with_stored_weight(b: QdqBuilder) -> None:
    b.quantize(b.node("MatMul", b.activation((4, 20, 96)), b.stored((96, 50), 1)[0]), 1.0)


@layer
def product_with_a_bias_vector(b: QdqBuilder) -> None:
    product = b.node("MatMul", b.activation((4, 20, 96)), b.stored((96, 50), 1)[0])
    b.quantize(b.node("Add", product, b.noise(50)), 1.0)


@layer
def product_with_a_bias_row(b: QdqBuilder) -> None:
    product = b.node("MatMul", b.activation((4, 20, 96)), b.stored((96, 50), 1)[0])
    b.quantize(b.node("Add", product, b.noise(1, 50)), 1.0)


@layer
def biased_product_that_stays_float(b: QdqBuilder) -> None:
    product = b.node("MatMul", b.activation((4, 20, 96)), b.stored((96, 50), 1)[0])
    b.quantize(b.node("Tanh", b.node("Add", product, b.noise(50))), 1 / 128, 128)


@layer
def product_of_activations(b: QdqBuilder) -> None:
    b.quantize(b.node("MatMul", b.activation((4, 20, 32)), b.activation((4, 32, 30))), 1.0)


@layer
def residual_sum(b: QdqBuilder) -> None:
    b.quantize(b.node("Add", b.activation((2, 16, 12, 12)), b.activation((2, 16, 12, 12))))


@layer
def residual_sum_with_an_idle_relu(b: QdqBuilder) -> None:
    total = b.node("Add", b.activation((2, 16, 12, 12)), b.activation((2, 16, 12, 12)))
    b.quantize(b.node("Relu", total), b.step(), 0)


@layer
def product_by_value(b: QdqBuilder) -> None:
    b.quantize(b.node("Mul", b.activation((2, 16, 12, 12)), b.activation((2, 16, 12, 12))))


@layer
def product_by_channel(b: QdqBuilder) -> None:
    b.quantize(b.node("Mul", b.activation((2, 16, 12, 12)), b.activation((2, 16, 1, 1))))


@layer
def hardswish_in_int8(b: QdqBuilder) -> None:
    b.hardswish(b.activation((2, 16, 12, 12)))


@layer
def silu_in_int8(b: QdqBuilder) -> None:
    x = b.activation((2, 16, 12, 12))
    b.quantize(b.node("Mul", x, b.quantize(b.node("Sigmoid", x), 1 / 256, 0)))


@layer
def sigmoid_table(b: QdqBuilder) -> None:
    b.quantize(b.node("Sigmoid", b.activation((4, 20, 32))), 1 / 256, 0)


@layer
def float_island(b: QdqBuilder) -> None:
    b.quantize(b.node("HardSwish", b.activation((2, 16, 12, 12))))


@layer
def global_average(b: QdqBuilder) -> None:
    x = b.activation((2, 400, 4, 4))
    b.requantize(b.node("GlobalAveragePool", x), x)


@layer
def padded_average(b: QdqBuilder) -> None:
    x = b.activation((2, 16, 13, 13))
    sizes = {"kernel_shape": (3, 3), "pads": (1,) * 4, "strides": (2, 2)}
    b.quantize(b.node("AveragePool", x, count_include_pad=1, **sizes))


@layer
def average_without_padding_in_one_scale(b: QdqBuilder) -> None:
    x = b.activation((2, 16, 14, 14))
    sizes = {"kernel_shape": (3, 3), "pads": (1,) * 4, "strides": (2, 2)}
    b.requantize(b.node("AveragePool", x, count_include_pad=0, **sizes), x)


@layer
def average_of_windows_that_reach_over_the_end(b: QdqBuilder) -> None:
    x = b.activation((2, 16, 12, 13))
    sizes = {"kernel_shape": (3, 3), "pads": (1, 0, 1, 0), "strides": (2, 2), "ceil_mode": 1}
    b.requantize(b.node("AveragePool", x, count_include_pad=0, **sizes), x)


@layer
def convolution_whose_output_is_moved(b: QdqBuilder) -> None:
    y = b.node("Transpose", b.convolve(b.activation((2, 16, 8, 8)), 16, 24, 3), perm=(0, 2, 3, 1))
    b.quantize(b.node("Reshape", y, b.constant(np.array([0, -1, 24]))), 0.5)


@layer
def product_of_moved_activations(b: QdqBuilder) -> None:
    turned = b.node("Transpose", b.activation((4, 30, 32)), perm=(0, 2, 1))
    b.quantize(b.node("MatMul", b.activation((4, 20, 32)), turned), 1.0)


@layer
def largest_of_windows(b: QdqBuilder) -> None:
    x = b.activation((2, 16, 14, 14))
    b.requantize(b.node("MaxPool", x, kernel_shape=(3, 3), pads=(1,) * 4, strides=(2, 2)), x)


@layer
def softmax_of_rows(b: QdqBuilder) -> None:
    x = b.dequantize_input((4, 20, 33), 0.05)
    b.quantize(b.node("Softmax", x, axis=-1), 1 / 256, 0)


@layer
def softmax_of_columns(b: QdqBuilder) -> None:
    x = b.dequantize_input((4, 20, 33), 0.02)
    b.quantize(b.node("Softmax", x, axis=1), 1 / 256, 0)


@layer
def concatenation(b: QdqBuilder) -> None:
    x, y = b.activation((2, 16, 9, 9)), b.activation((2, 7, 9, 9))
    b.quantize(b.node("Concat", x, y, axis=1))


@layer
def moved_values(b: QdqBuilder) -> None:
    x = b.activation((2, 16, 9, 9))
    turned = b.requantize(b.node("Transpose", x, perm=(0, 2, 3, 1)), x)
    b.requantize(b.node("Flatten", turned, axis=1), x)


@layer
def graph_border(b: QdqBuilder) -> None:
    b.quantize(b.floats((2, 16, 20, 20)))


@layer
def dynamically_quantized_product(b: QdqBuilder) -> None:
    x = b.node("DynamicQuantizeLinear", b.floats((1, 20, 96)), outputs=3)
    weight = b.weight(b.integers((96, 50)))
    sums = b.node("Cast", b.node("MatMulInteger", x, weight, f"{x}.2"), to=1)
    steps = b.weight(np.exp(b.rng.uniform(-7, -4, 50)).astype(np.float32))
    product = b.node("Mul", sums, b.node("Mul", f"{x}.1", steps))
    b.quantize(b.node("Tanh", b.node("Add", product, b.noise(50))), 1 / 128, 128)


@layer
def product_with_four_bit_weights(b: QdqBuilder) -> None:
    product = b.node("MatMul", b.floats((1, 20, 96)), b.blockwise(96, 50))
    b.quantize(b.node("Tanh", b.node("Add", product, b.noise(50))), 1 / 128, 128)


@layer
def four_bit_weights_before_a_quantizer(b: QdqBuilder) -> None:
    b.quantize(b.node("MatMul", b.floats((1, 20, 96)), b.blockwise(96, 50)), 0.1)


@layer
def four_bit_weights_after_a_quantizer(b: QdqBuilder) -> None:
    product = b.node("MatMul", b.activation((1, 20, 96)), b.blockwise(96, 50))
    b.quantize(b.node("Tanh", product), 1 / 128, 128)


@layer
def float_convolution_between_quantizers(b: QdqBuilder) -> None:
    x = b.activation((2, 16, 12, 12))
    b.quantize(b.node("Conv", x, b.float_kernel(24, 16, 3, 3), b.noise(24), pads=(1,) * 4), 0.5)


def read_twice(b: QdqBuilder, x: str) -> None:
    """Quantize a tensor in the same way for each of two readers, as networks are written."""
    first = b.quantize(x, 0.5, 120)
    second = b.requantize(x, first)
    # What is returned would not be merged.
    b.kept.clear()
    b.quantize(b.node("Add", first, second), 1.0, 120)


@layer
def convolution_read_twice(b: QdqBuilder) -> None:
    read_twice(b, b.convolve(b.activation((2, 16, 12, 12)), 16, 24, 3))


@layer
def float_convolution_read_twice(b: QdqBuilder) -> None:
    x = b.activation((2, 16, 12, 12))
    read_twice(b, b.node("Conv", x, b.float_kernel(24, 16, 3, 3), b.noise(24), pads=(1,) * 4))


@layer
def float_convolution_behind_a_scale_per_channel(b: QdqBuilder) -> None:
    values = b.uint8((2, 16, 12, 12))
    steps = b.weight(np.full(16, 0.05, np.float32)), b.weight(np.full(16, 100, np.uint8))
    x = b.node("DequantizeLinear", values, *steps, axis=1)
    b.quantize(b.node("Conv", x, b.float_kernel(24, 16, 3, 3), b.noise(24), pads=(1,) * 4), 0.5)


@layer
def normalised_float_convolution_between_quantizers(b: QdqBuilder) -> None:
    y = b.node("Conv", b.activation((2, 16, 12, 12)), b.float_kernel(24, 16, 3, 3), pads=(1,) * 4)
    variance = b.weight(b.rng.uniform(0.5, 2.0, 24).astype(np.float32))
    y = b.node("BatchNormalization", y, b.noise(24), b.noise(24), b.noise(24), variance)
    b.quantize(b.node("Relu", y), 0.5, 0)


@layer
def float_convolution_before_an_activation(b: QdqBuilder) -> None:
    x = b.activation((2, 16, 12, 12))
    y = b.node("Conv", x, b.float_kernel(24, 16, 3, 3), b.noise(24), pads=(1,) * 4)
    b.quantize(b.node("HardSwish", y), 0.5)


@layer
def float_linear_between_quantizers(b: QdqBuilder) -> None:
    weight = b.node("Transpose", b.float_kernel(50, 96), perm=(1, 0))
    product = b.node("MatMul", b.activation((4, 20, 96)), weight)
    b.quantize(b.node("Add", product, b.noise(50)), 0.5)
