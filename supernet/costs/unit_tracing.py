"""Graphs of one unit of a network under any number formats, each traced from the unit alone.

A forward pass of the whole network, in float, says what a unit is called with and which of its
normalisations follow a convolution. From then on the unit is traced by itself, under as many
mixtures of formats as its layers have: formats of other units change nothing in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from supernet.costs.cost_model import JOINT, CostUnit
from supernet.graph.language import Graph
from supernet.graph.lowering import lower
from supernet.graph.quantized.borders import pass_integers
from supernet.graph.quantized.packing import stored_bytes
from supernet.quantization.execution import Execution
from supernet.quantization.formats import FP32, INT8, Format
from supernet.quantization.tracking import find_layer, name_layer

Call = tuple[tuple[Any, ...], dict[str, Any]]
Inside = tuple[tuple[str, Format], ...]
"""Formats of modules that do not compute in float, by their paths within a unit."""
_ROOT = "unit"
_USUAL_BITS = 8


@dataclass(frozen=True)
class Fold:
    """A normalisation that follows a convolution, by their paths within a unit."""

    layer: str
    normalization: str


@dataclass(frozen=True, eq=False)
class MetUnit:
    """A unit as a forward pass in float has met it.

    Args:
        path: Module path in the network.
        module: In float, its normalisations as they are.
        call: What it was called with; only shapes, dtypes and what is no tensor matter.
        folds: Which of its normalisations follow a convolution.
        places: Paths within the unit of the modules that may have formats of their own.
        elsewhere: Names within the unit of parameters that count as those of an earlier unit, which
            shares them (an output layer those of the embedding).
    """

    path: str
    module: nn.Module
    call: Call
    folds: tuple[Fold, ...] = ()
    places: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()


class UnitTracer:
    """Traces units and keeps every graph for those with the same description.

    Args:
        per_layer: Formats are those of single layers; see
            :class:`supernet.quantization.execution.Execution`.
    """

    def __init__(self, per_layer: bool) -> None:
        self.per_layer = per_layer
        self._numbers: dict[object, int] = {}
        self._families: dict[int, list[int]] = {}
        self._models: dict[int, int | None] = {}
        self._traced: dict[tuple[int, Inside], Graph] = {}
        self._made: dict[tuple[int, Inside], tuple[CostUnit, int]] = {}
        self._by_family: dict[object, list[int]] = {}

    def describe(self, unit: MetUnit) -> int:
        """Number what decides the graphs of a unit but for the formats: equal for equal units."""
        tensors, rebuild = _split_call(unit.call)
        sizes = tuple(tuple(t.shape) for t in tensors)
        kinds = tuple((t.dim(), t.dtype) for t in tensors)
        family = (
            *(_describe(unit.module), kinds, rebuild.key),
            *(unit.folds, unit.places, unit.elsewhere),
        )
        number = self._numbers.setdefault((family, sizes), len(self._numbers))
        self._families[number] = self._by_family.setdefault(family, [])
        return number

    def trace(
        self, unit: MetUnit, description: int, formats: Mapping[str, Format]
    ) -> tuple[CostUnit, int]:
        """Give the cost unit that a unit is under some formats, and the bytes of its weights.

        Args:
            unit: The unit.
            description: What :meth:`describe` gives for it.
            formats: Formats of modules inside that do not compute in float, by their paths in the
                network, in its order.

        Raises:
            InputError: The unit has an operator, or a format, that graphs have no form for.
        """
        inside = tuple((name_inside(path, unit.path), form) for path, form in formats.items())
        key = description, inside
        if key not in self._made:
            usual = tuple((path, _give_usual_bits(form)) for path, form in inside)
            graph = self._find_graph(unit, description, usual)
            if usual != inside:
                graph = _set_bits(graph, dict(inside))
            name = JOINT.join(form.name for _, form in inside) or FP32.name
            self._made[key] = CostUnit(graph, name), stored_bytes(graph)
        return self._made[key]

    def _find_graph(self, unit: MetUnit, description: int, inside: Inside) -> Graph:
        key = description, inside
        if key not in self._traced:
            graph = None
            model = self._find_model(unit, description)
            if model is not None and (model, inside) in self._traced:
                floats = self._traced[model, ()], self._traced[description, ()]
                graph = _resize(self._traced[model, inside], *floats)
            self._traced[key] = graph or self._trace(unit, dict(inside))
        return self._traced[key]

    def _find_model(self, unit: MetUnit, description: int) -> int | None:
        """A unit whose graphs are those of this one but for the sizes of inputs and outputs.

        A size that shows inside of a graph (as that of a pooling does) shows in float or with all
        layers in integers, because every layer of a mixture is one or the other.
        """
        if description not in self._models:
            probes = ((), tuple((place, _give_usual_bits(INT8)) for place in unit.places))
            for probe in probes:
                if (description, probe) not in self._traced:
                    self._traced[description, probe] = self._trace(unit, dict(probe))
            self._models[description] = next(
                (
                    other
                    for other in self._families[description]
                    if all(
                        _leave_sizes_out(self._traced[description, probe])
                        == _leave_sizes_out(self._traced[other, probe])
                        for probe in probes
                    )
                ),
                None,
            )
            if self._models[description] is None:
                self._families[description].append(description)
        return self._models[description]

    def _trace(self, unit: MetUnit, inside: Mapping[str, Format]) -> Graph:
        tensors, rebuild = _split_call(unit.call)
        if not inside:
            bound = _Bound(unit.module, rebuild, None)
            return _leave_out(lower(bound, tensors, structure_only=True)[0], unit.elsewhere)
        formats = {f"{unit.path}.{path}" if path else unit.path: f for path, f in inside.items()}
        execution = Execution(formats, per_layer=self.per_layer)
        modules = {
            path: unit.module.get_submodule(name_inside(path, unit.path)) for path in formats
        }
        with _folded(unit, inside):
            handles = execution.guard(modules)
            try:
                bound = _Bound(unit.module, rebuild, execution)
                graph = lower(bound, tensors, structure_only=True)[0]
                return pass_integers(_leave_out(graph, unit.elsewhere))
            finally:
                for handle in handles:
                    handle.remove()


def _leave_out(graph: Graph, parameters: Sequence[str]) -> Graph:
    """Do not count some parameters of a graph, by their names within the unit."""
    shapes = {spec.name.removeprefix(f"{_ROOT}."): spec.shape for spec in graph.weights}
    counted = (math.prod(int(d) for d in shapes[name]) for name in parameters if name in shapes)
    return replace(graph, parameters=graph.parameters - sum(counted))


def name_inside(path: str, unit: str) -> str:
    """Name a module of the network by its path within the unit that it is part of."""
    return path[len(unit) :].removeprefix(".")


def _give_usual_bits(form: Format) -> Format:
    """Of formats that differ only in how many bits an integer weight is stored in, the same."""
    # The runtime has block-wise weights of 4 bits alone, and refusals name the format.
    if form.quantizes_weights and form.symmetric and form.granularity != "group":
        bits = _USUAL_BITS
        return replace(form, name=f"w{bits}a{form.activation_bits}", weight_bits=bits)
    return form


def _leave_sizes_out(graph: Graph) -> str:
    inputs = tuple(replace(spec, shape=()) for spec in graph.inputs)
    outputs = tuple(replace(spec, shape=()) for spec in graph.outputs)
    return replace(graph, inputs=inputs, outputs=outputs).digest


def _resize(graph: Graph, model: Graph, floats: Graph) -> Graph | None:
    """Give a graph other sizes of inputs and outputs.

    Args:
        graph: Of the model's sizes, in some formats.
        model: The same in float.
        floats: The same in float, of the sizes wanted.

    Returns:
        The graph; ``None`` where more than those sizes is not the model's own in float.
    """
    if graph.macs != model.macs:
        return None
    ends = []
    for name in ("inputs", "outputs"):
        ours, theirs, wanted = (getattr(g, name) for g in (graph, model, floats))
        if [spec.shape for spec in ours] != [spec.shape for spec in theirs]:
            return None
        ends.append(tuple(replace(o, shape=w.shape) for o, w in zip(ours, wanted, strict=True)))
    return replace(graph, inputs=ends[0], outputs=ends[1], macs=floats.macs)


def _set_bits(graph: Graph, inside: Mapping[str, Format]) -> Graph:
    """Store the weights of a graph in the bits of the formats that their layers have."""

    def find_bits(name: str) -> int:
        form = _find_innermost(inside, name.removeprefix(f"{_ROOT}."))
        assert form is not None
        return form.weight_bits

    weights = tuple(replace(w, bits=find_bits(w.name)) if w.bits else w for w in graph.weights)
    return replace(graph, weights=weights)


def _find_innermost(inside: Mapping[str, Format], path: str) -> Format | None:
    """The format of the innermost module that has one and contains a path."""
    around = [p for p in inside if not p or path == p or path.startswith(f"{p}.")]
    return inside[max(around, key=len)] if around else None


@contextmanager
def _folded(unit: MetUnit, inside: Mapping[str, Format]) -> Iterator[None]:
    """Let normalisations be part of the integer convolutions before them, as shapes alone."""
    modules = dict(unit.module.named_modules())
    undo: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for fold in unit.folds:
            form = _find_innermost(inside, fold.layer)
            if form is None or not form.quantizes_activations or not form.quantizes_weights:
                continue
            layer = modules[fold.layer]
            assert isinstance(layer, nn.Conv2d)
            parent, _, name = fold.normalization.rpartition(".")
            children = modules[parent]._modules
            undo += [(layer._parameters, "bias", layer.bias), (children, name, children[name])]
            bias = nn.Parameter(torch.empty(layer.out_channels, device="meta"))
            name_layer(bias, find_layer(layer.weight))
            layer._parameters["bias"], children[name] = bias, nn.Identity().eval()
        yield
    finally:
        for table, name, value in undo:
            table[name] = value


class _Rebuild:
    """Where the tensors go in a call that also has constants, and lists and tuples of tensors."""

    def __init__(self, marked: Sequence[Any], spec: TreeSpec):
        self.marked, self.spec = tuple(marked), spec
        self.key = repr((self.marked, spec))

    def __call__(self, tensors: Sequence[Tensor]) -> Call:
        rest = iter(tensors)
        leaves = [next(rest) if leaf is _TENSOR else leaf for leaf in self.marked]
        call: Call = tree_unflatten(leaves, self.spec)
        return call


_TENSOR = type("_Tensor", (), {"__repr__": lambda self: "tensor"})()


def _split_call(call: Call) -> tuple[tuple[Tensor, ...], _Rebuild]:
    leaves, spec = tree_flatten(call)
    tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
    marked = [_TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    return tensors, _Rebuild(marked, spec)


class _Bound(nn.Module):
    """A unit as a function of tensors alone, giving the tensor it passes on."""

    def __init__(self, module: nn.Module, rebuild: _Rebuild, execution: Execution | None) -> None:
        super().__init__()
        self.add_module(_ROOT, module)
        self.rebuild = rebuild
        self.execution = execution
        self.eval()

    def forward(self, *tensors: Tensor) -> Tensor:
        args, kwargs = self.rebuild(tensors)
        result = self.get_submodule(_ROOT)(*args, **kwargs)
        output: Tensor = result if isinstance(result, Tensor) else result[0]
        return output if self.execution is None else self.execution.settle(output)


def _describe(module: nn.Module) -> object:
    """What decides the graph of a module: classes, attributes and shapes, recursively."""
    own = tuple(
        (name, _describe_value(value))
        for name, value in sorted(module.__dict__.items())
        if name not in _OF_NO_IMPORT
    )
    tensors = tuple(
        (name, None if t is None else tuple(t.shape))
        for table in (module._parameters, module._buffers)
        for name, t in table.items()
    )
    children = tuple(
        (name, None if child is None else _describe(child))
        for name, child in module._modules.items()
    )
    return (_name_class(module), own, tensors, children)


# What every module has, and a number that says where in a model a layer of transformers is.
_OF_NO_IMPORT = {*vars(nn.Module()), "layer_idx"}
_DEEPEST = 4


def _describe_value(value: Any, depth: int = 0) -> object:
    """What an attribute is, alike for alike values whichever objects they are.

    Functions are themselves: copies of a module have the same ones.
    """
    if isinstance(value, Tensor):
        return (tuple(value.shape), value.dtype)
    if isinstance(value, partial):
        parts = (value.func, value.args, value.keywords)
        return tuple(_describe_value(part, depth + 1) for part in parts)
    if isinstance(value, MethodType):
        of = None if depth == _DEEPEST else _describe_value(value.__self__, depth + 1)
        return (value.__func__, of)
    if isinstance(value, (FunctionType, BuiltinFunctionType, type)):
        return value
    if depth == _DEEPEST:
        return _name_class(value)
    if isinstance(value, (list, tuple)):
        return (_name_class(value), tuple(_describe_value(part, depth + 1) for part in value))
    if isinstance(value, Mapping):
        return tuple((repr(key), _describe_value(part, depth + 1)) for key, part in value.items())
    if isinstance(value, (set, frozenset)):
        return tuple(sorted(map(repr, value)))
    if isinstance(value, nn.Module) or object.__repr__(value) == repr(value):
        known = sorted(getattr(value, "__dict__", {}).items())
        return (_name_class(value), tuple((n, _describe_value(v, depth + 1)) for n, v in known))
    return repr(value)


def _name_class(value: object) -> tuple[str, str]:
    return type(value).__module__, type(value).__qualname__
