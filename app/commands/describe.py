"""What can be trained: families, their presets, and how large and costly their spaces are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.records.numbers import format_items
from app.records.quantities import find_quantity
from app.records.run import CALIBRATED
from app.reporting.tables import align_table
from app.runs import plugins
from app.runs.precision import extend, read_precision
from app.searching.objectives import BuiltNetwork, count_all
from supernet.errors import InputError
from supernet.space import nearest

_SAMPLES = 1000


@dataclass(frozen=True)
class FamilyInfo:
    """One line about a family; ``missing`` says what it needs that is not installed."""

    name: str
    task: str
    summary: str
    presets: tuple[str, ...]
    missing: str


@dataclass(frozen=True)
class Description:
    """A preset's space; costs of the smallest, the median of random ones, and the largest."""

    family: str
    preset: str
    task: str
    choices: int
    size: int
    units: int
    distinct_units: int
    costs: Mapping[str, Mapping[str, int]]
    precision: str | None = None


def list_families() -> tuple[FamilyInfo, ...]:
    """Every family in the folder."""
    found = []
    for name in plugins.list_names(plugins.FAMILY):
        try:
            module = plugins.load_family(name)
        except ModuleNotFoundError as error:
            found.append(FamilyInfo(name, "", "", (), str(error)))
            continue
        presets = tuple(module.PRESETS)
        found.append(FamilyInfo(name, module.TASK, module.SUMMARY, presets, ""))
    return tuple(found)


def describe_family(
    name: str, preset: str | None = None, precision: str | None = None
) -> Description:
    """Build a preset and count its costs.

    Args:
        name: Of the family.
        preset: Of it; by default the family's own.
        precision: Number formats that units may compute in; by default float alone.

    Raises:
        InputError: Unknown family, preset or precision.
    """
    module = plugins.load_family(name)
    preset = module.DEFAULT_PRESET if preset is None else preset
    if preset not in module.PRESETS:
        raise InputError(
            f"unknown preset {preset!r}{nearest(preset, list(module.PRESETS))}; presets of "
            f"{name} are {', '.join(module.PRESETS)}"
        )
    offered = None if precision is None else read_precision(precision, CALIBRATED)
    supernet = extend(module.build(module.PRESETS[preset]), offered)
    model, space = supernet.cost_model(), supernet.space
    ends = space.encode([space.smallest, space.largest])
    sample = space.sample(np.random.default_rng(0), _SAMPLES)
    network = BuiltNetwork(supernet, model)
    middle = count_all(network, sample)
    costs = {
        key: {
            "smallest": int(low),
            "median": int(np.median(middle[key])),
            "largest": int(high),
        }
        for key, (low, high) in count_all(network, ends).items()
    }
    return Description(
        family=name,
        preset=preset,
        task=module.TASK,
        choices=len(space),
        size=space.size,
        units=len(model.units),
        distinct_units=len(model.distinct),
        costs=costs,
        precision=None if offered is None else offered.policy,
    )


def format_families(families: Sequence[FamilyInfo]) -> str:
    """Write one line for each family."""
    rows = [
        (family.name, family.task, ", ".join(family.presets), family.missing or family.summary)
        for family in families
    ]
    return align_table(("family", "task", "presets", "summary"), rows)


def format_description(found: Description) -> str:
    """Show the size of a space and its costs."""
    ends = ("smallest", "median", "largest")
    costs = {find_quantity(name): values for name, values in found.costs.items()}
    rows = [
        (quantity.title, *(quantity.show(values[end]) for end in ends))
        for quantity, values in costs.items()
    ]
    precision = "" if found.precision is None else f", units in {found.precision}"
    return (
        f"{found.family} ({found.preset}), {found.task}{precision}\n"
        f"{format_items(found.choices, 'choice')}, "
        f"{format_items(found.size, 'distinct subnetwork')}, {format_items(found.units, 'unit')} "
        f"with {format_items(found.distinct_units, 'variant')} to profile\n"
        f"{align_table(('cost', *ends), rows)}"
    )
