"""What ``front.json`` says besides the points of a search: random search's front, what could not be
evaluated, and what finalists took."""

from __future__ import annotations

from app.records.typed_json.record import Count, Digest, Record


class BaselinePoint(Record):
    """A network on the front of random search.

    Args:
        digest: Digest of the architecture.
        values: The value of every quantity that is known, in its stored unit; a quality is that of
            the single evaluation.
    """

    digest: Digest
    values: dict[str, float]


class BaselineRecord(Record):
    """Random search beside a search.

    Args:
        strategy: Its name.
        evaluations: As many as the search had.
        failed: Of them.
        hypervolume: Against the reference of the search.
        trace: Digest of its progress in ``hypervolume.csv``.
        front: The networks on its front, cheapest last objective first; ``None`` where an earlier
            search did not keep them.
    """

    strategy: str = ""
    evaluations: Count = 0
    failed: Count = 0
    hypervolume: float | None
    trace: str | None = None
    front: tuple[BaselinePoint, ...] | None = None


class FailureRecord(Record):
    """A network whose evaluation failed.

    Args:
        digest: Digest of the architecture.
        values: The value of every quantity that is known without an evaluation, in its stored unit.
        reason: Why there is no value; empty where the log does not say.
    """

    digest: Digest
    values: dict[str, float]
    reason: str = ""


class FinalistsRecord(Record):
    """What was spent on finalists, apart from the evaluations of the search.

    Args:
        evaluations: On sets of further samples.
        networks: Of so many networks.
    """

    evaluations: Count
    networks: Count
