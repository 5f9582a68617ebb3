"""Crash-safe files: atomic replacement, whole folders, and line logs that survive a torn end.

Whoever fills a temporary file or folder holds its lock, so that what killed processes left can be
told from what living ones write, on whichever machine or in whichever container they run.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supernet.errors import InputError
from supernet.text_encoding import read_text

TEMPORARY = ".partial-"

# NAME-TOKEN is being written, NAME-TOKEN-old on its way out; a process number stood for the token.
_LEFT = re.compile(r"(?P<name>.+)-t[0-9a-f]{12}(?P<old>-old)?", re.DOTALL)
_LEFT_BEFORE = re.compile(r"(?P<name>.+?)(?P<old>-old)?-[0-9]+", re.DOTALL)
_LONGEST_NAME = 80
# Systems that lack these have neither links without a privilege nor locks.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


def check_name(kind: str, name: str) -> str:
    """Return a name that becomes one part of a path below a run directory.

    Args:
        kind: What is called so, for the message: ``"search"``.
        name: The name.

    Raises:
        InputError: It is empty or longer than 80 characters, begins with a dot, or holds a
            separator, a line break or anything else that cannot be printed.
    """
    shown = repr(name if len(name) <= _LONGEST_NAME else f"{name[:20]}...")
    if not name or len(name) > _LONGEST_NAME:
        raise InputError(f"{kind} name {shown} must have 1 to {_LONGEST_NAME} characters")
    if not name.isprintable() or "/" in name or "\\" in name:
        raise InputError(f"{kind} name {shown} must be letters, digits, '.', '_', '-'")
    if name.startswith("."):
        raise InputError(f"{kind} name {shown} must not start with a dot")
    return name


def check_new_name(kind: str, name: str) -> str:
    """Return a name that is given now, like :func:`check_name`, but of letters, digits, ``._-``."""
    if not all(c.isalnum() or c in "._-" for c in check_name(kind, name)):
        raise InputError(f"{kind} name {name!r} must be letters, digits, '.', '_', '-'")
    return name


def refuse_link(path: Path) -> None:
    """Refuse to write where a link leads.

    Raises:
        InputError: ``path`` is a symbolic link.
    """
    if os.path.islink(path):
        raise InputError(
            f"{path} is a link to {os.readlink(path)}, and what lies behind a link is never "
            "written or removed; put a file or folder of its own in its place"
        )


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds either the old or the new content, never a part.

    A link at ``path`` is replaced, not followed.

    Raises:
        OSError: The write failed (a full disk, say); the old file is untouched and no temporary
            file stays behind.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = _create_held(path)
    except OSError as error:
        raise explain(error, path) from error
    try:
        _write_all(handle, data)
        os.fsync(handle)
        if os.name == "nt":  # which renames no open file
            os.close(handle)
            handle = -1
        os.replace(temporary, path)
    except OSError as error:
        raise explain(error, path) from error
    finally:
        if handle >= 0:
            os.close(handle)
        temporary.unlink(missing_ok=True)  # where it was not renamed: after Ctrl-C, too
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
        InputError: It is not JSON; the message names file and position.
    """
    try:
        return json.loads(read_text(path))
    # Numbers of thousands of digits and brackets without end are legal JSON.
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); it was damaged or edited") from error


def append_line(path: Path, line: str) -> None:
    """Append one line and wait until it is on disk; a torn line a crash left is cut off first.

    Raises:
        InputError: ``line`` contains a line break, or ``path`` is a link.
        OSError: The write failed; every whole line is as it was, and nothing comes after them.
    """
    if "\n" in line:
        raise InputError(f"a log line cannot contain a line break: {line!r}")
    path = Path(path)
    refuse_link(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_LINK, 0o666)
    except OSError as error:
        raise explain(error, path) from error
    try:
        end = _find_whole_length(handle)
        if end < os.fstat(handle).st_size:
            os.ftruncate(handle, end)
        try:
            # Nothing is buffered: what a buffer kept would be written after the cut below.
            _write_all(handle, line.encode() + b"\n")
            os.fsync(handle)
        except BaseException:  # Ctrl-C too leaves no part of a line; raised on
            # Shrinking needs no space.
            os.ftruncate(handle, end)
            raise
    except OSError as error:
        raise explain(error, path) from error
    finally:
        os.close(handle)


def append_record(path: Path, record: object) -> None:
    """Append one JSON value, like :func:`append_line`."""
    append_line(path, json.dumps(record, allow_nan=False))


def read_lines(path: Path) -> list[str]:
    """Read the complete lines of a log; a torn last one is left out, a missing file has none.

    Raises:
        InputError: The file is not UTF-8 text; the message names file and line.
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
        InputError: A complete line is not JSON; the message names file and line.
    """
    records = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number} is not valid JSON ({error}); remove that line"
            ) from error
    return records


def set_aside(path: Path) -> Path:
    """Rename a damaged file to ``NAME.damaged-N``, so that nothing of it is lost; its new path."""
    path = Path(path)
    number = 1
    while os.path.lexists(path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    aside = path.with_name(f"{path.name}.damaged-{number}")
    os.replace(path, aside)
    return aside


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

    An older folder at ``path`` is replaced; of several writers at once the last one stays.
    ``with new_folder(path) as temporary: ...``

    Raises:
        InputError: ``path`` is a link.
        OSError: A write failed; ``path`` is as it was and the temporary folder is gone.
    """
    path = Path(path)
    refuse_link(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partial(path.parent, path.name)
        temporary, handle = _make_held(path)
    except OSError as error:
        raise explain(error, path) from error
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                with file.open("rb+") as written:
                    os.fsync(written.fileno())
        _sync_folder(temporary)
        _put_in_place(temporary, path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise explain(error, path) from error
    except BaseException:  # the caller's block may fail in any way; raised on
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        if handle is not None:
            os.close(handle)
    _sync_folder(path.parent)


def remove_partial(folder: Path, name: str = "") -> None:
    """Remove what killed processes left in ``folder`` under temporary names of ``name``.

    A complete folder that was on its way to being replaced is put back. What a living process is
    writing stays.
    """
    for left in Path(folder).glob(f"{TEMPORARY}*"):
        found = _parse_partial(left)
        # The whole name: `model` must not remove what a writer of `model-2` is filling.
        if found is not None and name in ("", found["name"]):
            _remove_left(left, left.with_name(found["name"]) if found["old"] else None)


def is_partial(path: Path) -> bool:
    """Whether a path has a temporary name of this module."""
    return _parse_partial(Path(path)) is not None


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there yet.

    Raises:
        OSError: It cannot be made; the message names it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, path) from error


def explain(error: OSError, path: Path) -> OSError:
    """Put an error into a sentence that names the file and says what is safe."""
    number = error.errno
    if number == errno.ENOSPC:
        return OSError(
            errno.ENOSPC,
            f"no space left on the disk while writing {path}; what was there before is intact: "
            "free some space and run the same command again",
        )
    if number in _SPACE:
        what = "disk quota" if number == errno.EDQUOT else "largest file that the system allows"
        return OSError(
            number,
            f"the {what} was exceeded while writing {path}; what was there before is intact: "
            "raise the limit and run the same command again",
        )
    if number in _REFUSED:
        return OSError(
            number, f"{path} cannot be written ({os.strerror(number)}); use a place that can be"
        )
    return error


def _parse_partial(path: Path) -> re.Match[str] | None:
    if not path.name.startswith(TEMPORARY):
        return None
    rest = path.name[len(TEMPORARY) :]
    return _LEFT.fullmatch(rest) or _LEFT_BEFORE.fullmatch(rest)


def _name_temporary(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY}{path.name}-t{secrets.token_hex(6)}")


def _create_held(path: Path) -> tuple[Path, int]:
    """Create a temporary file for ``path`` and hold its lock."""
    while True:
        temporary = _name_temporary(path)
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666)
        if _hold(handle, temporary):
            return temporary, handle
        os.close(handle)


def _make_held(path: Path) -> tuple[Path, int | None]:
    """Make a temporary folder for ``path`` and hold its lock."""
    while True:
        temporary = _name_temporary(path)
        temporary.mkdir()
        if os.name != "posix":
            return temporary, None
        with suppress(FileNotFoundError):
            handle = os.open(temporary, os.O_RDONLY | _NO_LINK)
            if _hold(handle, temporary):
                return temporary, handle
            os.close(handle)


def _hold(handle: int, path: Path) -> bool:
    """Lock what was made just now; false when someone removed it before it was locked."""
    if os.name != "posix":
        return True
    import fcntl

    with suppress(OSError):  # a file system without locks: what is left there stays
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(handle))


def _remove_left(left: Path, back: Path | None) -> None:
    """Remove one temporary name, unless its writer lives; ``back`` is where it was before."""
    # What is gone meanwhile, is another user's or lies on a read-only disk stays as it is.
    with suppress(OSError):
        if left.is_symlink():
            left.unlink()
            return
        handle = os.open(left, os.O_RDONLY | _NO_LINK | _NO_WAIT) if os.name == "posix" else None
        try:
            if handle is None or _is_abandoned(handle):
                _put_back_or_remove(left, back)
        finally:
            if handle is not None:
                os.close(handle)


def _put_back_or_remove(left: Path, back: Path | None) -> None:
    if not left.is_dir():
        left.unlink()
    elif back is not None and not os.path.lexists(back):
        # Killed between moving the old folder aside and putting the new one in its place.
        os.replace(left, back)
    else:
        shutil.rmtree(left, ignore_errors=True)


def _is_abandoned(handle: int) -> bool:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _put_in_place(temporary: Path, path: Path) -> None:
    """Rename a folder to ``path``; what is there makes way, and comes back should that fail."""
    aside = temporary.with_name(f"{temporary.name}-old")
    while True:
        if path.is_dir():
            with suppress(FileNotFoundError):  # another writer was faster
                os.replace(path, aside)
        try:
            os.replace(temporary, path)
        except BaseException as error:  # whatever stopped it, the old folder goes back; raised on
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                # Another writer put its own folder there: ours came later and takes its place.
                shutil.rmtree(aside, ignore_errors=True)
                continue
            if aside.is_dir() and not path.exists():
                os.replace(aside, path)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        return


def _write_all(handle: int, data: bytes) -> None:
    """Write all of ``data``; the system may take a part of it at a time."""
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def _find_whole_length(handle: int) -> int:
    """Length in bytes up to and including the last line break."""
    position = os.lseek(handle, 0, os.SEEK_END)
    while position > 0:
        start = max(0, position - 4096)
        os.lseek(handle, start, os.SEEK_SET)
        found = os.read(handle, position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
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
