"""The run directory: the only state that outlives a process."""

from __future__ import annotations

import errno
import math
import os
import platform
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import JsonValue

from app.records.run import (
    REMEDY,
    DataRecord,
    PrecisionRecord,
    RunIdentity,
    RunRecord,
    StageRecord,
)
from app.records.space import SpaceRecord
from app.records.typed_json.record import to_json
from app.records.typed_json.record_files import parse_record, read_record, write_record
from app.records.vocabulary import FILE as VOCABULARY
from supernet import __version__, files
from supernet.errors import InputError
from supernet.space import SearchSpace

# What earlier releases left empty, and what is no setting any more.
_RETIRED = ("family_config.weight_bits",)
# What may differ between two commands that ask for the same run.
_FREE = (
    "data.spec",
    "data.image_size",
    "data.context",
    # Other tokens have another fingerprint.
    "data.tokens",
    "data.vocabulary",
    "data.vocabulary_digest",
    "recipe.checkpoint_every",
    "recipe.log_every",
    "teacher.run",
    "origin.run",
)
_MOST_SHOWN = 6
# What run.json leads to.
_SPACE_REMEDY = "`supernet search` and `supernet train --resume` write it again"


_LOCK = ".lock"
# What commands write in a run; what else a user keeps there is none of their business.
_OWN = (
    *("run.json", "space.json", "metrics.jsonl", "evaluations.jsonl", _LOCK),
    *("checkpoints", "devices", "searches", "audits", "finetunes", "exports", "report"),
    "notes.json",
    VOCABULARY,
)
# Optuna locks its journal by a link, and only ever makes, renames and removes it; one that was
# being released when its process was killed has the other name.
_MAY_BE_LINK = re.compile(r"optuna\.log\.lock([0-9a-f-]{36}\.rename)?")


class BusyError(InputError):
    """Another command is writing."""


class UnwritableError(InputError):
    """Nothing can be written where a command has to."""


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
            InputError: Missing, damaged or of another format.
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
        """The search space; InputError when the file is missing or damaged."""
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
    def unfinished_searches(self) -> tuple[str, ...]:
        """Names of the searches that were begun and have no front."""
        begun, finished = _names(self.path / "searches", "search.json"), set(self.searches)
        return tuple(name for name in begun if name not in finished)

    @property
    def audits(self) -> tuple[str, ...]:
        """Names of the finished audits."""
        return _names(self.path / "audits", "audit.json")

    def audit(self, name: str) -> Path:
        """Folder of an audit; InputError when the name is no part of a path."""
        return self.path / "audits" / files.check_name("audit", name)

    @property
    def finetunes(self) -> tuple[str, ...]:
        """Names of the finished fine-tunings."""
        return _names(self.path / "finetunes", "finetune.json")

    def finetune(self, name: str) -> Path:
        """Folder of a fine-tuning; InputError when the name is no part of a path."""
        return self.path / "finetunes" / files.check_name("fine-tuning", name)

    def device(self, name: str) -> Path:
        """Folder of a device; InputError when the name is no part of a path."""
        return self.path / "devices" / files.check_name("device", name)

    def search(self, name: str) -> Path:
        """Folder of a search; InputError when the name is no part of a path."""
        return self.path / "searches" / files.check_name("search", name)

    def export(self, digest: str) -> Path:
        """Folder of an export; InputError when the digest is no part of a path."""
        return self.path / "exports" / files.check_name("export", digest)

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

    def set_places(
        self, *, data: str | None = None, teacher: str | None = None, origin: str | None = None
    ) -> None:
        """Record where data, teacher or origin are now, once they are seen to be the same."""
        record = self.record
        if data is not None:
            record = record.replace(data=record.data.replace(spec=data))
        if teacher is not None and record.teacher is not None:
            record = record.replace(teacher=record.teacher.replace(run=teacher))
        if origin is not None and record.origin is not None:
            record = record.replace(origin=record.origin.replace(run=origin))
        write_record(self.path / "run.json", record)

    def set_precision(self, precision: PrecisionRecord, space: str) -> None:
        """Record that units of a float run may compute in number formats from now on.

        Args:
            precision: The formats.
            space: Digest of the space that has them as choices.
        """
        record = self.record.replace(precision=precision, space=space)
        write_record(self.path / "run.json", record)

    def mend_stage(self, name: str, /, **facts: object) -> None:
        """Note that a stage is complete whose command was killed before it noted that itself.

        Where another command writes, or nothing can be written, the note waits for the next
        command: what it says lies complete on the disk.
        """
        stage = self.stage(name)
        if stage is None or stage.complete:
            return
        with suppress(BusyError, UnwritableError), self.writing():
            self.set_stage(name, "complete", **facts)

    def writing(self) -> AbstractContextManager[None]:
        """Keep other commands from writing to this run at the same time.

        Raises:
            InputError: Another process is writing, nothing can be written, or there is a link
                where commands write.
        """
        return writing(self.path)

    def check_links(self, folder: Path) -> None:
        """Refuse a folder of this run that a link below the run's own folder leads to.

        Raises:
            InputError: It, or a folder on the way, is a link.
        """
        place = self.path
        for part in folder.relative_to(self.path).parts:
            place = place / part
            files.refuse_link(place)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Keep other commands from writing to a folder that exists, at the same time.

    What killed commands left half-written in it is removed. A folder in it that has a lock of its
    own is left to whoever holds that.

    Raises:
        InputError: Another process is writing, nothing can be written, or there is a link where
            commands write, through which they would write elsewhere.
    """
    with _hold_lock(folder):
        _prepare(folder, _OWN if (folder / "run.json").exists() else None)
        yield


@contextmanager
def _hold_lock(folder: Path) -> Iterator[None]:
    if os.name != "posix":
        yield
        return
    import fcntl

    path = folder / _LOCK
    files.refuse_link(path)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        if not os.access(folder, os.W_OK):  # where the lock alone is writable
            os.close(handle)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise UnwritableError(
            f"{folder} cannot be written to, which this command has to ({error.strerror}); "
            "copy it to where you may write, and use the copy"
        ) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"another command is writing to {folder}; wait for it, or end it first"
            ) from None
        # The lock goes with the process, however it ends.
        yield
    finally:
        os.close(handle)


def _prepare(folder: Path, names: Collection[str] | None = None) -> None:
    """Refuse links in a locked folder, and remove what killed commands left half-written.

    Args:
        folder: The folder.
        names: What is looked at in it; by default everything.
    """
    files.remove_partial(folder)
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if names is None or entry.name in names]
    except FileNotFoundError:  # an export, which needs no lock, was replaced meanwhile
        return
    for entry in found:
        if files.is_partial(Path(entry.path)):
            continue
        if entry.is_symlink() and not _MAY_BE_LINK.fullmatch(entry.name):
            files.refuse_link(Path(entry.path))
        if entry.is_dir(follow_symlinks=False) and not os.path.lexists(
            os.path.join(entry.path, _LOCK)
        ):
            _prepare(Path(entry.path))


def open_run(path: Path, trusted: Sequence[str] = ()) -> Run:
    """Open the run at ``path``.

    Args:
        path: The directory.
        trusted: Dotted paths of a user's own modules that its files may name.

    Raises:
        InputError: There is none, or its ``run.json`` is damaged.
    """
    run = Run(Path(path), tuple(trusted))
    run.record  # noqa: B018
    return run


@contextmanager
def writing_run(path: Path, identity: RunIdentity, space: SearchSpace) -> Iterator[Run]:
    """The run at ``path``, locked, and made if it is not there yet.

    The lock comes first: of two commands that make the same folder into a run, one does.

    Args:
        path: The directory.
        identity: What makes it this run.
        space: Its search space.

    Raises:
        InputError: Another command is writing there, or as for :func:`create_run`.
    """
    path = Path(path)
    _check_place(path, identity)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.explain(error, path) from error
    with writing(path):
        yield create_run(path, identity, space)


def create_run(path: Path, identity: RunIdentity, space: SearchSpace) -> Run:
    """The run at ``path``, made if it is not there yet; the caller keeps others from writing.

    Args:
        path: The directory.
        identity: What makes it this run.
        space: Its search space.

    Raises:
        InputError: The folder holds another run (the message says what differs) or other files.
    """
    path = Path(path)
    _check_place(path, identity)
    run = Run(path)
    if not (path / "run.json").exists():
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


def _check_place(path: Path, identity: RunIdentity) -> None:
    """InputError unless a folder is free or holds the run asked for."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; a run needs a directory")
    record = path / "run.json"
    if not record.exists():
        try:
            check_free(path)
            return
        except InputError:
            # Another command may have made the folder a run since the look above.
            if not record.exists():
                raise
    check_same_run(path, Run(path).record, identity)


def read_space(path: Path) -> SearchSpace:
    """The search space in a ``space.json``.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is damaged, or its content does not match its digest.
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
    """InputError when a folder holds files that no run wrote."""
    found = [p.name for p in path.iterdir()] if path.is_dir() else []
    strangers = sorted(n for n in found if not n.startswith((files.TEMPORARY, ".lock")))
    if strangers:
        shown = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
        raise InputError(
            f"{path} is not empty and is not a run ({shown}); choose a new or empty directory"
        )


def check_same_run(path: Path, record: RunRecord, identity: RunIdentity) -> None:
    """InputError saying what differs, unless ``record`` describes the run asked for."""
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
    if ours.was_extended and theirs.precision is None:
        # Trained in float, and as the training left it but for what units may compute in.
        names -= {"precision", "space"}
    before, now = (x.model_dump(mode="json", include=names) for x in (ours, theirs))
    found = list(_compare_leaves(before, now, ""))
    causes = [
        difference
        for difference in found
        if not difference.name.startswith(("family_config", "space", "data.shape"))
    ]
    if any(difference.name == "data.fingerprint" for difference in causes):
        others = [d for d in causes if d.name != "data.fingerprint"]
        causes = [_describe_data(ours.data, theirs.data), *others]
    return causes or found


def _describe_data(ours: DataRecord, theirs: DataRecord) -> Difference:
    """Other data by what was asked for; a fingerprint says nothing to people."""
    if ours.spec != theirs.spec:
        return Difference("data", ours.spec, theirs.spec)
    before, now = _describe_tokens(ours), _describe_tokens(theirs)
    if before != now:
        return Difference("tokens", before, now)
    return Difference("data", f"{ours.spec} as it was", "changed content")


def _describe_tokens(data: DataRecord) -> str:
    return f"{data.shape.classes} {data.tokens}"


def _compare_leaves(ours: JsonValue, theirs: JsonValue, name: str) -> Iterator[Difference]:
    # What only one of them has is compared part by part, too.
    before, now = ({} if part is None and name else part for part in (ours, theirs))
    if isinstance(before, dict) and isinstance(now, dict) and (before or now):
        for key in dict.fromkeys((*before, *now)):
            inner = f"{name}.{key}" if name else key
            yield from _compare_leaves(before.get(key), now.get(key), inner)
    elif name in _RETIRED and not ours and not theirs:
        return
    elif name not in _FREE and not _is_same(ours, theirs):
        yield Difference(name, ours, theirs)


def _is_same(ours: JsonValue, theirs: JsonValue) -> bool:
    """Whether two settings are equal, up to the order in which statistics were summed."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_is_same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-12)
    return ours == theirs


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
