"""Crash-safe files: atomic replacement, whole folders, and line logs that survive a torn end."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supernet.errors import InputError
from supernet.text_encoding import read_text

TEMPORARY = ".partial-"


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds either the old or the new content, never a part.

    Raises:
        OSError: The write failed (a full disk, say); the old file is untouched and no temporary
            file stays behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise explain(error, path) from error
    except BaseException:  # Ctrl-C too leaves no temporary file; raised on
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, like :func:`write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, payload: object) -> None:
    """Write indented JSON, like :func:`write_bytes`; ValueError for NaN and infinity."""
    write_text(path, json.dumps(payload, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON; the message names file and position.
    """
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); it was damaged or edited") from error


def append_line(path: Path, line: str) -> None:
    """Append one line and wait until it is on disk; a torn line a crash left is cut off first.

    Raises:
        ValueError: ``line`` contains a line break.
        OSError: The write failed; the file is as it was.
    """
    if "\n" in line:
        raise InputError(f"a log line cannot contain a line break: {line!r}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        end = _find_whole_length(file)
        file.truncate(end)
        try:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            # What was written of this line is dropped; shrinking needs no space.
            os.ftruncate(file.fileno(), end)
            raise explain(error, path) from error


def append_record(path: Path, record: object) -> None:
    """Append one JSON value, like :func:`append_line`."""
    append_line(path, json.dumps(record, allow_nan=False))


def read_lines(path: Path) -> list[str]:
    """Read the complete lines of a log; a torn last one is left out, a missing file has none.

    Raises:
        ValueError: The file is not UTF-8 text; the message names file and line.
    """
    path = Path(path)
    if not path.exists():
        return []
    whole, _, _torn = path.read_bytes().rpartition(b"\n")
    try:
        return whole.decode().split("\n") if whole else []
    except UnicodeDecodeError as error:
        number = whole[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {number} is not text ({error.reason})") from None


def read_records(path: Path) -> list[Any]:
    """Read the JSON values of a log written by :func:`append_record`.

    Raises:
        ValueError: A complete line is not JSON; the message names file and line.
    """
    records = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}, line {number} is not valid JSON ({error}); remove that line"
            ) from error
    return records


def digest_file(path: Path) -> str:
    """Hash a file's content by SHA-256; 64 hexadecimal digits."""
    result = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            result.update(block)
    return result.hexdigest()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name; it appears at ``path`` complete or not at all.

    An older folder at ``path`` is replaced; a link is followed.
    ``with new_folder(path) as temporary: ...``

    Raises:
        OSError: A write failed; ``path`` is as it was and the temporary folder is gone.
    """
    path = Path(path)
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_partial(path.parent, path.name)
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
        _sync_folder(temporary)
        if path.exists():
            old = path.with_name(f"{TEMPORARY}{path.name}-old-{os.getpid()}")
            os.replace(path, old)
            try:
                os.replace(temporary, path)
            except BaseException:  # whatever stopped it, the old folder goes back; raised on
                os.replace(old, path)
                raise
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise explain(error, path) from error
    except BaseException:  # the caller's block may fail in any way; raised on
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def remove_partial(folder: Path, name: str = "") -> None:
    """Remove what killed processes left in ``folder`` under temporary names of ``name``.

    A complete folder that was on its way to being replaced is put back.
    """
    for left in Path(folder).glob(f"{TEMPORARY}*"):
        # The whole name: `model` must not remove what a writer of `model-2` is filling.
        if name and not re.fullmatch(re.escape(name) + r"(-old)?-\d+", left.name[len(TEMPORARY) :]):
            continue
        replaced = re.fullmatch(r"(.+)-old-\d+", left.name[len(TEMPORARY) :])
        if left.is_dir() and replaced and not (left.parent / replaced[1]).exists():
            # Killed between moving the old folder aside and putting the new one in its place.
            os.replace(left, left.parent / replaced[1])
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def explain(error: OSError, path: Path) -> OSError:
    """Put an error into a sentence that names the file and says what is safe."""
    if error.errno != errno.ENOSPC:
        return error
    return OSError(
        errno.ENOSPC,
        f"no space left on the disk while writing {path}; what was there before is intact: "
        "free some space and run the same command again",
    )


def _find_whole_length(file: Any) -> int:
    """Length in bytes up to and including the last line break."""
    end = int(file.seek(0, os.SEEK_END))
    position = end
    while position > 0:
        start = max(0, position - 4096)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + int(found) + 1
        position = start
    return 0


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; systems that cannot open folders (Windows) do without."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
