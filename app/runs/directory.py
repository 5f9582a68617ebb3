"""The run directory: the only state that outlives a process."""

from __future__ import annotations

import copy
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from supernet import __version__, files
from supernet.space import SearchSpace

FORMAT_VERSION = 1
IDENTITY = ("family", "preset", "family_config", "data", "recipe", "seed", "space")
OPTIONAL = ("teacher",)
_TABLES = ("family_config", "data", "recipe", "stages")
# What may differ between two commands that ask for the same run.
_FREE = ("data.spec", "recipe.checkpoint_every", "recipe.log_every", "data.image_size",
         "data.context", "teacher.run")  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run directory that exists; every property reads what is on disk now."""

    path: Path

    @property
    def record(self) -> dict[str, Any]:
        """The content of ``run.json``.

        Raises:
            ValueError: Missing, damaged or of another version.
        """
        return _read_record(self.path)

    @property
    def space(self) -> SearchSpace:
        """The search space; ValueError when the file is missing or damaged."""
        path = self.path / "space.json"
        try:
            payload = files.read_json(path)
        except FileNotFoundError:
            raise ValueError(f"{path} is missing; run the train command again") from None
        try:
            return SearchSpace.from_json(payload)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a search space ({error!r})") from None
        except ValueError as error:
            raise ValueError(
                f"{path} is not the search space of this run ({error}); restore the file, or "
                "train a new run"
            ) from None

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

    def front(self, search: str) -> dict[str, Any]:
        """The content of a search's ``front.json``.

        Raises:
            FileNotFoundError: The search has not finished.
            ValueError: It is damaged.
        """
        path = self.search(search) / "front.json"
        front = files.read_json(path)
        if not isinstance(front, dict) or not isinstance(front.get("points"), list):
            raise ValueError(f"{path} is not a front; it was damaged or edited")
        return front

    def stage(self, name: str) -> Mapping[str, Any]:
        """What ``run.json`` says about a stage; empty before it began."""
        found = self.record.get("stages", {}).get(name, {})
        return found if isinstance(found, Mapping) else {}

    def set_stage(self, name: str, status: str, /, **facts: Any) -> None:
        """Record that a stage is ``"running"`` or ``"complete"``, and facts about it."""
        record = self.record
        stages = record.setdefault("stages", {})
        stages[name] = {**stages.get(name, {}), **facts, "status": status, "updated": now()}
        files.write_json(self.path / "run.json", record)

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
            raise ValueError(
                f"another command is writing to {folder}; wait for it, or end it first"
            ) from None
        # The lock goes with the process, however it ends.
        yield


def open_run(path: Path) -> Run:
    """The run at ``path``; ValueError when there is none."""
    _read_record(Path(path))
    return Run(Path(path))


def create_run(path: Path, identity: Mapping[str, Any], space: SearchSpace) -> Run:
    """The run at ``path``, made if it is not there yet.

    Args:
        path: The directory.
        identity: What defines the run: the keys ``IDENTITY``, and ``OPTIONAL`` ones it has.
        space: Its search space.

    Raises:
        ValueError: The folder holds another run (the message says what differs) or other files.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; a run needs a directory")
    if (path / "run.json").exists():
        check_same(path, _read_record(path), identity)
    else:
        check_free(path)
        path.mkdir(parents=True, exist_ok=True)
        record = {
            "version": FORMAT_VERSION,
            "created": now(),
            **{key: identity[key] for key in IDENTITY},
            **{key: identity[key] for key in OPTIONAL if identity.get(key) is not None},
            "versions": versions(),
            "stages": {},
        }
        files.write_json(path / "run.json", record)
    run = Run(path)
    if not (path / "space.json").exists():
        files.write_json(path / "space.json", space.to_json())
    return run


def check_free(path: Path) -> None:
    """ValueError when a folder holds files that no run wrote."""
    found = [p.name for p in path.iterdir()] if path.is_dir() else []
    strangers = sorted(n for n in found if not n.startswith((files.TEMPORARY, ".lock")))
    if strangers:
        shown = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
        raise ValueError(
            f"{path} is not empty and is not a run ({shown}); choose a new or empty directory"
        )


def check_same(path: Path, record: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """ValueError saying what differs, unless ``record`` describes the run asked for."""
    keys = (*IDENTITY, *OPTIONAL)
    ours = {key: record.get(key) for key in keys}
    changes = differences(ours, {key: identity.get(key) for key in keys})
    if changes:
        shown = ", ".join(f"{name}: {old} -> {new}" for name, old, new in changes[:6])
        more = f" and {len(changes) - 6} more" if len(changes) > 6 else ""
        raise ValueError(
            f"{path} holds another run ({shown}{more}); choose another --out, "
            "or ask for the same settings to continue it"
        )


def differences(ours: object, theirs: object, name: str = "") -> list[tuple[str, Any, Any]]:
    """Leaves in which two JSON values differ, as ``(dotted name, ours, theirs)``.

    A data specification, and how often a training saves and logs, do not make another run.
    Derived values (the network's configuration, the space) are left out when what they derive
    from differs already.
    """
    found = list(_leaves_that_differ(_plain(ours), _plain(theirs), name))
    causes = [f for f in found if not f[0].startswith(("family_config", "space", "data.shape"))]
    spec = [f for f in causes if f[0] == "data.fingerprint"]
    if spec and isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        old, new = ours["data"], theirs["data"]
        shown = (old["spec"], new["spec"])
        if shown[0] == shown[1]:
            shown = (f"{old['spec']} as it was", "changed content")
        causes = [("data", *shown), *(c for c in causes if c[0] != "data.fingerprint")]
    return causes or found


def _leaves_that_differ(ours: Any, theirs: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in dict.fromkeys((*ours, *theirs)):
            inner = f"{name}.{key}" if name else str(key)
            yield from _leaves_that_differ(ours.get(key), theirs.get(key), inner)
    elif ours != theirs and name not in _FREE:
        yield name, ours, theirs


def _plain(value: object) -> Any:
    """Tuples as lists, as JSON gives them back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return copy.copy(value)


def versions() -> dict[str, str]:
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
    return tuple(sorted(p.name for p in found if (p / needed).is_file()))


def _read_record(path: Path) -> dict[str, Any]:
    file = path / "run.json"
    try:
        record = files.read_json(file)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"{path} is not a run directory: it has no run.json; "
            "`supernet quickstart --out RUN` or `supernet train --out RUN` makes one"
        ) from None
    if not isinstance(record, dict) or record.get("version") != FORMAT_VERSION:
        found = record.get("version") if isinstance(record, dict) else None
        raise ValueError(f"{file} has version {found!r}; this release reads {FORMAT_VERSION}")
    missing = [key for key in IDENTITY if key not in record]
    if missing:
        raise ValueError(f"{file} is incomplete: it lacks {', '.join(missing)}")
    damaged = [key for key in _TABLES if not isinstance(record.get(key, {}), dict)]
    if damaged:
        raise ValueError(f"{file} was damaged or edited: {', '.join(damaged)} must be an object")
    missing = [key for key in ("spec", "fingerprint", "shape") if key not in record["data"]]
    if missing:
        raise ValueError(f"{file} is incomplete: data lacks {', '.join(missing)}")
    return record
