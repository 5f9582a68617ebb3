"""The vocabulary of a run on text, which is there without the text."""

from __future__ import annotations

from pathlib import Path

from app.records.run import CHARACTERS, REMEDY, DataRecord
from app.records.typed_json.record import to_json
from app.records.typed_json.record_files import parse_record, read_record, write_record
from app.records.vocabulary import FILE, VocabularyRecord
from app.runs.directory import Run
from supernet import files
from supernet.data import TEXT, DataSource
from supernet.data.vocabulary import (
    BYTES,
    Bytes,
    Characters,
    Vocabulary,
    digest_vocabulary,
    read_vocabulary,
)
from supernet.errors import InputError

_REMEDY = "the command that trained the run writes it again"


def open_vocabulary(run: Run) -> Vocabulary:
    """Open what turns text into the token ids of a run and back; its data are not needed.

    Args:
        run: A run on text. Characters and bytes need no file, so that runs of earlier releases have
            one, too.

    Raises:
        InputError: The run is not on text, or nobody said what its tokens are; or the file is
            missing, damaged, or not what the run was trained with.
    """
    data = run.record.data
    if data.shape.task != TEXT:
        raise InputError(f"{run.path} is a run for {data.shape.task}, which has no vocabulary")
    path = run.path / FILE
    try:
        record = read_record(path, VocabularyRecord, _REMEDY)
    except FileNotFoundError:
        return _derive(run, data)
    payload = {name: value for name, value in to_json(record).items() if name != "format"}
    try:
        found = read_vocabulary(payload)
    except InputError as error:
        raise InputError(f"{path} was damaged or edited: {error}; {_REMEDY}") from error
    if not _is_recorded(found, data):
        raise InputError(
            f"{path} was damaged or edited: it is not the vocabulary that {run.path / 'run.json'} "
            f"tells of; {_REMEDY}"
        )
    return found


def keep_vocabulary(run: Run, vocabulary: Vocabulary | None) -> None:
    """Write ``vocabulary.json`` where it does not hold the vocabulary of the run.

    Args:
        run: A run that this process has locked.
        vocabulary: That of its data; ``None`` for images.
    """
    path = run.path / FILE
    if vocabulary is None or (path.exists() and not lacks_vocabulary(run, vocabulary)):
        return
    if path.exists():
        files.set_aside(path)
    write_vocabulary(run.path, vocabulary)


def write_vocabulary(folder: Path, vocabulary: Vocabulary | None) -> None:
    """Write ``vocabulary.json`` into a folder.

    Args:
        folder: Where it does not exist yet.
        vocabulary: That of a text; ``None`` for images, of which nothing is written.
    """
    if vocabulary is None:
        return
    path = folder / FILE
    record = parse_record(vocabulary.to_json(), VocabularyRecord, f"the new {path}", _REMEDY)
    write_record(path, record)


def copy_vocabulary(source: Run, target: Run) -> None:
    """Write the vocabulary of a run into another one of the same data, where a file holds it.

    Args:
        source: Where it comes from.
        target: A run that this process has locked.

    Raises:
        InputError: The file is damaged.
    """
    if (source.path / FILE).exists():
        keep_vocabulary(target, open_vocabulary(source))


def lacks_vocabulary(run: Run, vocabulary: Vocabulary | None) -> bool:
    """Whether :func:`open_vocabulary` would not find the vocabulary of the run's data."""
    if vocabulary is None:
        return False
    try:
        return open_vocabulary(run) != vocabulary
    except InputError:
        return True


def describe_vocabulary(data: DataSource) -> dict[str, str]:
    """Describe the vocabulary of data, as fields of a :class:`app.records.run.DataRecord`."""
    found = data.vocabulary
    return {} if found is None else {"vocabulary_digest": digest_vocabulary(found)}


def _derive(run: Run, data: DataRecord) -> Vocabulary:
    """A vocabulary that needs no file."""
    if data.tokens == BYTES:
        return Bytes()
    if data.tokens != CHARACTERS:
        raise InputError(f"{run.path / FILE} is missing; {_REMEDY}")
    try:
        found = Characters(data.shape.labels)
    except InputError as error:
        raise InputError(
            f"{data.spec} does not say what the tokens of {run.path} are ({error})"
        ) from error
    if not _is_recorded(found, data):
        raise InputError(
            f"{run.path / 'run.json'} was damaged or edited: its labels are not the vocabulary "
            f"that it tells of; {REMEDY}"
        )
    return found


def _is_recorded(vocabulary: Vocabulary, data: DataRecord) -> bool:
    """Whether it is what a run was trained with; earlier releases tell of labels alone."""
    digest = data.vocabulary_digest
    same = digest is None or digest_vocabulary(vocabulary) == digest
    return same and vocabulary.labels == data.shape.labels
