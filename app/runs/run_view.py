"""A run as people are shown it, read without torch and past damage.

Of a large run, arrays are written beside its largest files, where that is possible, so that it is
quick to open; everything else is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from app.records.columns.evaluation_columns import (
    EvaluationColumns,
    no_evaluations,
    read_evaluations,
)
from app.records.columns.stored_front import open_front
from app.records.device import DeviceRecord, TableReport
from app.records.evaluation import EvaluationRecord
from app.records.searches.front import Front
from app.records.searches.search import EMPTY, REMEDY, SearchRecord
from app.records.typed_json.record import Kind
from app.records.typed_json.record_files import read_record
from app.runs.command_lines import (
    list_own_modules,
    profile_command,
    resume_command,
    search_command,
)
from app.runs.directory import Run, read_space
from supernet.errors import InputError
from supernet.space import SearchSpace

_Read = TypeVar("_Read")
_PROFILE_AGAIN = "profile the device again"


@dataclass(frozen=True)
class DeviceView:
    """One profiled device: ``report`` is ``None`` while its table has not been validated."""

    name: str
    description: str
    report: TableReport | None


@dataclass(frozen=True)
class RunView:
    """Everything that is shown of one run directory.

    ``problems`` holds one sentence for each file that is missing or damaged; the rest of the view
    is what could still be read. ``trust`` are modules outside this project that ``run.json`` names,
    which are used after ``--trust NAME`` only. ``precision`` names the formats that units choose
    among; it is empty where all of them compute in float.
    """

    path: Path
    family: str
    preset: str
    data: str
    created: str
    stages: Mapping[str, str]
    space: SearchSpace | None
    devices: Mapping[str, DeviceView]
    fronts: Mapping[str, Front]
    evaluations: EvaluationColumns
    problems: tuple[str, ...]
    trust: tuple[str, ...] = ()
    precision: str = ""


def load_run(path: Path) -> RunView:
    """Read a run directory, as much of it as is there.

    Raises:
        InputError: There is no readable ``run.json``: nothing can be said about the folder.
    """
    path = Path(path)
    record = Run(path).record
    problems: list[str] = []
    return RunView(
        path=path,
        family=record.family,
        preset=record.preset,
        data=record.data.spec,
        created=record.created,
        stages={name: stage.status for name, stage in record.stages.items()},
        space=_read_space(path, problems),
        devices=_read_devices(path, problems),
        fronts=_read_fronts(path, problems),
        evaluations=_read_evaluations(path, problems),
        problems=tuple(problems),
        trust=list_own_modules(record),
        precision="" if record.precision is None else record.precision.policy,
    )


def find_quality(run: RunView, digest: str) -> EvaluationRecord | None:
    """The newest quality on record for an architecture; the test split before any other."""
    rows = run.evaluations
    known = (rows.digest == digest) & ~np.isnan(rows.value)
    tested = known & (rows.split == "test")
    places = np.flatnonzero(tested if tested.any() else known)
    return rows[int(places[-1])] if len(places) else None


def suggest_command(run: RunView) -> tuple[str, str] | None:
    """What this run lacks before a front can be shown, and the command that provides it."""
    if run.fronts:
        return None
    named = " and ".join(run.trust)
    note = f" {named} will run as a program: only if it is yours." if named else ""
    if run.stages.get("train") != "complete":
        return (
            f"The supernet of this run is not trained to the end yet.{note}",
            # What it names itself is not typed here: a typed name is trusted.
            resume_command(run.path, trust=run.trust),
        )
    if not run.devices:
        return (
            f"No device has been profiled for this run, so no latency is known yet.{note}",
            profile_command(run.path, "cpu", run.trust),
        )
    device = next(iter(run.devices))
    quality = str(run.evaluations.objective[0]) if len(run.evaluations) else "accuracy"
    return (
        f"Nothing has been searched in this run yet.{note}",
        search_command(run.path, device, quality, run.trust),
    )


def _read_space(run: Path, problems: list[str]) -> SearchSpace | None:
    path = run / "space.json"
    if not path.exists():
        problems.append(f"{path} is missing, so choices are shown without their legal values")
        return None
    return _note_damage(partial(read_space, path), problems)


def _read_devices(run: Path, problems: list[str]) -> dict[str, DeviceView]:
    def explain(name: str) -> str:
        command = profile_command(run, name)
        return f"Device {name} has no finished latency table yet; `{command}` finishes it"

    found = {}
    for folder in _list_finished(run / "devices", "table.parquet", explain, problems):
        about = _note_damage(
            partial(_read_with, folder / "device.json", DeviceRecord, "fingerprint"), problems
        )
        report = None
        if (folder / "report.json").exists():
            report = _note_damage(
                partial(_read_with, folder / "report.json", TableReport, "mape"), problems
            )
        else:
            problems.append(explain(folder.name))
        description = "" if about is None else about.description
        found[folder.name] = DeviceView(folder.name, description, report)
    return found


def _read_with(path: Path, kind: type[Kind], name: str) -> Kind:
    """A record that must have one of its optional entries, to be told from other files."""
    record = read_record(path, kind, _PROFILE_AGAIN)
    if name not in record.model_fields_set:
        raise InputError(f"{path} was damaged or edited: it lacks {name!r}; {_PROFILE_AGAIN}")
    return record


def _read_fronts(run: Path, problems: list[str]) -> dict[str, Front]:
    def explain(name: str) -> str:
        plan = run / "searches" / name / "search.json"
        with suppress(OSError, InputError):
            if read_record(plan, SearchRecord, REMEDY).status == EMPTY:
                return (
                    f"Search {name} came to its end and found nothing within its limits; loosen "
                    "them, or evaluate more"
                )
        return (
            f"Search {name} has no front yet; the command that started it goes on "
            "where it stopped when it is run again"
        )

    found = {}
    for folder in _list_finished(run / "searches", "front.json", explain, problems):
        front = _note_damage(partial(open_front, folder), problems)
        if front is not None:
            found[folder.name] = front
    return found


def _list_finished(
    parent: Path, result: str, explain: Callable[[str], str], problems: list[str]
) -> list[Path]:
    """Folders that hold their result; one more problem, explained, for every other."""
    finished = []
    for folder in _list_folders(parent):
        if (folder / result).exists():
            finished.append(folder)
        else:
            problems.append(explain(folder.name))
    return finished


def _read_evaluations(run: Path, problems: list[str]) -> EvaluationColumns:
    def say(warning: str) -> None:
        problems.append(warning.removeprefix("warning: "))

    found = _note_damage(partial(read_evaluations, run / "evaluations.jsonl", say), problems)
    return no_evaluations() if found is None else found


def _note_damage(read: Callable[[], _Read], problems: list[str]) -> _Read | None:
    """What a reader gives; ``None`` and one more problem when the file cannot be used."""
    try:
        return read()
    except (OSError, InputError) as error:
        problems.append(str(error))
        return None


def _list_folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
