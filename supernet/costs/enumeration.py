"""Cost units of any supernet: which choices change a piece, and every variant of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from supernet.costs.borders import list_borders
from supernet.costs.cost_model import CostModel, CostUnit, UnitVariants
from supernet.elastic.edit_index import Values
from supernet.elastic.edits import Cut, Derive, Drop, Edit, Pick, Resize, list_choices
from supernet.errors import InputError
from supernet.graph.language import Graph
from supernet.graph.lowering import lower
from supernet.graph.quantized.borders import pass_integers
from supernet.graph.quantized.packing import stored_bytes
from supernet.quantization.execution import Execution, find_execution
from supernet.quantization.folding import fold_normalization
from supernet.space import Architecture, SearchSpace, Value

Combination = tuple[Value, ...]
MOST_COMBINATIONS = 1 << 18
"""Of the choices of one unit: a table of them takes some seconds to list."""
Call = tuple[tuple[Any, ...], dict[str, Any]]


class ElasticNetwork(Protocol):
    """What counting costs reads of a supernet: the network, its table and its subnetworks."""

    @property
    def model(self) -> nn.Module:
        """The plain largest network."""
        ...

    @property
    def space(self) -> SearchSpace:
        """The choices."""
        ...

    @property
    def edits(self) -> Sequence[Edit]:
        """The rows of the table."""
        ...

    @property
    def units(self) -> Sequence[str]:
        """Module paths of the pieces that have a cost of their own."""
        ...

    def extract(self, architecture: Architecture) -> nn.Module:
        """A stand-alone network with copied weights."""
        ...

    def example(self, architecture: Architecture, batch: int) -> Tensor:
        """A batch of inputs of the right shape and type."""
        ...


def trace_network(supernet: ElasticNetwork, architecture: Architecture) -> Graph:
    """Trace a whole subnetwork as a graph without weight values, with a dynamic batch."""
    network = _extract_folded(supernet, architecture)
    return lower(network, (supernet.example(architecture, 1),), structure_only=True)[0]


def _extract_folded(supernet: ElasticNetwork, architecture: Architecture) -> nn.Module:
    network = supernet.extract(architecture).eval()
    execution = find_execution(network)
    if execution is not None:
        device = next(network.parameters()).device
        fold_normalization(network, execution, supernet.example(architecture, 1).to(device))
    return network


def find_unit_choices(supernet: ElasticNetwork, unit: str) -> tuple[str, ...]:
    """Find the choices that change a unit, in the order of the space.

    They follow from the table: rows on tensors and modules inside the unit, the depth of every
    stack the unit is part of, and the resolution.
    """
    names = {name for edit in supernet.edits if _touches(edit, unit) for name in list_choices(edit)}
    return tuple(name for name in supernet.space.names if name in names)


def _touches(edit: Edit, unit: str) -> bool:
    return _encloses(edit, unit) or _reshapes(edit, unit)


def _encloses(edit: Edit, unit: str) -> bool:
    """Whether the row decides that the unit is there at all."""
    return isinstance(edit, Drop) and unit.startswith(edit.stack + ".")


def _reshapes(edit: Edit, unit: str) -> bool:
    """Whether the row changes the unit itself or its input."""
    if isinstance(edit, Resize):
        return True
    if isinstance(edit, Drop):
        path = edit.stack
    elif isinstance(edit, Pick):
        path = edit.slot
    else:
        path = edit.tensor if isinstance(edit, (Cut, Derive)) else edit.module
    return path == unit or path.startswith(unit + ".")


def build_cost_model(supernet: ElasticNetwork) -> CostModel:
    """Trace every variant of every unit of a supernet, each distinct one once.

    Raises:
        InputError: A unit is not a module of the network, never runs, or has too many variants.
    """
    modules = dict(supernet.model.named_modules())
    for unit in supernet.units:
        if unit not in modules:
            raise InputError(f"unit {unit!r} is not a module of the network")
        _check_combinations(supernet, unit)
    tracer = _Tracer(supernet)
    tracer.cover()
    units = tuple(_list_variants(supernet, u, tracer) for u in supernet.units)
    return CostModel(supernet.space, (*units, *list_borders(supernet.space, units)))


def _check_combinations(supernet: ElasticNetwork, unit: str) -> None:
    """Refuse a unit whose choices have so many combinations that no table of them fits memory."""
    names = find_unit_choices(supernet, unit)
    count = math.prod(len(supernet.space.choice(name).values) for name in names)
    if count > MOST_COMBINATIONS:
        raise InputError(
            f"unit {unit!r} depends on {len(names)} choices with {count:,} combinations, more than "
            f"the {MOST_COMBINATIONS:,} that costs are listed for; give it fewer choices, such as "
            "one number format per unit in place of one per layer"
        )


def _list_variants(supernet: ElasticNetwork, unit: str, tracer: _Tracer) -> UnitVariants:
    names = find_unit_choices(supernet, unit)
    variants: list[CostUnit | None] = []
    sizes = []
    for combination in _list_combinations(supernet, names):
        values = dict(zip(names, combination, strict=True))
        if not _is_there(supernet, unit, values):
            variants.append(None)
            sizes.append(0)
        else:
            found = tracer.variant(unit, tuple(values[name] for name in tracer.choices[unit]))
            variants.append(found[0])
            sizes.append(found[1])
    return UnitVariants(unit, names, tuple(variants), tuple(sizes))


def _is_there(supernet: ElasticNetwork, unit: str, values: Mapping[str, Value]) -> bool:
    for edit in supernet.edits:
        if isinstance(edit, Drop) and _encloses(edit, unit):
            child = unit[len(edit.stack) + 1 :].split(".")[0]
            place = list(supernet.model.get_submodule(edit.stack)._modules).index(child)
            if place >= edit.keep.values[tuple(values[name] for name in edit.keep.choices)]:
                return False
    return True


def _list_combinations(supernet: ElasticNetwork, names: Sequence[str]) -> list[Combination]:
    return list(itertools.product(*(supernet.space.choice(name).values for name in names)))


class _Tracer:
    """Runs covering architectures once and keeps what each unit became."""

    def __init__(self, supernet: ElasticNetwork) -> None:
        self.supernet = supernet
        self.choices: dict[str, tuple[str, ...]] = {}
        for unit in supernet.units:
            edits = [edit for edit in supernet.edits if _reshapes(edit, unit)]
            names = {name for edit in edits for name in list_choices(edit)}
            self.choices[unit] = tuple(n for n in supernet.space.names if n in names)
        self.found: dict[str, dict[Combination, tuple[CostUnit, int]]] = {
            unit: {} for unit in supernet.units
        }
        self.traced: dict[object, Graph] = {}

    def cover(self) -> None:
        """Meet every combination of every unit, one of each unit in every forward pass."""
        space = self.supernet.space
        largest = self._largest()
        # Of combinations that are one network (the kernel of a block that is not there) one.
        left = {
            unit: [c for c in combinations if self._canonical(unit, c) == c]
            for unit, names in self.choices.items()
            for combinations in (_list_combinations(self.supernet, names),)
        }
        while any(left.values()):
            fixed: dict[str, Value] = {}
            for unit, combinations in left.items():
                for combination in combinations:
                    pairs = dict(zip(self.choices[unit], combination, strict=True))
                    if all(fixed.get(name, value) == value for name, value in pairs.items()):
                        fixed.update(pairs)
                        break
            self._visit(space.architecture({**largest, **fixed}))
            for unit, combinations in left.items():
                left[unit] = [c for c in combinations if c not in self.found[unit]]

    def variant(self, unit: str, combination: Combination) -> tuple[CostUnit, int]:
        """What a unit became under a combination of its choices, and its bytes."""
        return self.found[unit][self._canonical(unit, combination)]

    def _canonical(self, unit: str, combination: Combination) -> Combination:
        names = self.choices[unit]
        values = {**self._largest(), **dict(zip(names, combination, strict=True))}
        architecture = self.supernet.space.architecture(values)
        return tuple(architecture[name] for name in names)

    def _largest(self) -> dict[str, Value]:
        space = self.supernet.space
        return dict(zip(space.names, space.largest.values, strict=True))

    def _visit(self, architecture: Architecture) -> None:
        network = _extract_folded(self.supernet, architecture)
        values = Values(architecture)
        modules = {unit: network.get_submodule(unit) for unit in self.choices}
        calls: dict[str, Call] = {}
        handles = [
            module.register_forward_pre_hook(_make_recorder(calls, unit), with_kwargs=True)
            for unit, module in modules.items()
        ]
        device = next(network.parameters()).device
        with torch.no_grad():
            # A real forward: on shapes alone torch takes its slow Python paths.
            network(self.supernet.example(architecture, 1).to(device))
        for handle in handles:
            handle.remove()
        for unit, names in self.choices.items():
            combination = values.find_choices(names)
            if combination in self.found[unit]:
                continue
            if unit not in calls:
                raise InputError(f"unit {unit!r} is part of the network but never runs")
            execution = find_execution(network)
            precision = "fp32" if execution is None else execution.name_precision(unit)
            graph = self._trace(modules[unit], calls[unit], precision, execution)
            size = _measure_unit(modules[unit]) if precision == "fp32" else stored_bytes(graph)
            self.found[unit][combination] = CostUnit(graph, precision), size

    def _trace(
        self, module: nn.Module, call: Call, precision: str, execution: Execution | None
    ) -> Graph:
        tensors, rebuild = _split_call(call)
        shapes = tuple((tuple(t.shape), t.dtype) for t in tensors)
        key = (_describe(module), shapes, rebuild.key, precision)
        if key not in self.traced:
            bound = _Bound(module, rebuild, execution if precision != "fp32" else None)
            graph = lower(bound, tensors, structure_only=True)[0]
            self.traced[key] = pass_integers(graph) if precision != "fp32" else graph
        return self.traced[key]


def measure_size(supernet: ElasticNetwork, architecture: Architecture, network: nn.Module) -> int:
    """Bytes of one subnetwork as its cost model counts them, without tracing every variant.

    Args:
        supernet: Knows the units and the number formats they compute in.
        architecture: The subnetwork.
        network: What :meth:`supernet.supernet.Supernet.extract` gave for it.
    """
    if find_execution(network) is not None:
        return stored_bytes(trace_network(supernet, architecture))
    modules = dict(network.named_modules())
    return sum(_measure_unit(modules[unit]) for unit in supernet.units if unit in modules)


def _measure_unit(module: nn.Module) -> int:
    floating = (b for b in module.buffers() if b.is_floating_point())
    return 4 * sum(tensor.numel() for tensor in (*module.parameters(), *floating))


def _make_recorder(calls: dict[str, Call], unit: str) -> Any:
    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls[unit] = (args, kwargs)

    return record


class _Rebuild:
    """Where the tensors go in a call that also has constants."""

    def __init__(self, args: tuple[Any, ...], names: tuple[str, ...], values: tuple[Any, ...]):
        self.args, self.names, self.values = args, names, values
        self.key = repr((args, names, values))

    def __call__(self, tensors: Sequence[Tensor]) -> Call:
        rest = iter(tensors)
        args = tuple(next(rest) if a is _TENSOR else a for a in self.args)
        kwargs = {
            n: next(rest) if v is _TENSOR else v
            for n, v in zip(self.names, self.values, strict=True)
        }
        return args, kwargs


_TENSOR = type("_Tensor", (), {"__repr__": lambda self: "tensor"})()


def _split_call(call: Call) -> tuple[tuple[Tensor, ...], _Rebuild]:
    args, kwargs = call
    flat = (*args, *kwargs.values())
    tensors = tuple(value for value in flat if isinstance(value, Tensor))
    marked = tuple(_TENSOR if isinstance(value, Tensor) else value for value in flat)
    return tensors, _Rebuild(marked[: len(args)], tuple(kwargs), marked[len(args) :])


class _Bound(nn.Module):
    """A unit as a function of tensors alone, giving the tensor it passes on."""

    def __init__(self, module: nn.Module, rebuild: _Rebuild, execution: Execution | None) -> None:
        super().__init__()
        self.unit = module
        self.rebuild = rebuild
        self.execution = execution
        self.eval()

    def forward(self, *tensors: Tensor) -> Tensor:
        args, kwargs = self.rebuild(tensors)
        result = self.unit(*args, **kwargs)
        output: Tensor = result if isinstance(result, Tensor) else result[0]
        return output if self.execution is None else self.execution.settle(output)


def _describe(module: nn.Module) -> object:
    """What decides the graph of a module: classes, plain attributes and shapes, recursively."""
    plain = tuple(
        (name, repr(value))
        for name, value in sorted(module.__dict__.items())
        if isinstance(value, (int, float, str, bool, tuple)) or value is None
        if name not in ("training", "layer_idx")
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
    return (type(module).__qualname__, plain, tensors, children)
