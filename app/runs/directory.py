"""The run directory: the only state that outlives a process."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import JsonValue

from app.records.run import REMEDY, RunIdentity, RunRecord, StageRecord
from app.records.space import SpaceRecord
from app.records.typed_json.record import to_json
from app.records.typed_json.record_files import parse_record, read_record, write_record
from supernet import __version__, files
from supernet.errors import InputError
from supernet.space import SearchSpace

# What may differ between two commands that ask for the same run.
_FREE = (
    "data.spec",
    "data.image_size",
    "data.context",
    "recipe.checkpoint_every",
    "recipe.log_every",
    "teacher.run",
)
_MOST_SHOWN = 6
# What run.json leads to.
_SPACE_REMEDY = "`supernet search` and `supernet train --resume` write it again"


@dataclass(frozen=True)
class Difference:
    """One setting in which two runs differ; a missing one is ``None``."""

    name: str
    ours: JsonValue
    theirs: JsonValue


@dataclass(frozen=True)
class Run:
    """A run directory that exists; every property reads what is on disk now.

    Args:
        path: The directory.
        trusted: Dotted paths of a user's own modules that its files may name.
    """

    path: Path
    trusted: tuple[str, ...] = ()

    @property
    def record(self) -> RunRecord:
        """The content of ``run.json``.

        Raises:
            ValueError: Missing, damaged or of another format.
        """
        try:
            return read_record(self.path / "run.json", RunRecord, REMEDY)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{self.path} is not a run directory: it has no run.json; "
                "`supernet quickstart --out RUN` or `supernet train --out RUN` makes one"
            ) from None

    @property
    def space(self) -> SearchSpace:
        """The search space; ValueError when the file is missing or damaged."""
        path = self.path / "space.json"
        try:
            return read_space(path)
        except FileNotFoundError:
            raise InputError(f"{path} is missing; {_SPACE_REMEDY}") from None

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def evaluations(self) -> Path:
        """Log of every evaluated architecture."""
        return self.path / "evaluations.jsonl"

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the profiled devices (complete tables only)."""
        return _names(self.path / "devices", "table.parquet")

    @property
    def searches(self) -> tuple[str, ...]:
        """Names of the searches with a front."""
        return _names(self.path / "searches", "front.json")

    @property
    def audits(self) -> tuple[str, ...]:
        """Names of the finished audits."""
        return _names(self.path / "audits", "audit.json")

    def audit(self, name: str) -> Path:
        """Folder of an audit."""
        return self.path / "audits" / name

    def device(self, name: str) -> Path:
        """Folder of a device."""
        return self.path / "devices" / name

    def search(self, name: str) -> Path:
        """Folder of a search."""
        return self.path / "searches" / name

    def stage(self, name: str) -> StageRecord | None:
        """What ``run.json`` says about a stage; ``None`` before it began."""
        return self.record.stages.get(name)

    def set_stage(self, name: str, status: str, /, **facts: object) -> None:
        """Record that a stage is ``"running"`` or ``"complete"``, and facts about it."""
        path, record = self.path / "run.json", self.record
        old = record.stages.get(name)
        known = {} if old is None else to_json(old)
        content = {**known, **facts, "status": status, "updated": now()}
        stage = parse_record(content, StageRecord, f"stage {name} of {path}", REMEDY)
        stages = {**record.stages, name: stage}
        write_record(path, record.replace(stages=stages))

    def writing(self) -> AbstractContextManager[None]:
        """Keep other commands from writing to this run at the same time.

        Raises:
            ValueError: Another process is writing.
        """
        return writing(self.path)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Keep other commands from writing to a folder that exists, at the same time.

    Raises:
        ValueError: Another process is writing.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another command is writing to {folder}; wait for it, or end it first"
            ) from None
        # The lock goes with the process, however it ends.
        yield


def open_run(path: Path, trusted: Sequence[str] = ()) -> Run:
    """Open the run at ``path``.

    Args:
        path: The directory.
        trusted: Dotted paths of a user's own modules that its files may name.

    Raises:
        ValueError: There is none, or its ``run.json`` is damaged.
    """
    run = Run(Path(path), tuple(trusted))
    run.record  # noqa: B018
    return run


def create_run(path: Path, identity: RunIdentity, space: SearchSpace) -> Run:
    """The run at ``path``, made if it is not there yet.

    Args:
        path: The directory.
        identity: What makes it this run.
        space: Its search space.

    Raises:
        ValueError: The folder holds another run (the message says what differs) or other files.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; a run needs a directory")
    run = Run(path)
    if (path / "run.json").exists():
        check_same_run(path, run.record, identity)
    else:
        check_free(path)
        path.mkdir(parents=True, exist_ok=True)
        facts = {"created": now(), "versions": list_versions(), "stages": {}}
        content = {**to_json(identity), **facts}
        record = parse_record(content, RunRecord, f"{path}, which is about to be made", REMEDY)
        write_record(path / "run.json", record)
    keep_space(path, space)
    return run


def keep_space(path: Path, space: SearchSpace) -> str:
    """Write ``space.json`` where it does not hold the space that the network of the run has.

    Args:
        path: The run directory.
        space: What ``run.json`` leads to.

    Returns:
        What was wrong with a file that was there, as a sentence; empty where nothing was.
    """
    file = path / "space.json"
    problem = ""
    if file.exists():
        try:
            stored = read_space(file).digest
            if stored == space.digest:
                return ""
            problem = f"{file} holds space {stored}, but the network has {space.digest}"
        except (OSError, InputError) as error:
            problem = str(error)
        files.set_aside(file)
    files.write_json(file, space.to_json())
    return problem


def read_space(path: Path) -> SearchSpace:
    """The search space in a ``space.json``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or its content does not match its digest.
    """
    record = read_record(path, SpaceRecord, _SPACE_REMEDY)
    try:
        return SearchSpace.from_json({**to_json(record), "version": record.format})
    # Choices that need each other in a long chain are followed by recursion.
    except (InputError, RecursionError) as error:
        raise InputError(
            f"{path} is not the search space of this run ({error}); {_SPACE_REMEDY}"
        ) from None


def check_free(path: Path) -> None:
    """ValueError when a folder holds files that no run wrote."""
    found = [p.name for p in path.iterdir()] if path.is_dir() else []
    strangers = sorted(n for n in found if not n.startswith((files.TEMPORARY, ".lock")))
    if strangers:
        shown = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
        raise InputError(
            f"{path} is not empty and is not a run ({shown}); choose a new or empty directory"
        )


def check_same_run(path: Path, record: RunRecord, identity: RunIdentity) -> None:
    """ValueError saying what differs, unless ``record`` describes the run asked for."""
    changes = find_differences(record, identity)
    if changes:
        shown = ", ".join(f"{c.name}: {c.ours} -> {c.theirs}" for c in changes[:_MOST_SHOWN])
        left = len(changes) - _MOST_SHOWN
        raise InputError(
            f"{path} holds another run ({shown}{f' and {left} more' if left > 0 else ''}); "
            "choose another --out, or ask for the same settings to continue it"
        )


def find_differences(ours: RunIdentity, theirs: RunIdentity) -> list[Difference]:
    """Settings in which two runs differ.

    A data specification, and how often a training saves and logs, do not make another run.
    Derived values (the network's configuration, the space) are left out when what they derive
    from differs already.
    """
    names = set(RunIdentity.model_fields)
    before, now = (x.model_dump(mode="json", include=names) for x in (ours, theirs))
    found = list(_compare_leaves(before, now, ""))
    causes = [
        difference
        for difference in found
        if not difference.name.startswith(("family_config", "space", "data.shape"))
    ]
    if any(difference.name == "data.fingerprint" for difference in causes):
        others = [d for d in causes if d.name != "data.fingerprint"]
        causes = [_describe_data(ours.data.spec, theirs.data.spec), *others]
    return causes or found


def _describe_data(ours: str, theirs: str) -> Difference:
    """Other data by its specification; a fingerprint says nothing to people."""
    if ours == theirs:
        return Difference("data", f"{ours} as it was", "changed content")
    return Difference("data", ours, theirs)


def _compare_leaves(ours: JsonValue, theirs: JsonValue, name: str) -> Iterator[Difference]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in dict.fromkeys((*ours, *theirs)):
            inner = f"{name}.{key}" if name else key
            yield from _compare_leaves(ours.get(key), theirs.get(key), inner)
    elif ours != theirs and name not in _FREE:
        yield Difference(name, ours, theirs)


def list_versions() -> dict[str, str]:
    """Versions of what results depend on."""
    found = {"python": platform.python_version(), "supernet": __version__}
    for name in ("torch", "onnxruntime", "onnx", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _names(folder: Path, needed: str) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    found = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return tuple(sorted(p.name for p in found if (p / needed).exists()))
