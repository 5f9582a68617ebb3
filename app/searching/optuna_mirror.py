"""Every evaluation of a search as a trial of an Optuna study, for optuna-dashboard and analyses."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import JsonValue

from app.evaluation.log import EvaluationLog
from app.progress import Say
from app.records.evaluation import EvaluationRecord
from app.records.searches.front import Front, Point, value_or
from app.records.typed_json.plain import to_json_number
from app.records.typed_json.record import to_json
from app.runs.addresses import hide_secrets, show_storage
from app.runs.directory import Run
from app.searching.objectives import count_all
from search import Evaluation, SearchProblem
from search.arrays.pareto import nondominated
from search.engines.optuna_logging import quiet_optuna
from supernet import files
from supernet.errors import InputError
from supernet.space import Architecture, SearchSpace

if TYPE_CHECKING:
    from optuna.distributions import CategoricalDistribution

JOURNAL = "optuna.log"
ARTIFACTS = "artifacts"
VERIFIED = "verified"
# How Optuna names what belongs to a trial in its storages.
_ARTIFACT_KEY, _CONSTRAINTS_KEY = "artifacts:", "constraints"
# Facts of a log record that a trial carries; the values are there already.
_FACTS = frozenset(
    (
        "source",
        "split",
        "samples",
        "fidelity",
        "stopped",
        "low",
        "high",
        "failure",
        "seconds",
        "checkpoint",
        "at",
    )
)
# A lock that stays so long was left by a process that was killed: writing takes milliseconds.
_STALE_SECONDS = 2.0


class Study:
    """The mirror of one search; made by :func:`open_study`.

    ``add`` is an ``on_evaluated`` of :func:`search.search`, ``mirror_verified`` takes what the
    search found. Both may be called again with what is there already: nothing is doubled, so a
    search that is continued or replayed continues its study.
    """

    def __init__(
        self,
        study: Any,
        storage: Any,
        problem: SearchProblem,
        log: EvaluationLog,
        folder: Path,
        url: str | None = None,
    ) -> None:
        self.study, self._url = study, url
        self._storage, self._problem, self._log = storage, problem, log
        self._store = _artifact_store(folder / ARTIFACTS)
        self._distributions = distributions(problem.space)
        trials = study.get_trials(deepcopy=False)
        self._digests = {trial.user_attrs.get("digest") for trial in trials}
        done = [t.values for t in trials if t.state.name == "COMPLETE" and _feasible(t)]
        self._front = np.array(done, dtype=np.float64).reshape(-1, len(problem.objectives))
        self._front = problem.minimised(self._front)

    def add(self, evaluation: Evaluation) -> None:
        """Add the trial of an evaluated architecture, unless the study has it.

        Complete with values and constraints (at most 0: feasible); failed without values; pruned
        when its evaluation was stopped early, with its estimate among the user attributes.
        """
        architecture = self._problem.space.decode(evaluation.positions[None])[0]
        if architecture.digest in self._digests:
            return
        record = self._log.find(architecture, "val", stopped=True)
        facts = {} if record is None else _list_facts(record)
        counts = count_all(self._log.trained, evaluation.positions[None])
        facts |= {name: to_json_number(value[0]) for name, value in counts.items()}
        facts["batch"] = evaluation.batch
        values = np.array([[evaluation.values[name] for name in self._problem.names]])
        system = self._artifact(architecture, values, record is not None and record.stopped)
        trial = _build_trial(
            architecture, self._distributions, self._problem, values[0], facts, system
        )
        with quiet_optuna(), self._explained():
            self.study.add_trial(trial)
        self._digests.add(architecture.digest)

    def _artifact(
        self, architecture: Architecture, values: np.ndarray, stopped: bool
    ) -> dict[str, str]:
        """Store ``architecture.json`` of a point that is on the front as it is now."""
        point = self._problem.minimised(values)
        feasible = bool((self._problem.violations(values) <= 0).all())
        if stopped or not feasible or not np.isfinite(values).all():
            return {}
        if ((self._front <= point).all(axis=1) & (self._front < point).any(axis=1)).any():
            return {}
        front = np.concatenate((self._front, point))
        self._front = front[nondominated(front)]
        return _architecture_file(self._store, architecture)

    def restore(self, front: Front) -> None:
        """Add what a finished search evaluated, unless it is there.

        For searches that were made before there was a study, or with another storage.
        """
        names = self._problem.names
        for point in front.points:
            if point.digest in self._digests:
                continue
            architecture = self._problem.space.architecture(point.choices)
            row = self._problem.space.encode([architecture])
            # What the search went by: tables for latencies, though they were measured later.
            values = dict(zip(names, map(float, self._problem.cheap_values(row)[0]), strict=True))
            for quantity in self._problem.expensive:
                values[quantity.name] = value_or(math.nan, point.estimate(quantity.name).value)
            self.add(Evaluation(row[0], values, 0))

    def mirror_verified(self, front: Front) -> None:
        """Mirror a verified front as a study of its own, ``"NAME verified"``.

        Optuna lets nobody change a trial that is complete, and the values on the test split, the
        measured latencies and the exported models come after the search. The study is replaced
        when the front has changed since.
        """
        digest = _digest_points(front)
        name = f"{self.study.study_name} {VERIFIED}"
        with quiet_optuna(), self._explained():
            self._note("hypervolume", to_json(front.hypervolume))
            self._note("front", [point.digest for point in front.points if point.on_front])
            known = _existing(self._storage, name)
            if known is not None and known.user_attrs.get("front") == digest:
                return
            target = _create(self._storage, name, self._problem, known is not None)
            for point in front.points:
                if point.on_front:
                    target.add_trial(self._build_verified(point))
            target.set_user_attr("front", digest)

    def _note(self, key: str, value: object) -> None:
        if self.study.user_attrs.get(key) != value:
            self.study.set_user_attr(key, value)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What a storage raises when it goes away, as one sentence."""
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (optuna.exceptions.OptunaError, SQLAlchemyError) as error:
            reason = _reason(error, self._url)
            raise InputError(
                f"the Optuna storage of study {self.study.study_name!r} failed ({reason}); all "
                "evaluations are kept: run the same command again"
            ) from error

    def _build_verified(self, point: Point) -> Any:
        problem = self._problem
        architecture = problem.space.architecture(point.choices)
        row = problem.space.encode([architecture])
        values = problem.cheap_values(row)[0]
        for column, name in enumerate(problem.names):
            values[column] = value_or(float(values[column]), point.estimate(name).value)
        facts: dict[str, object] = {
            f"{name}_{key}": number
            for name, estimate in point.estimates.items()
            for key, number in to_json(estimate).items()
            if key != "value" and number is not None
        }
        facts |= point.counts
        system = _architecture_file(self._store, architecture)
        exports = self._log.trained.run.path / "exports" / architecture.digest
        for model in sorted(exports.glob("*.onnx")):
            identifier = f"{architecture.digest}-{model.name}"
            mimetype = "application/octet-stream"
            system |= _keep(self._store, identifier, model.name, model.read_bytes(), mimetype)
        return _build_trial(architecture, self._distributions, problem, values, facts, system)


def open_study(
    folder: Path,
    name: str,
    problem: SearchProblem,
    log: EvaluationLog,
    say: Say,
    *,
    identity: Mapping[str, JsonValue],
    storage: str | None = None,
) -> Study:
    """The study of a search, made if it is not there; call it before anything is evaluated.

    A journal file that is damaged, or that says something else than the log of evaluations, is
    moved aside: it is a mirror, and all of it can be made again.

    In ``search_job``, inside ``run.writing()``::

        study = open_study(
            folder, request.name, problem, log, say, identity=plan.config.identity, storage=url
        )
        search(..., on_evaluated=study.add)
        study.mirror_verified(front)

    Args:
        folder: Folder of the search; holds ``optuna.log`` and the artifacts.
        name: Of the search. Several runs may share a ``storage``, so there the name of the run
            comes before it.
        problem: Objectives with directions and constraints.
        log: Where the records of the evaluations are.
        say: Told about a damaged journal file.
        identity: What makes it this search; a study with another one is replaced. How many
            ``evaluations`` are asked for does not count.
        storage: An SQLAlchemy URL such as ``sqlite:///studies.db``; by default the journal file
            in ``folder``.

    Raises:
        InputError: The storage cannot be reached or used; nothing was evaluated yet.
    """
    from optuna.storages import get_storage

    settings = _list_settings(log, identity)
    run = log.trained.run
    title = name if storage is None else f"{_run_name(run)}/{name}"
    place = str(folder / JOURNAL) if storage is None else show_storage(storage)
    with quiet_optuna():
        try:
            digest = _hash(settings)
            if storage is None:
                opened = _open_journal(folder, title, digest, problem, log, say)
            else:
                opened = get_storage(storage)
            study = known = _existing(opened, title)
            if study is None or study.user_attrs.get("identity") != digest:
                study = _create(opened, title, problem, known is not None)
                study.set_user_attr("settings", settings)
                study.set_user_attr("run", str(run.path.resolve()))
                study.set_user_attr("identity", digest)
            return Study(study, opened, problem, log, folder, storage)
        except _storage_errors() as error:
            if storage is None and isinstance(error, OSError):
                # Another storage would be no help where the disk is full.
                raise files.explain(error, folder / JOURNAL) from error
            raise _unusable(place, _reason(error, storage), error) from error


def _open_journal(
    folder: Path, name: str, identity: str, problem: SearchProblem, log: EvaluationLog, say: Say
) -> Any:
    """The journal of a search, an empty one where the file there cannot be continued."""
    path = folder / JOURNAL
    try:
        journal = _journal(path)
        # Optuna takes a broken last line for one that is still being written.
        for line in path.read_bytes().splitlines()[-1:] if path.exists() else ():
            json.loads(line)
        study = _existing(journal, name)
        if study is not None and study.user_attrs.get("identity") == identity:
            for mirror in (study, _existing(journal, f"{name} {VERIFIED}")):
                _check_study(mirror, problem, log)
        return journal
    # What Optuna runs into in a damaged file may be anything.
    except Exception as error:
        if isinstance(error, OSError) and not path.is_dir():
            raise
        aside = files.set_aside(path)
        say(
            f"warning: {path} was damaged ({_reason(error, None)}); it was moved to {aside.name}, "
            "and the study is made again from the evaluations"
        )
        return _journal(path)


def _check_study(study: Any | None, problem: SearchProblem, log: EvaluationLog) -> None:
    """InputError for trials that are none of this search; another error for broken ones."""
    if study is None:
        return
    if [d.name.lower() for d in study.directions] != [o.direction for o in problem.objectives]:
        raise InputError("its directions are others")
    names = [objective.name for objective in problem.objectives]
    for trial in study.get_trials(deepcopy=False):
        architecture = problem.space.architecture(trial.params)
        if trial.user_attrs["digest"] != architecture.digest:
            raise InputError(f"trial {trial.number} is of another architecture than it says")
        if trial.state.name != "COMPLETE":
            continue
        if len(trial.values) != len(names):
            raise InputError(f"trial {trial.number} has other objectives")
        record = log.find(architecture, "val", stopped=True)
        value = dict(zip(names, trial.values, strict=True))
        if record is not None and value.get(record.objective, record.value) != record.value:
            raise InputError(f"trial {trial.number} has another value than was evaluated")


def is_mirrored(
    folder: Path,
    name: str,
    front: Front,
    log: EvaluationLog,
    identity: Mapping[str, JsonValue],
) -> bool:
    """Whether the journal of a finished search holds all of it; nothing is written.

    Args:
        folder: Folder of the search.
        name: Of the search.
        front: What it found.
        log: Where the records of the evaluations are.
        identity: What makes it this search.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = folder / JOURNAL
    if not path.is_file() or os.path.lexists(_lock_of(path)):
        return False
    with quiet_optuna():
        try:
            storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_Untouched()))
            study, verified = (_existing(storage, n) for n in (name, f"{name} {VERIFIED}"))
            if study is None or verified is None:
                return False
            known = {t.user_attrs.get("digest") for t in study.get_trials(deepcopy=False)}
            same = study.user_attrs.get("identity") == _hash(_list_settings(log, identity))
            return (
                same
                and known >= {point.digest for point in front.points}
                and verified.user_attrs.get("front") == _digest_points(front)
            )
        except Exception:  # in a damaged file Optuna runs into anything, failed assertions too
            return False  # whoever writes it says what is wrong, and puts it right


class _Untouched:
    """A lock of a journal that is only read."""

    def acquire(self) -> bool:
        raise PermissionError("the journal is only read")

    def release(self) -> None:
        raise PermissionError("the journal is only read")


def distributions(space: SearchSpace) -> dict[str, CategoricalDistribution]:
    """Every choice of a space as a categorical distribution over its own values."""
    from optuna.distributions import CategoricalDistribution

    return {choice.name: CategoricalDistribution(choice.values) for choice in space.choices}


def _list_facts(record: EvaluationRecord) -> dict[str, object]:
    facts = record.model_dump(mode="json", include=set(_FACTS), exclude_unset=True)
    return {name: value for name, value in facts.items() if value is not None}


def _build_trial(
    architecture: Architecture,
    every: Mapping[str, CategoricalDistribution],
    problem: SearchProblem,
    values: np.ndarray,
    facts: Mapping[str, object],
    system: Mapping[str, object],
) -> Any:
    """A finished trial; choices that are inert in the architecture are no parameters of it."""
    from optuna.trial import TrialState, create_trial

    params = architecture.to_dict()
    numbers = dict(zip(problem.names, map(float, values), strict=True))
    ours: dict[str, object] = {"digest": architecture.digest, **facts}
    failed = not np.isfinite(values).all()
    state = TrialState.FAIL if failed else TrialState.COMPLETE
    objectives = [numbers[objective.name] for objective in problem.objectives]
    if facts.get("stopped") and not failed:
        state = TrialState.PRUNED
        ours["estimate"] = dict(zip((o.name for o in problem.objectives), objectives, strict=True))
    ours |= {q.name: numbers[q.name] for q in problem.limited if math.isfinite(numbers[q.name])}
    system = dict(system)
    if not failed and problem.constraints:
        # A list, as samplers write it and dashboards read it.
        system[_CONSTRAINTS_KEY] = problem.violations(values[None])[0].tolist()
        ours["constraints"] = [
            f"{c.objective} {'<=' if c.at_most is not None else '>='} {c.limit:g}"
            for c in problem.constraints
        ]
    trial = create_trial(
        params=params,
        distributions={key: every[key] for key in params},
        user_attrs=ours,
        system_attrs=system,
        state=state,
        values=objectives if state == TrialState.COMPLETE else None,
    )
    seconds = facts.get("seconds")
    if isinstance(seconds, float) and seconds and trial.datetime_complete is not None:
        trial.datetime_start = trial.datetime_complete - timedelta(seconds=seconds)
    return trial


def _feasible(trial: Any) -> bool:
    return all(value <= 0 for value in trial.system_attrs.get(_CONSTRAINTS_KEY, ()))


def _create(storage: Any, name: str, problem: SearchProblem, replace: bool) -> Any:
    import optuna

    if replace:
        optuna.delete_study(study_name=name, storage=storage)
    directions = [objective.direction for objective in problem.objectives]
    study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    study.set_metric_names([f"{o.name} [{o.unit}]" for o in problem.objectives])
    return study


def _existing(storage: Any, name: str) -> Any | None:
    import optuna

    if name not in optuna.get_all_study_names(storage):
        return None
    return optuna.load_study(study_name=name, storage=storage)


def _journal(path: Path) -> Any:
    """The journal file, free of what a killed process left: half a line, or its lock.

    The caller keeps other commands from writing to the run.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock_of(path)
    # The lock's own age is no help: a killed command is often started again at once.
    patience = time.monotonic() + _STALE_SECONDS
    while os.path.lexists(lock) and time.monotonic() < patience:
        time.sleep(0.05)
    lock.unlink(missing_ok=True)
    # One that was being released when its process was killed.
    for released in lock.parent.glob(f"{lock.name}*.rename"):
        released.unlink(missing_ok=True)
    _cut_torn_line(path)
    # Links need a privilege on Windows.
    own = JournalFileOpenLock(str(path)) if os.name == "nt" else None
    return JournalStorage(JournalFileBackend(str(path), lock_obj=own))


def _cut_torn_line(path: Path) -> None:
    content = path.read_bytes() if path.exists() else b"\n"
    if not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def _storage_errors() -> tuple[type[Exception], ...]:
    """What storages raise when they cannot be reached, opened, read or understood."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    theirs = (optuna.exceptions.OptunaError, SQLAlchemyError)
    return (*theirs, ImportError, RuntimeError, ValueError, KeyError, OSError)


def _unusable(place: str, reason: str, error: Exception) -> ValueError:
    missing = isinstance(error.__cause__ or error, ModuleNotFoundError)
    advice = "install that" if missing else "give one that can be reached (sqlite:///studies.db)"
    return InputError(
        f"the Optuna storage {place} cannot be used ({reason}); {advice}, or give none "
        "for a journal file in the run"
    )


def _reason(error: Exception, url: str | None) -> str:
    """The first line of what the cause says; statements and links are below it."""
    text = str(error.__cause__ or error).strip() or type(error).__name__
    return hide_secrets(text.splitlines()[0], url or "")


def _run_name(run: Run) -> str:
    """The run's folder and a hint of where it is, so that two runs do not share a study."""
    path = run.path.resolve()
    return f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"


def _artifact_store(folder: Path) -> Any:
    from optuna.artifacts import FileSystemArtifactStore

    folder.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder)


def _architecture_file(store: Any, architecture: Architecture) -> dict[str, str]:
    text = json.dumps(architecture.to_json(), indent=2) + "\n"
    return _keep(store, architecture.digest, "architecture.json", text.encode(), "application/json")


def _keep(store: Any, identifier: str, name: str, data: bytes, mimetype: str) -> dict[str, str]:
    """Write an artifact under a name that its content decides; returns its system attribute."""
    store.write(identifier, io.BytesIO(data))
    meta = {"artifact_id": identifier, "filename": name, "mimetype": mimetype, "encoding": None}
    return {_ARTIFACT_KEY + identifier: json.dumps(meta)}


def _lock_of(journal: Path) -> Path:
    return journal.with_name(journal.name + ".lock")


def _list_settings(log: EvaluationLog, identity: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What makes a study that of this search; its length does not."""
    settings = {key: value for key, value in identity.items() if key != "evaluations"}
    trained = log.trained
    return {
        **settings,
        "space": trained.supernet.space.digest,
        "checkpoint": trained.checkpoint.digest,
    }


def _digest_points(front: Front) -> str:
    return _hash([to_json(point) for point in front.points])


def _hash(payload: JsonValue) -> str:
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:16]
