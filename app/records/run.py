"""``run.json``: what a run was made from, and how far it is."""

from __future__ import annotations

from typing import TypedDict

from pydantic import Field

from app.records.typed_json.record import Count, FileRecord, Json, Record, Seed

REMEDY = "restore the file, or train a new run"
# How the precisions of weights came about that were trained in float.
CALIBRATED = "calibrated"
# What a text is cut into unless something else is asked for, and was in every earlier release.
CHARACTERS = "characters"


class DataOptions(TypedDict, total=False):
    """Options of :func:`supernet.data.open_data`, as far as they were given."""

    context: int
    image_size: int
    tokens: str
    vocabulary: int


class ShapeRecord(Record):
    """What the network was built for, as :class:`supernet.data.DataShape` says it.

    Args:
        task: Task of the data.
        input: Shape of one sample.
        classes: Of them, or the size of a vocabulary.
        labels: Names of the classes.
        mean: Mean of each channel of the pixels in 0...1.
        std: Likewise.
    """

    task: str
    input: tuple[Count, ...]
    classes: Count
    labels: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class DataRecord(Record):
    """Which data a run was trained on.

    Args:
        spec: The data as on the command line, with an absolute path.
        fingerprint: Fingerprint of the content.
        shape: Shape of the samples.
        context: Tokens a language model sees at once, of text.
        image_size: Square size in pixels, of folders of images.
        tokens: What a text is cut into.
        vocabulary: Largest number of distinct tokens that was asked for.
        vocabulary_digest: SHA-256 of the vocabulary of a text, as
            :func:`supernet.data.vocabulary.digest_vocabulary` computes it.
    """

    spec: str
    fingerprint: str
    shape: ShapeRecord
    context: Count | None = None
    image_size: Count | None = None
    tokens: str = CHARACTERS
    vocabulary: Count | None = None
    vocabulary_digest: str | None = None

    @property
    def options(self) -> DataOptions:
        """The options of :func:`supernet.data.open_data` that it was opened with."""
        found: DataOptions = {}
        if self.context is not None:
            found["context"] = self.context
        if self.image_size is not None:
            found["image_size"] = self.image_size
        if self.tokens != CHARACTERS:
            found["tokens"] = self.tokens
        if self.vocabulary is not None:
            found["vocabulary"] = self.vocabulary
        return found


class TeacherRecord(Record):
    """The run whose largest network taught this one.

    Args:
        run: Its directory.
        checkpoint: Digest of its weights.
    """

    run: str
    checkpoint: str


class OriginRecord(Record):
    """The run whose weights this one began with.

    Args:
        run: Its directory.
        checkpoint: Digest of its weights.
    """

    run: str
    checkpoint: str


class PrecisionRecord(Record):
    """Which number formats the units of a run may compute in, and where their steps come from.

    Args:
        policy: As :func:`supernet.quantization.formats.parse_policy` reads it, formats of more
            bits first.
        method: The quantizer of the recipe, ``"lsq"`` for learned steps; ``"calibrated"`` for
            weights that were trained in float.
        calibration: How ranges of activations follow from their values where none were learned,
            one of :data:`supernet.quantization.calibration.ESTIMATORS`.
    """

    policy: str
    method: str
    calibration: str


class SourceRecord(Record):
    """What weights came from that were not trained in the run.

    Args:
        format: The project whose checkpoint it is, or ``"supernet"`` for a run of this one.
        file: Its name.
        sha256: SHA-256 of its content.
        key: Which of its state dicts, where one was named.
    """

    format: str
    file: str
    sha256: str
    key: str | None = None


class StageRecord(Record):
    """How far a stage is, and facts about it.

    Args:
        status: ``"running"`` or ``"complete"``; ``"diverged"`` for a training whose loss became
            infinite or not a number, and ``"empty"`` for a search that found nothing.
        updated: When that was written, ISO 8601 in UTC.
        checkpoint: Digest of the weights that training led to.
        steps: Steps of that training.
        seconds: That it took.
        config: The settings asked for.
        source: Where imported weights came from.
        name: Name of the search.
        trustworthy: Whether the profiled latency table passed its own validation.
    """

    status: str
    updated: str = ""
    checkpoint: str | None = None
    steps: Count | None = None
    seconds: float | None = None
    config: dict[str, Json] | None = None
    source: SourceRecord | None = None
    name: str | None = None
    trustworthy: bool | None = None

    @property
    def complete(self) -> bool:
        """Whether it came to its end."""
        return self.status == "complete"


class RunIdentity(Record):
    """What makes a run this run: another value is another run.

    Args:
        family: Module name of the family.
        preset: Preset of the family.
        family_config: Settings of the family.
        data: What it was trained on.
        recipe: Settings of the training.
        seed: Seed of initial weights, batches and sampled architectures.
        space: Digest of the search space.
        teacher: The run whose network taught, if any did.
        precision: The number formats that are choices; ``None`` where everything is float.
        origin: The run whose weights it began with, if there was one.
    """

    family: str
    preset: str
    family_config: dict[str, Json]
    data: DataRecord
    recipe: dict[str, Json]
    seed: Seed
    space: str
    teacher: TeacherRecord | None = None
    precision: PrecisionRecord | None = None
    origin: OriginRecord | None = None

    @property
    def was_extended(self) -> bool:
        """Whether it was trained in float and offers number formats since."""
        calibrated = self.precision is not None and self.precision.method == CALIBRATED
        return calibrated and self.origin is None


class RunRecord(FileRecord, RunIdentity):
    """The content of ``run.json``.

    Args:
        created: When, ISO 8601 in UTC.
        versions: Versions of what results depend on.
        stages: How far each stage is, by name.
    """

    created: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    stages: dict[str, StageRecord] = Field(default_factory=dict)
