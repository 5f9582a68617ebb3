"""``records.jsonl`` of an audit: each finished piece of its work, so that none is done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import model_validator

from app.records.audit import ViolationRecord
from app.records.evaluation import ScoresRecord
from app.records.typed_json.record import Choices, Count, FileRecord, Json, to_json
from app.records.typed_json.record_files import parse_record, read_log
from supernet.errors import InputError


class Piece(FileRecord):
    """A finished piece.

    Args:
        key: What it is: ``KIND/NAME``.
        seconds: That it took.
    """

    key: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """What it is about: a digest, a number, or a choice and a number."""
        return self.key.partition("/")[2]


class EvaluatedPiece(Piece):
    """A network that was evaluated.

    Args:
        objective: ``"accuracy"`` or ``"loss"``.
        unit: Unit of the values.
        value: Value of the objective.
        low: Lower end of its 95 % interval.
        high: Upper end.
        samples: Number of samples in the split.
        scores: Of each sample, in the order of the split; ``None`` in earlier releases.
    """

    objective: str
    unit: str
    value: float
    low: float
    high: float
    samples: Count
    scores: ScoresRecord | None = None

    @model_validator(mode="after")
    def _check_scores(self) -> EvaluatedPiece:
        if self.scores is not None:
            self.scores.unpack(self.samples)
        return self


class InheritedPiece(EvaluatedPiece):
    """A network evaluated with inherited weights.

    Args:
        architecture: Its choices.
    """

    architecture: Choices


class SharedPiece(InheritedPiece):
    """A network evaluated with weights of the supernet of another recipe.

    Its name is the key of the recipe and the digest of the network, with a slash between.
    """


class TrainedPiece(Piece):
    """A supernet that was trained by another recipe; named by the key of that.

    Args:
        recipe: Its name, as it was asked for first.
        changes: Where its settings differ from those of the run.
        steps: Steps of the training.
        passes: Forward and backward passes of single networks over a batch.
        cpu_seconds: Processor time of all steps, as far as it is known.
        resumed_from: The step from which a killed training went on.
        diverged: What happened where it diverged; else empty.
    """

    recipe: str
    changes: dict[str, Json]
    steps: Count
    passes: Count
    cpu_seconds: float | None
    resumed_from: Count
    diverged: str = ""


class AlonePiece(EvaluatedPiece):
    """A network evaluated after its own training.

    Args:
        steps: Steps of the training.
        resumed_from: The step from which a killed training went on.
    """

    steps: Count
    resumed_from: Count


class NestedPiece(Piece):
    """Networks of which each contains the one before.

    Args:
        values: Mean quality of each.
        pairs: Compared.
        violations: Pairs whose larger network is worse.
    """

    values: tuple[float, ...]
    pairs: Count
    violations: tuple[ViolationRecord, ...]


class ProbePiece(Piece):
    """Two networks that differ in one choice.

    Args:
        choice: Its name.
        lower: Choices of the network with the earlier value.
        higher: Choices of the network with the later value.
        change: Quality of the latter less that of the former.
        output_change: Mean probability that moves to another class.
        identical: Whether the outputs are the same.
    """

    choice: str
    lower: Choices
    higher: Choices
    change: float
    output_change: float
    identical: bool


class CurvePiece(Piece):
    """Quality against batches of recalibration; without any for networks that need none.

    Args:
        batches: Numbers of batches.
        batch_size: Samples in each.
        values: Quality with each.
        settled: The number from which on the quality does not change; ``None`` for never.
    """

    batches: tuple[Count, ...]
    batch_size: Count = 0
    values: tuple[float, ...] = ()
    settled: Count | None = None


_KINDS: dict[str, type[Piece]] = {
    "inherited": InheritedPiece,
    "alone": AlonePiece,
    "trained": TrainedPiece,
    "shared": SharedPiece,
    "chain": NestedPiece,
    "corner": NestedPiece,
    "probe": ProbePiece,
    "curve": CurvePiece,
}


@dataclass(frozen=True)
class Pieces:
    """The finished pieces by kind and key; ``nested`` holds chains and corners."""

    inherited: dict[str, InheritedPiece] = field(default_factory=dict)
    alone: dict[str, AlonePiece] = field(default_factory=dict)
    nested: dict[str, NestedPiece] = field(default_factory=dict)
    probes: dict[str, ProbePiece] = field(default_factory=dict)
    curves: dict[str, CurvePiece] = field(default_factory=dict)
    trained: dict[str, TrainedPiece] = field(default_factory=dict)
    shared: dict[str, SharedPiece] = field(default_factory=dict)

    def add(self, piece: Piece) -> None:
        """Keep a piece under its key."""
        match piece:
            case SharedPiece():
                self.shared[piece.key] = piece
            case TrainedPiece():
                self.trained[piece.key] = piece
            case InheritedPiece():
                self.inherited[piece.key] = piece
            case AlonePiece():
                self.alone[piece.key] = piece
            case NestedPiece():
                self.nested[piece.key] = piece
            case ProbePiece():
                self.probes[piece.key] = piece
            case CurvePiece():
                self.curves[piece.key] = piece

    def __iter__(self) -> Iterator[Piece]:
        kinds = (self.inherited, self.alone, self.nested, self.probes, self.curves, self.trained)
        for kind in (*kinds, self.shared):
            yield from kind.values()


def read_pieces(path: Path, say: Callable[[str], None]) -> Pieces:
    """The finished pieces of an audit; lines that hold anything else count as not made.

    Args:
        path: The log of the audit.
        say: Told about damaged lines, whose pieces are made again.
    """
    pieces = Pieces()
    for piece in read_log(path, Piece, say):
        kind = _KINDS.get(piece.key.partition("/")[0])
        if kind is None:
            continue
        try:
            pieces.add(parse_record(to_json(piece), kind, str(path), "run the audit again"))
        except InputError:
            # Of another kind than its key says: it is made once more.
            continue
    return pieces
