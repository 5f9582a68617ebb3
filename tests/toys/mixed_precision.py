"""A small additive space whose layers compute in float or in 8-bit integers."""

from __future__ import annotations

import itertools

from hardware.testing.toy_space import DEPTHS, OUTSIDE, ToySpace
from supernet.costs.borders import list_borders
from supernet.costs.cost_model import CostModel, CostUnit, UnitVariants
from supernet.graph.language import BATCH, Graph, Node, TensorSpec
from supernet.space import Architecture, Choice, SearchSpace

WIDTHS = (16, 32, 64, 128)
PRECISIONS = ("int8", "fp32")


class MixedToy:
    """Up to four dense layers, each with a width and a precision of its own."""

    def __init__(self) -> None:
        plain = ToySpace().space
        needs = [None, *(("depth", depth) for depth in DEPTHS[1:])]
        own = (
            Choice(f"layer{i}.precision", PRECISIONS, "precision", need)
            for i, need in enumerate(needs)
        )
        self.space = SearchSpace((*plain.choices, *own))

    def cost_model(self, precisions: tuple[str, ...] = PRECISIONS) -> CostModel:
        """The units, and the borders between them; of one precision, the float space's."""
        space = self.space if len(precisions) > 1 else ToySpace().space
        units = [UnitVariants("input", (), (CostUnit(_write([], whole=True)),), (0,))]
        for layer in range(len(DEPTHS)):
            names = ["depth", f"width{layer}"]
            if len(precisions) > 1:
                names.append(f"layer{layer}.precision")
            variants = tuple(
                CostUnit(_write([(width, precision)], whole=False), precision)
                if depth > layer
                else None
                for depth, width, precision in itertools.product(DEPTHS, WIDTHS, precisions)
            )
            units.append(
                UnitVariants(f"layer{layer}", tuple(names), variants, (0,) * len(variants))
            )
        return CostModel(space, (*units, *list_borders(space, units)))

    def graph(self, architecture: Architecture) -> Graph:
        """The whole network, float outside."""
        layers = [
            (int(architecture[f"width{i}"]), str(architecture[f"layer{i}.precision"]))
            for i in range(int(architecture["depth"]))
        ]
        return _write(layers, whole=True)


class _Writer:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.weights: list[TensorSpec] = []

    def weight(self, name: str, shape: tuple[int, ...], dtype: str) -> str:
        if all(spec.name != name for spec in self.weights):
            self.weights.append(TensorSpec(name, shape, dtype))
        return name

    def emit(self, op: str, inputs: list[str]) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(Node(op, tuple(inputs), (name,)))
        return name

    def convert(self, op: str, tensor: str, key: str) -> str:
        quantizer = [
            self.weight(f"{key}.scale", (), "float32"),
            self.weight(f"{key}.zero_point", (), "uint8"),
        ]
        return self.emit(op, [tensor, *quantizer])

    def product(self, tensor: str, name: str, shape: tuple[int, int], integers: bool) -> str:
        weight = self.weight(name, shape, "int8" if integers else "float32")
        if integers:
            scale = self.weight(f"{name}.scale", (), "float32")
            weight = self.emit("DequantizeLinear", [weight, scale])
        return self.emit("MatMul", [tensor, weight])


def _write(layers: list[tuple[int, str]], *, whole: bool) -> Graph:
    """Write layers behind a float input, or a single one that takes and gives what it computes in.

    Args:
        layers: Hidden width and precision of each.
        whole: They are a network.
    """
    writer, tensor = _Writer(), "x"
    starts_in_integers = not whole and layers[0][1] == "int8"
    key = "x" if starts_in_integers else ""
    if whole:
        tensor = writer.emit("Relu", [tensor])
    for i, (width, precision) in enumerate(layers):
        integers = precision == "int8"
        if integers and not key:
            key = f"in{i}"
            tensor = writer.convert("QuantizeLinear", tensor, key)
        if key:
            tensor = writer.convert("DequantizeLinear", tensor, key)
            key = ""
        tensor = writer.product(tensor, f"w{i}", (OUTSIDE, width), integers)
        if integers:
            tensor = writer.convert("QuantizeLinear", tensor, f"hidden{i}")
            tensor = writer.convert("DequantizeLinear", tensor, f"hidden{i}")
        else:
            tensor = writer.emit("Relu", [tensor])
        tensor = writer.product(tensor, f"v{i}", (width, OUTSIDE), integers)
        if integers:
            key = f"out{i}"
            tensor = writer.convert("QuantizeLinear", tensor, key)
    macs = sum(2 * OUTSIDE * width for width, _ in layers)
    shape = (BATCH, OUTSIDE)
    return Graph(
        (TensorSpec("x", shape, "uint8" if starts_in_integers else "float32"),),
        (TensorSpec(tensor, shape, "uint8" if key else "float32"),),
        tuple(writer.nodes),
        tuple(writer.weights),
        (),
        macs,
        macs,
    )
