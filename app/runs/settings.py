"""What decides the result in a folder of a run, so that no other result takes its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.records.typed_json.record import FileRecord, to_json
from app.records.typed_json.record_files import read_record
from supernet.errors import InputError

SETTINGS = "settings.json"
_REMEDY = "choose another --name, or --replace it"


def check_stored(path: Path, stored: FileRecord, plan: FileRecord, remedy: str) -> None:
    """Refuse a finished result whose own settings are not those beside it.

    Args:
        path: The file of the result, in the folder of the settings.
        stored: The settings that it says it has.
        plan: Those that are stored beside it.
        remedy: What to do about it.

    Raises:
        InputError: They differ, so that one of the files is damaged.
    """
    if stored != plan:
        raise InputError(
            f"{path} is of other settings than {path.with_name(SETTINGS)}: one of them was damaged "
            f"or edited; {remedy}"
        )


def holds_other(
    what: str, folder: Path, plan: FileRecord, results: Sequence[str], *, replace: bool
) -> bool:
    """Whether a folder holds work with other settings than ``plan``, or with unknown ones.

    Args:
        what: What the work is called, for messages: ``"audit"``.
        folder: Where it is stored, its settings as ``settings.json``.
        plan: The settings asked for.
        results: Files and folders that tell of such work where the settings are gone.
        replace: Whether other work may be given up; without it there must be none.

    Raises:
        InputError: There is some, and the message says what differs.
    """
    path = folder / SETTINGS
    if not path.exists():
        unknown = any((folder / name).exists() for name in results)
        if unknown and not replace:
            raise InputError(f"{path} is missing or damaged; {_REMEDY}")
        return unknown
    try:
        old = read_record(path, type(plan), _REMEDY)
    except InputError:
        if not replace:
            raise
        return True
    if old == plan:
        return False
    if not replace:
        before, now = to_json(old), to_json(plan)
        names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
        changes = ", ".join(f"{name}: {before.get(name)} -> {now.get(name)}" for name in names)
        raise InputError(f"{what} {folder.name!r} has other settings ({changes}); {_REMEDY}")
    return True
