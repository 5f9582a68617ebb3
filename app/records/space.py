"""``space.json`` and ``architecture.json``: a search space, and one architecture of it."""

from __future__ import annotations

from app.records.typed_json.record import Choices, Digest, FileRecord, Record
from supernet.space import Value


class ChoiceRecord(Record):
    """One choice of a space.

    Args:
        name: Name of the choice.
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
        digest: Digest of the choices.
        choices: The choices, in the order of encoded positions.
    """

    digest: str
    choices: tuple[ChoiceRecord, ...]


class ArchitectureRecord(FileRecord):
    """The content of an ``architecture.json``.

    Args:
        choices: Values by the names of the choices.
        space: Digest of the space it belongs to; ``None`` where nobody said it.
        digest: Digest of the choices, likewise.
    """

    choices: Choices
    space: str | None = None
    digest: Digest | None = None
