"""``vocabulary.json``: what turns text into the token ids of a run and back."""

from __future__ import annotations

from app.records.typed_json.record import Count, FileRecord

FILE = "vocabulary.json"


class VocabularyRecord(FileRecord):
    """A vocabulary, as :func:`supernet.data.vocabulary.read_vocabulary` reads it.

    Args:
        kind: ``"characters"``, ``"bytes"`` or ``"bpe"``.
        tokens: The characters, in the order of their ids.
        merges: Ids of both tokens of each byte pair, in the order in which pairs are joined.
    """

    kind: str
    tokens: tuple[str, ...] | None = None
    merges: tuple[tuple[Count, Count], ...] | None = None
