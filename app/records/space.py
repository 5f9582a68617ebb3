"""``space.json`` and ``architecture.json``: a search space, and one architecture of it."""

from __future__ import annotations

from app.records.typed_json.record import Choices, FileRecord, Record
from supernet.space import Value


class ChoiceRecord(Record):
    """One choice of a space.

    Args:
        name: Of the choice.
        values: Legal values, from the smallest network to the largest.
        kind: What it decides, such as ``"depth"``.
        needs: The choice it depends on, and the least value of that, if any.
    """

    name: str
    values: tuple[Value, ...]
    kind: str
    needs: tuple[str, Value] | None


class SpaceRecord(FileRecord):
    """The content of ``space.json``.

    Args:
        digest: Of the choices.
        choices: In the order of encoded positions.
    """

    digest: str
    choices: tuple[ChoiceRecord, ...]


class ArchitectureRecord(FileRecord):
    """The content of an ``architecture.json``.

    Args:
        choices: By name.
        space: Digest of the space it belongs to; ``None`` where nobody said it.
        digest: Of the choices, likewise.
    """

    choices: Choices
    space: str | None = None
    digest: str | None = None
