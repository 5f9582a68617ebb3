"""Cost units of any supernet: which choices change a piece, and every variant of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from supernet.costs.borders import list_borders
from supernet.costs.combinations import (
    iterate_values,
    list_combinations,
    make_canonical,
    number_rows,
)
from supernet.costs.cost_model import CostModel, CostUnit, UnitVariants
from supernet.costs.unit_tracing import Call, Fold, MetUnit, UnitTracer, name_inside
from supernet.costs.workloads import FlatCall, Workload, make_inputs
from supernet.elastic.edit_index import EditIndex, Values, find_source_path
from supernet.elastic.edits import (
    Cut,
    Derive,
    Drop,
    Edit,
    Pick,
    Quantize,
    Resize,
    Rule,
    list_choices,
)
from supernet.elastic.slicing import build_shell
from supernet.errors import InputError
from supernet.graph.language import Graph
from supernet.graph.lowering import lower
from supernet.graph.quantized.packing import stored_bytes
from supernet.quantization.execution import Execution, find_execution
from supernet.quantization.folding import find_folds, fold_normalization
from supernet.quantization.formats import FP32, INT8
from supernet.space import Architecture, SearchSpace, Value

Combination = tuple[Value, ...]
Variant = tuple[CostUnit | None, int]
"""What a unit is, and its bytes."""
MOST_COMBINATIONS = 1 << 18
"""Of the choices of one unit: a table of them takes some seconds to list."""


class ElasticNetwork(Protocol):
    """What counting costs reads of a supernet: the network, its table and its subnetworks."""

    @property
    def model(self) -> nn.Module:
        """The plain largest network."""
        ...

    @property
    def shared(self) -> Mapping[str, nn.Parameter] | nn.ParameterDict:
        """Parameters that only derivations use, by name."""
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

    @property
    def edit_index(self) -> EditIndex:
        """The table, sorted by what it touches."""
        ...

    def extract(self, architecture: Architecture) -> nn.Module:
        """A stand-alone network with copied weights."""
        ...

    def example(self, architecture: Architecture, batch: int) -> Tensor:
        """A batch of inputs of the right shape and type."""
        ...


def trace_network(
    supernet: ElasticNetwork, architecture: Architecture, workload: Workload | None = None
) -> Graph:
    """Trace a whole subnetwork as a graph without weight values, with a dynamic batch.

    Raises:
        InputError: The network cannot do the workload.
    """
    network = _extract_folded(supernet, architecture)
    inputs = make_inputs(network, supernet.example(architecture, 1), workload)
    if len(inputs) == 1:
        return lower(network, inputs, structure_only=True)[0]
    flat = FlatCall(network, inputs)
    return lower(flat, flat.tensors, structure_only=True)[0]


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
    if isinstance(edit, Derive) and not edit.reshapes:
        return False
    if isinstance(edit, Drop):
        path = edit.stack
    elif isinstance(edit, Pick):
        path = edit.slot
    else:
        path = edit.tensor if isinstance(edit, (Cut, Derive)) else edit.module
    return path == unit or path.startswith(unit + ".")


def build_cost_model(supernet: ElasticNetwork, workload: Workload | None = None) -> CostModel:
    """Trace every variant of every unit of a supernet, each distinct one once.

    Args:
        supernet: The supernet.
        workload: What its networks are asked to do; by default to read whole inputs.

    Raises:
        InputError: A unit is not a module of the network, never runs, or has too many variants; or
            networks cannot do the workload.
    """
    modules = dict(supernet.model.named_modules())
    for unit in supernet.units:
        if unit not in modules:
            raise InputError(f"unit {unit!r} is not a module of the network")
        _check_combinations(supernet, unit)
    found = _Tracer(supernet, workload).cover()
    units = tuple(_list_variants(supernet, unit, *found[unit]) for unit in supernet.units)
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


def _list_variants(
    supernet: ElasticNetwork, unit: str, choices: Sequence[str], found: Mapping[int, Variant]
) -> UnitVariants:
    """List what a unit is under every combination of all choices that change it or leave it out.

    Args:
        supernet: The supernet.
        unit: Path of the unit.
        choices: Those that change it where it is there.
        found: What it is then, by the number of the canonical combination.
    """
    space, names = supernet.space, find_unit_choices(supernet, unit)
    rows = list_combinations(space, names)
    ours = rows[:, [names.index(name) for name in choices]]
    numbers = number_rows(space, choices, make_canonical(space, choices, ours))
    numbers[~_find_presence(supernet, unit, names, rows)] = -1
    known, places = np.unique(numbers, return_inverse=True)
    options = [found[n] if n >= 0 else (None, 0) for n in known.tolist()]
    table = [options[place] for place in places.tolist()]
    return UnitVariants(unit, names, tuple(v for v, _ in table), tuple(size for _, size in table))


def _find_presence(
    supernet: ElasticNetwork, unit: str, names: Sequence[str], rows: NDArray[np.int16]
) -> NDArray[np.bool_]:
    """Whether a unit is part of the network at all under combinations ``(n, len(names))``."""
    there = np.ones(len(rows), dtype=bool)
    for edit in supernet.edits:
        if isinstance(edit, Drop) and _encloses(edit, unit):
            child = unit[len(edit.stack) + 1 :].split(".")[0]
            place = list(supernet.model.get_submodule(edit.stack)._modules).index(child)
            # Most rows have values of these choices in common.
            ours = rows[:, [names.index(name) for name in edit.keep.choices]]
            known, inverse = np.unique(ours, axis=0, return_inverse=True)
            values = iterate_values(supernet.space, edit.keep.choices, known)
            kept = np.array([edit.keep.values[value] > place for value in values])
            there &= kept[inverse.reshape(-1)]
    return there


class _Tracer:
    """Runs covering architectures once and lists what each unit becomes.

    A forward pass meets one shape of every unit. What a unit is under different number formats is
    traced from the unit alone, so that passes are as many as the float supernet needs.
    """

    def __init__(self, supernet: ElasticNetwork, workload: Workload | None) -> None:
        self.supernet, self.workload = supernet, workload
        formats = [edit for edit in supernet.edits if isinstance(edit, Quantize)]
        shaping = {
            name
            for edit in supernet.edits
            if not isinstance(edit, Quantize)
            for name in list_choices(edit)
        }
        self.formats = {edit.module: edit.format for edit in formats}
        self.tracer = UnitTracer(any(edit.per_layer for edit in formats))
        self.choices: dict[str, tuple[str, ...]] = {}
        self.shapes: dict[str, tuple[str, ...]] = {}
        self.left: dict[str, dict[Combination, list[int]]] = {}
        self.rows: dict[str, NDArray[np.int16]] = {}
        self.found: dict[str, dict[int, Variant]] = {}
        for unit in supernet.units:
            edits = [edit for edit in supernet.edits if _reshapes(edit, unit)]
            names = {name for edit in edits for name in list_choices(edit)}
            self.choices[unit] = tuple(n for n in supernet.space.names if n in names)
            self.shapes[unit] = tuple(n for n in self.choices[unit] if n in shaping)
            self._list_rows(unit)

    def _list_rows(self, unit: str) -> None:
        """List the canonical combinations of a unit, those of one shape together."""
        space, names = self.supernet.space, self.choices[unit]
        # Of combinations that are one network (the kernel of a block that is not there) one.
        rows = make_canonical(space, names, list_combinations(space, names))
        rows = np.unique(rows, axis=0)
        self.rows[unit], self.found[unit], self.left[unit] = rows, {}, {}
        ours = rows[:, [names.index(name) for name in self.shapes[unit]]]
        for place, shape in enumerate(iterate_values(space, self.shapes[unit], ours)):
            self.left[unit].setdefault(shape, []).append(place)

    def cover(self) -> dict[str, tuple[tuple[str, ...], dict[int, Variant]]]:
        """Meet every shape of every unit, one of each unit in every forward pass.

        Returns:
            For each unit the choices that change it, and what it is and takes in bytes, by the
            number of each canonical combination.
        """
        space = self.supernet.space
        largest = dict(zip(space.names, space.largest.values, strict=True))
        while any(self.left.values()):
            fixed: dict[str, Value] = {}
            for unit, shapes in self.left.items():
                for shape in shapes:
                    pairs = dict(zip(self.shapes[unit], shape, strict=True))
                    if all(fixed.get(name, value) == value for name, value in pairs.items()):
                        fixed.update(pairs)
                        break
            self._visit(space.architecture({**largest, **fixed}))
        return {unit: (self.choices[unit], self.found[unit]) for unit in self.choices}

    def _visit(self, architecture: Architecture) -> None:
        values = Values(architecture)
        network = _extract_float(self.supernet, architecture)
        places = self._list_places(network, values)
        inputs = make_inputs(network, self.supernet.example(architecture, 1), self.workload)
        calls, folds = self._run(network, inputs, places)
        owners = _find_owners(network, self.supernet.units)
        for unit, names in self.shapes.items():
            rows = self.left[unit].pop(values.find_choices(names), None)
            if rows is None:
                continue
            if unit not in calls:
                raise InputError(f"unit {unit!r} is part of the network but never runs")
            module = network.get_submodule(unit)
            inside = {p: sources for p, sources in places.items() if _is_inside(p, unit)}
            ours = tuple(
                Fold(*(name_inside(path, unit) for path in pair))
                for pair in folds
                if all(_is_inside(path, unit) for path in pair)
            )
            known = tuple(name_inside(path, unit) for path in inside)
            elsewhere = tuple(name for name, p in module.named_parameters() if owners[p] != unit)
            met = MetUnit(unit, module, calls[unit], ours, known, elsewhere)
            size = _measure_unit(unit, module, owners)
            self._trace(met, inside, self.rows[unit][rows], size)

    def _list_places(self, network: nn.Module, values: Values) -> dict[str, tuple[Rule, ...]]:
        """What the format of each module with layers follows, the first that is not float."""
        places = {}
        for path, module in network.named_modules(remove_duplicate=False):
            # Below a picked candidate, rows speak of the path in the full model.
            sources = (path, find_source_path(self.supernet.edit_index, values, path))
            rules = tuple(self.formats[p] for p in dict.fromkeys(sources) if p in self.formats)
            if rules and any(isinstance(m, (nn.Conv2d, nn.Linear)) for m in module.modules()):
                places[path] = rules
        return places

    def _run(
        self, network: nn.Module, inputs: Sequence[Any], places: Iterable[str]
    ) -> tuple[dict[str, Call], list[tuple[str, str]]]:
        """What units are called with, and which convolutions and normalisations are one piece."""
        # As if all were in integers; of those that are not, nothing is folded later on.
        execution = Execution(dict.fromkeys(places, INT8), per_layer=self.tracer.per_layer)
        modules = dict(network.named_modules(remove_duplicate=False))
        calls: dict[str, Call] = {}
        handles = [
            modules[unit].register_forward_pre_hook(_make_recorder(calls, unit), with_kwargs=True)
            for unit in self.choices
        ]
        if execution.formats:
            handles += execution.guard({p: modules[p] for p in ("", *execution.formats)})
        try:
            # A real forward: on shapes alone torch takes its slow Python paths.
            found = find_folds(network, execution, *inputs)
        finally:
            execution.abandon()
            for handle in handles:
                handle.remove()
        paths = {id(module): path for path, module in modules.items()}
        return calls, [(paths[id(layer)], path) for layer, path, _ in found]

    def _trace(
        self,
        met: MetUnit,
        places: Mapping[str, Sequence[Rule]],
        rows: NDArray[np.int16],
        float_size: int,
    ) -> None:
        """Note what a unit of one shape is under canonical combinations of all of its choices."""
        space, names = self.supernet.space, self.choices[met.path]
        description = self.tracer.describe(met)
        numbers = number_rows(space, names, rows).tolist()
        for number, row in zip(numbers, iterate_values(space, names, rows), strict=True):
            values = dict(zip(names, row, strict=True))
            formats = {}
            for path, rules in places.items():
                chosen = (r.values[tuple(values[name] for name in r.choices)] for r in rules)
                form = next((f for f in chosen if f != FP32), FP32)
                if form != FP32:
                    formats[path] = form
            unit, size = self.tracer.trace(met, description, formats)
            self.found[met.path][number] = unit, size if formats else float_size


def _extract_float(supernet: ElasticNetwork, architecture: Architecture) -> nn.Module:
    """The subnetwork as it is without number formats."""
    plain = replace(supernet.edit_index, formats={})
    shell = build_shell(supernet.model, supernet.shared, plain, architecture, copied=True)
    return shell.network.eval()


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
    owners = _find_owners(network, supernet.units)
    return sum(
        _measure_unit(unit, modules[unit], owners) for unit in supernet.units if unit in modules
    )


def _find_owners(network: nn.Module, units: Sequence[str]) -> dict[nn.Parameter, str]:
    """Find the unit of every parameter: of those that share it, the first."""
    modules = dict(network.named_modules())
    owners: dict[nn.Parameter, str] = {}
    for unit in units:
        for parameter in modules[unit].parameters() if unit in modules else ():
            owners.setdefault(parameter, unit)
    return owners


def _measure_unit(path: str, module: nn.Module, owners: Mapping[nn.Parameter, str]) -> int:
    own = (p for p in module.parameters() if owners[p] == path)
    floating = (b for b in module.buffers() if b.is_floating_point())
    return 4 * sum(tensor.numel() for tensor in (*own, *floating))


def _make_recorder(calls: dict[str, Call], unit: str) -> Any:
    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls[unit] = (args, kwargs)

    return record


def _is_inside(path: str, unit: str) -> bool:
    return not unit or path == unit or path.startswith(f"{unit}.")
