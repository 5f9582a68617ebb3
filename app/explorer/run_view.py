"""What the explorer shows, read from run directories without writing to them and without torch."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.records.front import Front, Hypervolume
from app.records.front_reading import front_from_json
from app.records.quantities import QUALITIES
from supernet.files import read_json, read_records
from supernet.space import SearchSpace

FORMAT_VERSION = 1
BASELINE = "random_search"


@dataclass(frozen=True)
class TableReport:
    """How far a latency table can be trusted, as its profile found on networks it had not seen.

    Args:
        trusted: The table's own verdict; ``None`` when the report gives none.
        sentence: The verdict in words, possibly empty.
        mape: Mean absolute percentage error, as a fraction.
        within_5: Share of networks predicted within 5 %, as a fraction.
        within_10: Share of networks predicted within 10 %, as a fraction.
        tau: Kendall's tau between predicted and measured latency.
        noise_floor: Error of measuring the same network again, as a fraction.
        networks: How many held-out networks the figures rest on.
    """

    trusted: bool | None
    sentence: str
    mape: float | None
    within_5: float | None
    within_10: float | None
    tau: float | None
    noise_floor: float | None
    networks: int | None


@dataclass(frozen=True)
class DeviceView:
    """One profiled device: ``report`` is ``None`` while its table has not been validated."""

    name: str
    description: str
    report: TableReport | None


@dataclass(frozen=True)
class RunView:
    """Everything the explorer reads from one run directory.

    ``problems`` holds one sentence for each file that is missing or damaged; the rest of the view
    is what could still be read.
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
    evaluations: tuple[Mapping[str, Any], ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Quality:
    """A figure of one architecture from the evaluations: which objective, on which split."""

    objective: str
    unit: str
    split: str
    value: float


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Run directories among ``paths`` and, for a path that is none, directly inside it."""
    found: list[Path] = []
    for path in paths:
        if (path / "run.json").is_file():
            found.append(path)
        elif path.is_dir():
            found += sorted(child.parent for child in path.glob("*/run.json"))
    unique: dict[Path, Path] = {}
    for path in found:
        unique.setdefault(path.resolve(), path)
    return list(unique.values())


def load_run(path: Path) -> RunView:
    """Read a run directory, as much of it as is there.

    Raises:
        ValueError: There is no readable ``run.json``: nothing can be said about the folder.
    """
    path = Path(path)
    try:
        info = _mapping(path / "run.json")
    except FileNotFoundError:
        raise ValueError(
            f"{path} is not a run directory: it has no run.json; "
            "`supernet quickstart --out RUN` makes one"
        ) from None
    if info.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{path / 'run.json'} has version {info.get('version')!r}; "
            f"this release reads version {FORMAT_VERSION}"
        )
    problems: list[str] = []
    data = info.get("data")
    stages = info.get("stages")
    return RunView(
        path=path,
        family=str(info.get("family", "unknown family")),
        preset=str(info.get("preset") or ""),
        data=str(data.get("spec", "unknown")) if isinstance(data, Mapping) else "unknown",
        created=str(info.get("created", "")),
        stages={
            str(name): str(stage.get("status", "unknown"))
            for name, stage in (stages if isinstance(stages, Mapping) else {}).items()
            if isinstance(stage, Mapping)
        },
        space=_space(path, problems),
        devices=_devices(path, problems),
        fronts=_fronts(path, problems),
        evaluations=_evaluations(path, problems),
        problems=tuple(problems),
    )


def quality_of(run: RunView, digest: str) -> Quality | None:
    """The newest quality on record for an architecture; the test split before any other."""
    rows = [
        row
        for row in run.evaluations
        if row.get("digest") == digest
        and row.get("objective") in QUALITIES
        and isinstance(row.get("value"), (int, float))
    ]
    if not rows:
        return None
    row = max(enumerate(rows), key=lambda pair: (pair[1].get("split") == "test", pair[0]))[1]
    return Quality(
        str(row["objective"]),
        str(row.get("unit", "")),
        str(row.get("split", "unknown")),
        float(row["value"]),
    )


def next_command(run: RunView) -> tuple[str, str] | None:
    """What this run lacks before a front can be shown, and the command that provides it."""
    name = str(run.path)
    if run.fronts:
        return None
    if run.stages.get("train") != "complete":
        return (
            "The supernet of this run is not trained to the end yet.",
            f"supernet train --family {run.family} --data {quoted(run.data)} "
            f"--out {quoted(name)} --resume",
        )
    if not run.devices:
        return (
            "No device has been profiled for this run, so no latency is known yet.",
            f"supernet profile --run {quoted(name)} --device cpu",
        )
    device = next(iter(run.devices))
    return (
        "Nothing has been searched in this run yet.",
        f"supernet search --run {quoted(name)} --device {quoted(device)} "
        "--objectives accuracy,latency",
    )


def pick_command(run: Path, search: str, latency_ms: float) -> str:
    """The command line that picks the same subnetwork as the slider does."""
    which = "" if search == "default" else f" --search {quoted(search)}"
    return f"supernet pick --run {quoted(str(run))}{which} --latency-ms {latency_ms:.6g}"


def export_command(run: Path, digest: str, out: Path) -> str:
    """The command line that exports one architecture."""
    return f"supernet export --run {quoted(str(run))} --arch {digest} --out {quoted(str(out))}"


def explore_command(
    runs: Sequence[Path], *, port: int | None = None, headless: bool = False
) -> list[str]:
    """The process that serves the explorer on this machine, ready for ``subprocess.run``.

    Args:
        runs: Run directories, or folders that contain some.
        port: TCP port; Streamlit's default (8501, or the next free one) without it.
        headless: Do not open a browser.
    """
    options = {
        "server.address": "localhost",
        "server.headless": "true" if headless else "false",
        # On a first start Streamlit would wait for an e-mail address on the terminal.
        "server.showEmailPrompt": "false",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
    }
    if port is not None:
        options["server.port"] = str(port)
    script = Path(__file__).with_name("page.py")
    flags = [f"--{name}={value}" for name, value in options.items()]
    names = [str(run) for run in runs]
    return [sys.executable, "-m", "streamlit", "run", str(script), *flags, "--", *names]


def quoted(text: str) -> str:
    """``text`` as one shell word, in double quotes only when it needs them."""
    if text and all(c.isalnum() or c in "._-/\\:+=@%" for c in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return '"' + escaped.replace("`", "\\`") + '"'


# -- the parts of a run directory ------------------------------------------------------------------


def _mapping(path: Path) -> dict[str, Any]:
    payload = read_json(path)
    if not isinstance(payload, dict):
        raise ValueError(f"{path} holds a {type(payload).__name__} instead of a JSON object")
    return payload


def _space(run: Path, problems: list[str]) -> SearchSpace | None:
    path = run / "space.json"
    try:
        return SearchSpace.from_json(_mapping(path))
    except FileNotFoundError:
        problems.append(f"{path} is missing, so choices are shown without their legal values")
    except (KeyError, TypeError, IndexError) as error:
        problems.append(f"{path} is not a search space ({type(error).__name__}: {error})")
    except (OSError, ValueError) as error:
        problems.append(f"{path} cannot be used: {error}")
    return None


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))


def _devices(run: Path, problems: list[str]) -> dict[str, DeviceView]:
    found = {}
    for folder in _folders(run / "devices"):
        if not (folder / "table.parquet").is_file():
            problems.append(
                f"Device {folder.name} has no finished latency table yet; "
                f"`supernet profile --run {quoted(str(run))} --device {folder.name}` finishes it"
            )
            continue
        description, report = "", None
        try:
            description = _describe_device(_mapping(folder / "device.json"))
        except (OSError, ValueError) as error:
            problems.append(f"The description of device {folder.name} cannot be read: {error}")
        try:
            report = table_report(_mapping(folder / "report.json"))
        except FileNotFoundError:
            report = None
        except (OSError, ValueError) as error:
            problems.append(f"The table report of {folder.name} cannot be read: {error}")
        found[folder.name] = DeviceView(folder.name, description, report)
    return found


def _describe_device(info: Mapping[str, Any]) -> str:
    fingerprint = info.get("fingerprint")
    processor = fingerprint.get("cpu") if isinstance(fingerprint, Mapping) else None
    threads = info.get("threads")
    parts = [
        str(processor or ""),
        str(info.get("provider") or "").removesuffix("ExecutionProvider"),
        f"{threads} thread{'s' if threads != 1 else ''}" if threads else "",
        str(info.get("precision") or ""),
    ]
    return ", ".join(part for part in parts if part)


def table_report(payload: Mapping[str, Any]) -> TableReport:
    """The figures of a device's ``report.json``; those it lacks are ``None``."""
    trusted = payload.get("trustworthy")
    networks = _number(payload, "networks")
    return TableReport(
        trusted=trusted if isinstance(trusted, bool) else None,
        sentence=str(payload.get("verdict") or ""),
        mape=_number(payload, "mape"),
        within_5=_number(payload, "within_5"),
        within_10=_number(payload, "within_10"),
        tau=_number(payload, "kendall_tau"),
        noise_floor=_number(payload, "floor_mape"),
        networks=None if networks is None else int(networks),
    )


def _number(payload: Mapping[str, Any], name: str) -> float | None:
    value = payload.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _fronts(run: Path, problems: list[str]) -> dict[str, Front]:
    found = {}
    for folder in _folders(run / "searches"):
        path = folder / "front.json"
        try:
            found[folder.name] = front_from_json(_mapping(path), str(path), folder.name)
        except FileNotFoundError:
            problems.append(
                f"Search {folder.name} has no front yet; the command that started it goes on "
                "where it stopped when it is run again"
            )
        except (OSError, ValueError) as error:
            problems.append(f"The front of search {folder.name} cannot be shown: {error}")
    return found


def hypervolumes(run: Path, search: str) -> tuple[Hypervolume, ...]:
    """The progress of a search, in the order written; a torn last line is left out.

    Raises:
        ValueError: The file has other columns than ``evaluations,hypervolume`` and those of a
            baseline.
    """
    path = run / "searches" / search / "hypervolume.csv"
    if not path.is_file():
        return ()
    whole, _, _torn = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    rows = []
    for line, row in enumerate(csv.DictReader(whole.splitlines()), start=2):
        try:
            value, beside = row["hypervolume"], row.get(BASELINE)
            rows.append(Hypervolume(int(row["evaluations"]), _volume(value), _volume(beside)))
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{path}, line {line} is not `evaluations,hypervolume`: the file was damaged"
            ) from None
    return tuple(rows)


def _volume(text: str | None) -> float | None:
    """A cell of a trace; one of two traces may be shorter, and its last cells are empty."""
    return None if text is None or text == "" else float(text)


def _evaluations(run: Path, problems: list[str]) -> tuple[Mapping[str, Any], ...]:
    try:
        records = read_records(run / "evaluations.jsonl")
    except (OSError, ValueError) as error:
        problems.append(f"The evaluations cannot be read: {error}")
        return ()
    return tuple(record for record in records if isinstance(record, dict))
