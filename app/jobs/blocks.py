"""What each unit of one architecture holds and takes: parameters, bytes, latency by the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.runs.directory import open_run
from app.runs.latency_table import open_table
from app.runs.trained import build
from supernet.costs.workloads import parse_workload
from supernet.space import Value


@dataclass(frozen=True)
class UnitSize:
    """One unit.

    Args:
        unit: Its path among the modules of the network.
        parameters: Trainable numbers in it.
        size_bytes: What these and its statistics take as float32.
    """

    unit: str
    parameters: int
    size_bytes: int


def count_blocks(run: Path, choices: Mapping[str, Value]) -> tuple[UnitSize, ...]:
    """Count what each unit of an architecture holds, in the order in which they compute.

    Args:
        run: The run directory, whose supernet is built with initial weights.
        choices: The choices of the architecture that matter.

    Raises:
        InputError: The run names a family that cannot be used here, or another space.
    """
    supernet = build(open_run(run))
    network = supernet.extract(supernet.space.architecture(choices))
    modules = dict(network.named_modules())
    found = []
    for unit in supernet.units:
        if unit not in modules:
            continue
        parameters = sum(tensor.numel() for tensor in modules[unit].parameters())
        statistics = (b for b in modules[unit].buffers() if b.is_floating_point())
        numbers = parameters + sum(tensor.numel() for tensor in statistics)
        found.append(UnitSize(unit, parameters, 4 * numbers))
    return tuple(found)


def break_down(
    run: Path, device: str, choices: Mapping[str, Value]
) -> tuple[tuple[str, float], ...]:
    """What each unit of an architecture takes, by the latency table of a device.

    Args:
        run: The run directory.
        device: Name of the device.
        choices: The choices of the architecture that matter.

    Returns:
        Name and milliseconds of every unit, as a search stores them of its front.

    Raises:
        InputError: The run names what cannot be used here, or the table does not fit it.
    """
    opened = open_run(run)
    supernet = build(opened)
    table = open_table(
        opened,
        device,
        lambda workload: supernet.cost_model(parse_workload(workload)),
        lambda _warning: None,
    )
    found = table.breakdown(supernet.space.architecture(choices))
    return tuple((part.unit, part.latency_ms) for part in found)
