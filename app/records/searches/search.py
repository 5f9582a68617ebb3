"""``search.json``: what decides the result of a search."""

from __future__ import annotations

from pydantic import JsonValue

from app.records.typed_json.record import Count, FileRecord, Record, Seed

FILE = "search.json"
REMEDY = "choose another --name, or --replace it"
# The status of a search that ended without a front.
EMPTY = "empty"
# How long a search goes on; another answer continues the same search.
LENGTH = ("evaluations", "max_minutes", "stagnation", "calibrate_alone")
# Settings that searches had no choice of at first.
_LATER = ("predictor", "engine")


class EarlierRunRecord(Record):
    """The evaluations of an earlier run that help the predictors.

    Args:
        run: Its directory.
        evaluations: How many are used, from the first on.
        digest: Digest of their architectures and values.
    """

    run: str
    evaluations: Count
    digest: str


class SearchSettings(Record):
    """What was asked for; settings that an older file lacks have the value they had then.

    Args:
        device: Profiled devices, separated by commas.
        latency_ms: Upper limit of the latency in milliseconds, or as a share such as ``"60%"``.
        limits: Further limits.
        objectives: Canonical names.
        strategy: Module name or dotted path.
        seed: Seed of every random decision.
        evaluations: Architectures to evaluate.
        max_minutes: After which it ends, if any.
        stagnation: Evaluations without progress after which it ends, if any.
        early_stop: Whether hopeless candidates are stopped.
        proxies: Zero-cost proxies that choose the first round.
        prior: The earlier run that helps, if any.
        predictor: Method of prediction, ``"auto"`` for the one that ranks best.
        engine: What evolves on predictions.
        calibrate_alone: How many networks are trained alone to calibrate the front.
    """

    device: str
    latency_ms: float | str | None
    limits: tuple[str, ...] = ()
    objectives: tuple[str, ...]
    strategy: str
    seed: Seed
    evaluations: Count
    max_minutes: float | None = None
    stagnation: Count | None = None
    early_stop: bool = False
    proxies: tuple[str, ...] = ()
    prior: EarlierRunRecord | None = None
    predictor: str = "auto"
    engine: str = "array"
    calibrate_alone: Count = 0

    @property
    def identity(self) -> dict[str, JsonValue]:
        """The settings that make a search this one, however long it goes on, as JSON."""
        whole: dict[str, JsonValue] = self.model_dump(mode="json")
        # What earlier searches did not say leaves them the same searches while it is the default.
        later = {name for name in _LATER if whole[name] == type(self).model_fields[name].default}
        return {name: value for name, value in whole.items() if name not in {*LENGTH, *later}}


class SearchRecord(FileRecord):
    """The content of ``search.json``.

    Args:
        config: What was asked for.
        space: Digest of the space.
        checkpoint: Digest of the weights.
        table: Digest of the latency table; by device of several, ``None`` without any.
        status: ``"running"``, ``"complete"``, or ``"empty"`` for one that came to its end without
            an architecture within its limits.
        updated: When that was written, ISO 8601 in UTC.
        front: Digest of the points of the complete search.
    """

    config: SearchSettings
    space: str
    checkpoint: str
    table: str | dict[str, str] | None = None
    status: str = "running"
    updated: str = ""
    front: str | None = None

    def find_changes(self, other: SearchRecord) -> tuple[str, ...]:
        """What differs of the run that both searches belong to: space, checkpoint or tables."""
        names = ("space", "checkpoint", "table")
        return tuple(name for name in names if getattr(self, name) != getattr(other, name))
