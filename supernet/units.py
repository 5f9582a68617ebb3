"""Cost units of any supernet: which choices change a piece, and every variant of it."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from supernet.cost import CostModel, CostUnit, UnitVariants
from supernet.edits import Cut, Derive, Drop, Edit, Resize, edit_choices
from supernet.graph import Graph
from supernet.lowering import lower
from supernet.slicing import Values, tensor_bits
from supernet.space import Architecture, Value
from supernet.supernet import Supernet

Combination = tuple[Value, ...]
Call = tuple[tuple[Any, ...], dict[str, Any]]


def network_graph(supernet: Supernet, architecture: Architecture) -> Graph:
    """The whole subnetwork as a graph without weight values, with a dynamic batch."""
    meta = _on_meta(supernet)
    network = meta.extract(architecture).eval()
    return lower(network, (meta.example(architecture, 1, "meta"),))[0]


def network_graphs(supernet: Supernet, architectures: Sequence[Architecture]) -> list[Graph]:
    """Graphs of several subnetworks; copies the module tree once."""
    meta = _on_meta(supernet)
    return [
        lower(meta.extract(a).eval(), (meta.example(a, 1, "meta"),))[0] for a in architectures
    ]


def unit_choices(supernet: Supernet, unit: str) -> tuple[str, ...]:
    """Names of the choices that change a unit, in the order of the space.

    They follow from the table: rows on tensors and modules inside the unit, the depth of every
    stack the unit is part of, and the resolution.
    """
    names = {
        name
        for edit in supernet.edits
        if _touches(edit, unit)
        for name in edit_choices(edit)
    }
    return tuple(name for name in supernet.space.names if name in names)


def _touches(edit: Edit, unit: str) -> bool:
    if isinstance(edit, Resize):
        return True
    if isinstance(edit, Drop):
        return unit.startswith(edit.stack + ".") or edit.stack.startswith(unit + ".")
    path = edit.tensor if isinstance(edit, (Cut, Derive)) else edit.module
    return path == unit or path.startswith(unit + ".")


def cost_model(supernet: Supernet) -> CostModel:
    """Every variant of every unit of a supernet, each distinct one traced once.

    Raises:
        ValueError: A unit is not a module of the network, or never runs.
    """
    meta = _on_meta(supernet)
    modules = dict(meta.model.named_modules())
    for unit in meta.units:
        if unit not in modules:
            raise ValueError(f"unit {unit!r} is not a module of the network")
    wanted = {unit: _combinations(meta, unit) for unit in meta.units}
    tracer = _Tracer(meta, {unit: unit_choices(meta, unit) for unit in meta.units})
    tracer.cover(wanted)
    return CostModel(
        meta.space,
        tuple(
            UnitVariants(
                unit,
                tracer.choices[unit],
                tuple(tracer.found[unit].get(c, (None, 0))[0] for c in wanted[unit]),
                tuple(tracer.found[unit].get(c, (None, 0))[1] for c in wanted[unit]),
            )
            for unit in meta.units
        ),
    )


def _on_meta(supernet: Supernet) -> Supernet:
    meta = copy.copy(supernet)
    meta.__dict__ = supernet.__getstate__()
    memo: dict[int, Any] = {}
    for parameter in supernet.parameters():
        memo[id(parameter)] = nn.Parameter(
            parameter.detach().to("meta"), parameter.requires_grad
        )
    for buffer in supernet.buffers():
        memo[id(buffer)] = buffer.to("meta")
    meta._modules = {
        "model": copy.deepcopy(supernet.model, memo),
        "shared": copy.deepcopy(supernet.shared, memo),
    }
    return meta


def _combinations(supernet: Supernet, unit: str) -> list[Combination]:
    choices = [supernet.space.choice(name) for name in unit_choices(supernet, unit)]
    return list(itertools.product(*(choice.values for choice in choices)))


class _Tracer:
    """Runs covering architectures on shapes alone and keeps what each unit became."""

    def __init__(self, supernet: Supernet, choices: Mapping[str, tuple[str, ...]]) -> None:
        self.supernet = supernet
        self.choices = choices
        self.found: dict[str, dict[Combination, tuple[CostUnit | None, int]]] = {
            unit: {} for unit in choices
        }
        self.traced: dict[object, Graph] = {}

    def cover(self, wanted: Mapping[str, Sequence[Combination]]) -> None:
        """Meet every combination of every unit, many of them in each forward pass."""
        for architecture in self._architectures(wanted):
            self._visit(architecture)

    def _architectures(
        self, wanted: Mapping[str, Sequence[Combination]]
    ) -> Iterator[Architecture]:
        left = {unit: list(combinations) for unit, combinations in wanted.items()}
        base = dict(
            zip(self.supernet.space.names, self.supernet.space.largest.values, strict=True)
        )
        while any(left.values()):
            fixed: dict[str, Value] = {}
            for unit, combinations in left.items():
                names = self.choices[unit]
                for combination in combinations:
                    pairs = dict(zip(names, combination, strict=True))
                    if all(fixed.get(n, v) == v for n, v in pairs.items()):
                        fixed.update(pairs)
                        combinations.remove(combination)
                        break
            yield self.supernet.space.architecture({**base, **fixed})
            for unit, combinations in left.items():
                left[unit] = [c for c in combinations if c not in self.found[unit]]

    def _visit(self, architecture: Architecture) -> None:
        network = self.supernet.extract(architecture).eval()
        # Inert choices of an absent unit hold one value; its other values are absent as well.
        values = Values(architecture)
        modules = dict(network.named_modules())
        calls: dict[str, Call] = {}
        handles = [
            modules[unit].register_forward_pre_hook(_recorder(calls, unit), with_kwargs=True)
            for unit in self.choices
            if unit in modules
        ]
        with torch.no_grad():
            network(self.supernet.example(architecture, 1, "meta"))
        for handle in handles:
            handle.remove()
        for unit, names in self.choices.items():
            combination = values.choices(names)
            if unit not in modules:
                self._mark_absent(unit, names, architecture)
            elif combination not in self.found[unit]:
                if unit not in calls:
                    raise ValueError(f"unit {unit!r} is part of the network but never runs")
                self.found[unit][combination] = (
                    CostUnit(self._trace(unit, modules[unit], calls[unit])),
                    self._size(unit, modules[unit], values),
                )

    def _mark_absent(
        self, unit: str, names: Sequence[str], architecture: Architecture
    ) -> None:
        active = dict(zip(architecture.names, architecture.active, strict=True))
        values = dict(zip(architecture.names, architecture.values, strict=True))
        options = [
            (values[name],) if active[name] else self.supernet.space.choice(name).values
            for name in names
        ]
        for combination in itertools.product(*options):
            self.found[unit][combination] = (None, 0)

    def _trace(self, unit: str, module: nn.Module, call: Call) -> Graph:
        tensors, rebuild = _split_call(call)
        key = (_signature(module), tuple((tuple(t.shape), t.dtype) for t in tensors), rebuild.key)
        if key not in self.traced:
            self.traced[key] = lower(_Bound(module, rebuild), tensors)[0]
        return self.traced[key]

    def _size(self, unit: str, module: nn.Module, values: Values) -> int:
        total = 0
        for name, parameter in module.named_parameters():
            bits = tensor_bits(self.supernet.plan, values, f"{unit}.{name}")
            total += (parameter.numel() * bits + 7) // 8
            if bits < 32:
                # One 32-bit scale per output channel.
                total += 4 * parameter.shape[0]
        floating = (b for b in module.buffers() if b.is_floating_point())
        return total + sum(4 * buffer.numel() for buffer in floating)


def _recorder(calls: dict[str, Call], unit: str) -> Any:
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

    def __init__(self, module: nn.Module, rebuild: _Rebuild) -> None:
        super().__init__()
        self.unit = module
        self.rebuild = rebuild
        self.eval()

    def forward(self, *tensors: Tensor) -> Tensor:
        args, kwargs = self.rebuild(tensors)
        result = self.unit(*args, **kwargs)
        output: Tensor = result if isinstance(result, Tensor) else result[0]
        return output


def _signature(module: nn.Module) -> object:
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
        (name, None if child is None else _signature(child))
        for name, child in module._modules.items()
    )
    return (type(module).__qualname__, plain, tensors, children)
