"""Verification: every point of a front evaluated on unseen data and measured on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from app.evaluation.log import EvaluationLog
from app.progress import Say, Step
from app.records.evaluation import EvaluationRecord
from app.runs.latency_table import DeviceTable
from hardware.timing import Measurement
from supernet.costs.workloads import parse_workload
from supernet.errors import InputError
from supernet.space import Architecture


@dataclass(frozen=True)
class Verified:
    """What was found about one architecture.

    Args:
        test: Its record on the test split.
        latencies: Measured, by device.
    """

    test: EvaluationRecord
    latencies: Mapping[str, Measurement]


def measurable(tables: Mapping[str, DeviceTable], say: Say) -> dict[str, DeviceTable]:
    """The tables of devices that are this machine; the others are named once.

    Args:
        tables: Tables by device.
        say: Told which devices cannot be measured here, and why.
    """
    here = {}
    for name, table in tables.items():
        try:
            table.table.check_device(table.device)
        except InputError as error:
            say(f"warning: latencies on {name} stay those of its table, unmeasured: {error}")
        else:
            here[name] = table
    return here


def verify(
    architectures: Sequence[Architecture],
    log: EvaluationLog,
    tables: Mapping[str, DeviceTable],
    say: Say,
) -> dict[str, Verified]:
    """Evaluate on the test split, once for each, and measure the real networks, interleaved.

    Args:
        architectures: The front.
        log: Where evaluations are kept.
        tables: Tables whose devices measure; none measures nothing.
        say: Told about progress.

    Returns:
        Findings by digest.

    Raises:
        InputError: This machine is not the one a table was made on.
    """
    tests = {}
    for number, architecture in enumerate(architectures, start=1):
        tests[architecture.digest] = log.evaluate(architecture, "test")
        say(Step("verify: evaluating on the test split", number, len(architectures), "network"))
    measured: dict[str, list[Measurement]] = {}
    supernet = log.trained.supernet
    for name, table in tables.items():
        task, workload = f"verify: measuring on {name}", parse_workload(table.device.workload)
        say(Step(task, passing=True))
        measured[name] = table.measure(
            [supernet.graph(a, workload) for a in architectures],
            partial(_tell_measurements, task, say),
        )
    return {
        a.digest: Verified(tests[a.digest], {name: rows[i] for name, rows in measured.items()})
        for i, a in enumerate(architectures)
    }


def _tell_measurements(task: str, say: Say, done: int, total: int) -> None:
    say(Step(task, done, total, "measurement"))
