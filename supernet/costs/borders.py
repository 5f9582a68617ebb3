"""What it costs to pass from one number format to another between two units, as units of cost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from supernet.costs.cost_model import ARROW, BORDER, CostUnit, UnitVariants
from supernet.graph.language import Constant, Graph, Node, TensorSpec
from supernet.space import SearchSpace, Value

Variant = CostUnit | None

MAP_DIMENSIONS = 4
"""Batch, channels, height and width."""

_QUANTIZER = (
    TensorSpec("border.scale", (), "float32"),
    TensorSpec("border.zero_point", (), "uint8"),
)
_NAMES = tuple(spec.name for spec in _QUANTIZER)
_LAYERS = ("Conv", "Gemm", "MatMul")


def list_borders(space: SearchSpace, units: Sequence[UnitVariants]) -> tuple[UnitVariants, ...]:
    """List the borders at which integers become floats or floats integers.

    The runtime rounds there and changes the layout: integer convolutions keep channels last, float
    ones in blocks. Units next to each other in one format have nothing between them, so a network
    of one format has no border but its first. Costs of units are those of their integers alone.

    Integers that floats read are converted once for each reader. Of a float unit that adds its
    input to what it computes, the addition of maps is part of the border: the runtime does it in
    the last convolution, but not where the input came from integers and has another layout.

    Args:
        space: The choices.
        units: The units in the order they run, each the reader of the one before that is there.

    Returns:
        For each pair of units that may follow each other, named ``"FIRST>SECOND"``, a unit that
        converts the tensor between them, and nothing where both have it in one format.
    """
    borders = []
    for i, first in enumerate(units):
        for j in range(i + 1, len(units)):
            border = _make_border(space, first, units[j], units[i + 1 : j])
            if border is not None:
                borders.append(border)
            if None not in units[j].variants:
                break
    return tuple(borders)


def _make_border(
    space: SearchSpace, first: UnitVariants, second: UnitVariants, between: Sequence[UnitVariants]
) -> UnitVariants | None:
    kinds = {_is_integer(v, -1) for v in first.variants if v is not None}
    kinds |= {_is_integer(v, 0) for v in second.variants if v is not None}
    if len(kinds) < 2:
        return None
    # Of the choices of the units, those that change what passes from one to the other.
    parts = [
        _Reduced(space, first, lambda v: v and (v.graph.outputs[0].shape, _is_integer(v, -1))),
        _Reduced(space, second, lambda v: v and (_is_integer(v, 0), _list_readers(v))),
        *(_Reduced(space, unit, lambda v: v is not None) for unit in between),
    ]
    used = {name for part in parts for name in part.choices}
    names = tuple(name for name in space.names if name in used)
    variants = tuple(
        _find_border([part.find(values) for part in parts])
        for values in _list_combinations(space, names)
    )
    return UnitVariants(f"{first.name}{ARROW}{second.name}", names, variants, (0,) * len(variants))


def _find_border(parts: Sequence[object]) -> Variant:
    gives, takes, *between = parts
    if not gives or not takes or any(between):
        return None
    assert isinstance(gives, tuple)
    assert isinstance(takes, tuple)
    shape, from_integers = gives
    to_integers, readers = takes
    if from_integers == to_integers:
        return None
    make = quantize_tensor if to_integers else partial(dequantize_tensor, readers=readers)
    return CostUnit(make(shape), BORDER)


def quantize_tensor(shape: Sequence[int | str]) -> Graph:
    """Make the graph that turns floats into integers, channels last.

    Args:
        shape: Of the tensor, the batch first.
    """
    maps = len(shape) == MAP_DIMENSIONS
    floats = TensorSpec("floats", tuple(shape), "float32")
    integers = TensorSpec("integers", _put_channels_last(shape), "uint8")
    levels = "levels" if maps else integers.name
    nodes = [Node("QuantizeLinear", (floats.name, *_NAMES), (levels,))]
    if maps:
        turn = (("perm", (0, 2, 3, 1)),)
        nodes.append(Node("Transpose", (levels,), (integers.name,), turn))
    return Graph((floats,), (integers,), tuple(nodes), _QUANTIZER, (), 0, 0)


def dequantize_tensor(shape: Sequence[int | str], readers: Sequence[str]) -> Graph:
    """Make the graph that turns integers, channels last, into the floats that some nodes read.

    Args:
        shape: Of the tensor, the batch first.
        readers: Operators of the nodes. Layers read floats of their own, which have the scale once
            for each channel, as :func:`supernet.graph.operators.quantized.read_floats` writes them.
    """
    maps = len(shape) == MAP_DIMENSIONS
    axis = 1 if maps else len(shape) - 1
    integers = TensorSpec("integers", _put_channels_last(shape), "uint8")
    channels = Constant.from_array("channels", np.array([shape[axis]], dtype=np.int64))
    inputs, outputs, constants, nodes = [integers], [], [], []
    levels = "levels" if maps else integers.name
    if maps:
        back = (("perm", (0, 3, 1, 2)),)
        nodes.append(Node("Transpose", (integers.name,), (levels,), back))
    for place in range(sum(op in _LAYERS for op in readers)):
        parts = tuple(f"{name}{place}" for name in _NAMES)
        for name, part in zip(_NAMES, parts, strict=True):
            nodes.append(Node("Expand", (name, channels.name), (part,)))
        floats = TensorSpec(f"layer{place}", tuple(shape), "float32")
        along = (("axis", axis),)
        nodes.append(Node("DequantizeLinear", (levels, *parts), (floats.name,), along))
        outputs.append(floats)
        constants = [channels]
    if any(op not in _LAYERS for op in readers):
        floats = TensorSpec("floats", tuple(shape), "float32")
        nodes.append(Node("DequantizeLinear", (levels, *_NAMES), (floats.name,)))
        if maps and "Add" in readers:
            branch, total = replace(floats, name="branch"), replace(floats, name="sum")
            nodes.append(Node("Add", (floats.name, branch.name), (total.name,)))
            inputs.append(branch)
            floats = total
        outputs.append(floats)
    return Graph(tuple(inputs), tuple(outputs), tuple(nodes), _QUANTIZER, tuple(constants), 0, 0)


def _put_channels_last(shape: Sequence[int | str]) -> tuple[int | str, ...]:
    if len(shape) != MAP_DIMENSIONS:
        return tuple(shape)
    return tuple(shape[i] for i in (0, 2, 3, 1))


def _list_readers(unit: CostUnit) -> tuple[str, ...]:
    """Operators of the nodes that read a unit's input, sorted."""
    name = unit.graph.inputs[0].name
    return tuple(sorted(node.op for node in unit.graph.nodes if name in node.inputs))


def _is_integer(unit: CostUnit, side: int) -> bool:
    specs = unit.graph.inputs if side == 0 else unit.graph.outputs
    return specs[side].dtype == "uint8"


class _Reduced:
    """A property of a unit's variants, with the choices that do not change it left out."""

    def __init__(
        self, space: SearchSpace, unit: UnitVariants, look: Callable[[Variant], object]
    ) -> None:
        sizes = [len(space.choice(name).values) for name in unit.choices]
        found = [look(variant) or None for variant in unit.variants]
        codes: dict[Hashable, int] = {}
        table = np.array([codes.setdefault(value, len(codes)) for value in found])  # type: ignore[arg-type]
        table = table.reshape(sizes or [1])
        self._values = list(codes)
        kept = []
        for axis, name in enumerate(unit.choices):
            first = table.take([0], axis)
            if (table == first).all():
                table = first
            else:
                kept.append(name)
        self.choices = tuple(kept)
        self._table = table.reshape([len(space.choice(name).values) for name in kept] or [1])
        self._space = space

    def find(self, values: Mapping[str, Value]) -> object:
        """The property under some values of the space's choices."""
        if not self.choices:
            return self._values[int(self._table[0])]
        places = tuple(self._space.choice(n).values.index(values[n]) for n in self.choices)
        return self._values[int(self._table[places])]


def _list_combinations(space: SearchSpace, names: Sequence[str]) -> Iterator[dict[str, Value]]:
    for values in itertools.product(*(space.choice(name).values for name in names)):
        yield dict(zip(names, values, strict=True))
