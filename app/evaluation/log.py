"""The log of evaluated architectures: every value is paid for once and reused by later searches."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from app.evaluation.worker import Caches, Finding, Task, TrainedNetwork, work
from app.progress import Say
from app.records.evaluation import CalibrationRecord, EvaluationRecord, ScoresRecord
from app.records.searches.front import read_front
from app.records.space import ArchitectureRecord
from app.records.typed_json.record import Choices, drop_infinite
from app.records.typed_json.record_files import append_record, read_log, read_record
from app.runs.directory import Run, now
from supernet.checkpoints import Checkpoint
from supernet.costs.cost_model import CostModel
from supernet.errors import InputError
from supernet.quality.evaluate import CALIBRATION_SAMPLES
from supernet.space import Architecture, SearchSpace, nearest


class LoggedNetwork(TrainedNetwork, Protocol):
    """A network whose evaluations are kept: its run and its weights."""

    @property
    def run(self) -> Run:
        """Where the log lies."""
        ...

    @property
    def checkpoint(self) -> Checkpoint:
        """The weights that values belong to."""
        ...

    @property
    def cost_model(self) -> CostModel:
        """What its architectures cost."""
        ...


class EvaluationLog:
    """Evaluations of one checkpoint, in memory and in ``evaluations.jsonl``.

    A value belongs to an architecture, a checkpoint, a split and the number of calibration
    samples; anything else would silently mix numbers that cannot be compared. Records of
    candidates that were stopped before the whole split are kept apart: they are estimates.

    Args:
        trained: What is evaluated.
        say: Told about damaged records, which are left out.
        calibration_samples: As for :func:`supernet.quality.evaluate.evaluate`.
    """

    def __init__(
        self, trained: LoggedNetwork, say: Say, calibration_samples: int = CALIBRATION_SAMPLES
    ) -> None:
        self.trained = trained
        self.calibration_samples = calibration_samples
        self.caches = Caches()
        self._records: dict[tuple[str, str], EvaluationRecord] = {}
        self._stopped: dict[tuple[str, str], EvaluationRecord] = {}
        for record in read_log(trained.run.evaluations, EvaluationRecord, say):
            if record.belongs_to(trained.checkpoint.digest, calibration_samples):
                self._remember(record)

    def _remember(self, record: EvaluationRecord) -> None:
        kind = self._stopped if record.stopped else self._records
        kind[record.digest, record.split] = record

    def evaluate(self, architecture: Architecture, split: str) -> EvaluationRecord:
        """The record of an architecture on a whole split, made now if it is not in the log.

        A network that cannot be run, or whose value is not finite, has a record too: without a
        value, and with the reason as ``failure``.

        Raises:
            InputError: Unknown split, or an architecture of another space.
            OSError: The log could not be written; it is as it was.
        """
        found = self.find(architecture, split)
        if found is not None:
            return found
        self.require_same_samples(split)
        trained = self.trained
        trained.supernet.space.check(architecture)
        task = Task(architecture.to_dict(), split)
        finding = work(trained, self.caches, self.calibration_samples, task)
        return self.store(architecture, split, finding)

    def store(self, architecture: Architecture, split: str, finding: Finding) -> EvaluationRecord:
        """Append what was found about an architecture; returns its record.

        Raises:
            InputError: It was found on further samples that are not those of this process.
            OSError: The log could not be written; it is as it was.
        """
        if finding.fingerprint is not None:
            self._require_own_samples(split, finding.fingerprint)
        record = EvaluationRecord(
            architecture=architecture.to_dict(),
            digest=architecture.digest,
            objective=finding.objective,
            value=drop_infinite(finding.value),
            low=drop_infinite(finding.low),
            high=drop_infinite(finding.high),
            unit=finding.unit,
            split=split,
            source="evaluated",
            checkpoint=self.trained.checkpoint.digest,
            calibration=CalibrationRecord(samples=self.calibration_samples, used=finding.used),
            samples=finding.samples,
            seconds=round(finding.seconds, 4),
            at=now(),
        )
        record = record.replace(**_describe_more(finding))
        append_record(self.trained.run.evaluations, record)
        self._remember(record)
        return record

    def find(
        self, architecture: Architecture, split: str, *, stopped: bool = False
    ) -> EvaluationRecord | None:
        """The record of an architecture on a split, if there is one.

        Args:
            architecture: Which one.
            split: Which split.
            stopped: Whether the estimate of a stopped candidate will do where there is no more.
        """
        key = (architecture.digest, split)
        found = self._records.get(key)
        return self._stopped.get(key) if found is None and stopped else found

    def require_same_samples(self, split: str) -> None:
        """Refuse to go on where records are of other further samples than there are now.

        The fingerprint of a run does not cover them, since most commands need none. Records of
        earlier releases do not say which samples they are of, and are taken as they are.

        Args:
            split: A set of further samples; other splits are those of the run.

        Raises:
            InputError: They changed, or cannot be made.
        """
        data = self.trained.data
        now_there = data.fingerprint_further(split)
        if now_there is None:
            return
        if any(r.fingerprint not in (None, now_there) for r in self.records(split)):
            raise InputError(
                f"the further samples {split} of {data.spec} changed since networks of "
                f"{self.trained.run.path} were evaluated on them; restore what makes them, or "
                "train a new run"
            )

    def _require_own_samples(self, split: str, fingerprint: str) -> None:
        data = self.trained.data
        if fingerprint != data.fingerprint_further(split):
            raise InputError(
                f"the further samples {split} of {data.spec} are not the same in every process; "
                "what makes them must return the same ones every time"
            )

    def records(self, split: str) -> tuple[EvaluationRecord, ...]:
        """Every record on a split, in the order they were made."""
        return tuple(r for (_, where), r in self._records.items() if where == split)

    def known(self, split: str) -> dict[bytes, dict[str, float]]:
        """Values on a split by canonical positions, as :func:`search.search` wants them."""
        space, records = self.trained.supernet.space, self.records(split)
        rows = space.encode([space.architecture(record.architecture) for record in records])
        return {
            row.tobytes(): {record.objective: record.value_or_nan}
            for row, record in zip(rows, records, strict=True)
        }


def _describe_more(finding: Finding) -> dict[str, object]:
    """What a record says besides of classes and samples, and of one failed, raced or stopped."""
    facts: dict[str, object] = {}
    if finding.balanced is not None:
        facts["balanced"] = finding.balanced
    if finding.failure is not None:
        facts["failure"] = finding.failure
    if finding.fingerprint is not None:
        facts["fingerprint"] = finding.fingerprint
    if finding.scores is not None:
        binary = finding.objective == "accuracy"
        facts["fidelity"] = finding.samples / finding.total
        facts["scores"] = ScoresRecord.pack(finding.scores, binary=binary)
    if finding.stopped:
        facts["stopped"] = True
    return facts


def find_architecture(run: Run, space: SearchSpace, name: str) -> Architecture:
    """The architecture that a command line names.

    Args:
        run: The run whose evaluations and fronts know digests.
        space: The space of the run.
        name: A digest or the beginning of one, ``smallest``, ``largest``, or a JSON file.

    Raises:
        InputError: Unknown or ambiguous digest, or a file that is no architecture of the space.
    """
    if name in ("smallest", "largest"):
        return space.smallest if name == "smallest" else space.largest
    path = Path(name)
    if path.suffix == ".json" or path.is_file():
        if not path.is_file():
            raise InputError(f"there is no architecture file {path}")
        return _read_architecture(path, space)
    problems: list[str] = []
    known = _known_digests(run, problems)
    found = sorted(digest for digest in known if digest.startswith(name)) if name else []
    if len(found) > 1:
        raise InputError(f"{name!r} is the beginning of several digests: {', '.join(found[:4])}")
    if not found:
        raise InputError(
            f"no architecture {name!r} in {run.path}{nearest(name, list(known))}; give the digest "
            "of an evaluated architecture, smallest, largest, or a JSON file"
            + "".join(f" ({problem})" for problem in problems)
        )
    return space.architecture(known[found[0]])


def _read_architecture(path: Path, space: SearchSpace) -> Architecture:
    record = read_record(path, ArchitectureRecord, "give a file that `supernet export` wrote")
    if record.space not in (None, space.digest):
        raise InputError(
            f"the architecture in {path} belongs to space {record.space}, not to {space.digest}"
        )
    architecture = space.architecture(record.choices)
    if record.digest not in (None, architecture.digest):
        raise InputError(
            f"the choices in {path} are those of {architecture.digest}, not of {record.digest}, "
            "which it says they are: it was damaged or edited; export the architecture again, or "
            'remove the entry "digest" if the change is meant'
        )
    return architecture


def _known_digests(run: Run, problems: list[str]) -> dict[str, Choices]:
    """Architectures by digest, and a sentence for each file that may hold more of them."""
    records = read_log(run.evaluations, EvaluationRecord, problems.append)
    known = {record.digest: record.architecture for record in records}
    for name in run.searches:
        try:
            points = read_front(run.search(name)).points
        except (OSError, InputError) as error:
            problems.append(str(error))
            continue
        known |= {point.digest: point.choices for point in points}
    return known
