"""Which images a folder holds: classes, splits by their usual names, and what is left out."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from supernet.errors import InputError

from .reading import Count, count_nothing

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_WORD = re.compile(
    rf"(?<![a-z])({'|'.join(word for words in SPLIT_NAMES.values() for word in words)})(?![a-z])"
)
# What systems, archives and storage servers leave in folders, besides hidden files.
_SYSTEM_NAMES = {
    "__macosx",
    "@eadir",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "lost+found",
    "system volume information",
    "thumbs.db",
    "desktop.ini",
}
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_MOST_SHOWN = 5

# Files of each class.
Classes = dict[str, list[Path]]


@dataclass(frozen=True)
class FolderLayout:
    """Images by split and class.

    Args:
        classes: Files of each class of each split; the split ``""`` is one still to be cut.
        sizes: Bytes of every file.
        notes: What was left out, a sentence each.
    """

    classes: dict[str, Classes]
    sizes: dict[Path, int]
    notes: tuple[str, ...]


def find_images(path: Path, count: Count = count_nothing) -> FolderLayout:
    """Find images under ``PATH/CLASS`` or ``PATH/SPLIT/CLASS``, at any depth below the class.

    Names of splits count in any case: ``train`` and ``training``, ``val``, ``valid``,
    ``validation`` and ``dev``, ``test`` and ``testing``. Hidden files and folders are left out,
    and those that systems make (``__MACOSX``, ``@eaDir``, ``lost+found``). Longer names of splits
    (``training_set`` beside ``test_set``) are refused, since they would be classes. Links to
    folders are followed for splits and classes.

    Args:
        path: The folder.
        count: Told how many are found.

    Raises:
        InputError: No images, folders of splits beside others, twice the same split, no training
            split, classes that differ, fewer than two of them, or something of an image's name
            that is no file.
        OSError: A folder cannot be read.
    """
    folders = _list_folders(path)
    places = _find_splits(path, folders) or {"": path}
    listed = {split: _list_classes(place, count) for split, place in places.items()}
    for split, classes in listed.items():
        _check_classes(places[split], classes)
    _check_same_classes(places, listed)
    names = sorted(name for name, files in listed[next(iter(listed))].items() if files)
    found = {
        split: {name: classes[name] for name in names if classes.get(name)}
        for split, classes in listed.items()
    }
    if len(names) < 2:
        deeper = _list_folders(path / names[0]) if "" in places else ()
        hint = f"; did you mean {path / names[0]}?" if deeper else ""
        raise InputError(
            f"{path} has only one class ({names[0]!r}); classification needs at least 2{hint}"
        )
    images = [file for c in found.values() for files in c.values() for file in files]
    sizes: dict[Path, int] = {}
    for file in images:
        sizes[file] = _measure(file)
        count("looking at sizes", len(sizes), len(images))
    return FolderLayout(found, sizes, tuple(_list_notes(places, listed)))


def _find_splits(path: Path, folders: Sequence[Path]) -> dict[str, Path]:
    """The folder of each split; none when the folders are classes."""
    found: dict[str, Path] = {}
    for folder in folders:
        split = _name_split(folder.name)
        if split is None:
            continue
        if split in found:
            raise InputError(
                f"{found[split]} and {folder} are both the {split} split; put their images into "
                "one folder"
            )
        found[split] = folder
    if not found:
        _check_no_longer_names(path, [folder.name for folder in folders])
        return {}
    others = [f for f in folders if f not in found.values() and any(_walk(f))]
    ours = ", ".join(folder.name for folder in found.values())
    if others:
        raise InputError(
            f"{path} holds folders with names of splits ({ours}) beside others "
            f"({_shorten(f.name for f in others)}); move what belongs to no split elsewhere, or, "
            f"if all of them are classes, move them into {path / 'train'}"
        )
    if "train" not in found:
        raise InputError(
            f"{path} has folders of splits ({ours}) and none for training; expected "
            f"{path / 'train'}"
        )
    return {split: found[split] for split in SPLIT_NAMES if split in found}


def _check_no_longer_names(path: Path, names: Sequence[str]) -> None:
    """Refuse folders whose names are equal but for the split they hold (``seg_train``)."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        word = _SPLIT_WORD.search(name.lower())
        if word is not None:
            rest = f"{name.lower()[: word.start()]} {name.lower()[word.end() :]}"
            found.setdefault(rest, {})[_name_split(word[0]) or ""] = name
    for splits in found.values():
        if "train" in splits and len(splits) > 1:
            raise InputError(
                f"{path} holds what look like splits ({', '.join(splits.values())}) and not "
                f"classes; call them {', '.join(s for s in SPLIT_NAMES if s in splits)}, or, if "
                "they are classes, give them other names"
            )


def _name_split(name: str) -> str | None:
    """The split that a folder of this name holds, if it is the name of one."""
    return next((s for s, names in SPLIT_NAMES.items() if name.lower() in names), None)


def _list_classes(place: Path, count: Count) -> Classes:
    found: Classes = {}
    for folder in _list_folders(place):
        found[folder.name] = list(_walk(folder))
        count("listing images", sum(map(len, found.values())), None)
    return found


def _check_classes(place: Path, classes: Classes) -> None:
    if not any(classes.values()):
        where = " in folders of classes" if any(_list_stray(place)) else ""
        raise InputError(
            f"{place} has no images{where}; expected {place.name}/CLASS/IMAGE, where IMAGE ends in "
            f"one of {', '.join(SUFFIXES)}"
        )
    for name in classes:
        _check_no_splits(place / name, place)
    _check_no_splits(place, place)


def _check_no_splits(folder: Path, place: Path) -> None:
    """Refuse splits that lie deeper than they may: as classes they would be mixed."""
    named = {f.name: _name_split(f.name) for f in _list_folders(folder)}
    if all(named.values()) or folder != place:
        splits = {split for split in named.values() if split is not None}
        if "train" in splits and len(splits) > 1:
            shown = ", ".join(name for name, split in named.items() if split)
            raise InputError(
                f"{folder} holds folders of splits ({shown}); splits come first, as in "
                "train/CLASS/IMAGE and test/CLASS/IMAGE"
            )


def _check_same_classes(places: dict[str, Path], listed: dict[str, Classes]) -> None:
    (first, classes), *others = listed.items()
    ours = {name for name, files in classes.items() if files}
    for split, other in others:
        theirs = {name for name, files in other.items() if files}
        if ours != theirs:
            raise InputError(
                f"the classes of {places[first]} and {places[split]} differ: "
                f"{_shorten(sorted(ours ^ theirs))} is in one of them only; every split needs "
                "images of every class"
            )


def _list_notes(places: dict[str, Path], listed: dict[str, Classes]) -> Iterator[str]:
    empty = {str(places[s] / c) for s, found in listed.items() for c in found if not found[c]}
    if empty:
        yield (
            f"left out {len(empty)} class folder{'s' * (len(empty) != 1)} without images: "
            f"{_shorten(sorted(empty))} (images end in {', '.join(SUFFIXES)})"
        )
    other = [
        file
        for split, found in listed.items()
        for name, files in found.items()
        if files
        for file in _walk(places[split] / name, _is_other)
    ]
    if other:
        yield (
            f"left out {len(other)} file{'s' * (len(other) != 1)} among the images that "
            f"{'is none' if len(other) == 1 else 'are none'} by name ({other[0]})"
        )
    for place in places.values():
        stray = list(_list_stray(place))
        if stray:
            yield (
                f"left out {len(stray)} image{'s' * (len(stray) != 1)} directly in {place} "
                f"({stray[0].name}), since a class is a folder"
            )


def _list_folders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        names = [entry.name for entry in entries if not _is_system(entry.name) and entry.is_dir()]
    return [path / name for name in sorted(names)]


def _list_stray(path: Path) -> Iterator[Path]:
    """Images directly in a folder."""
    with os.scandir(path) as entries:
        found = [e.name for e in entries if _is_image(e.name) and not e.is_dir()]
    return (path / name for name in sorted(found))


def _walk(folder: Path, wanted: Callable[[str], bool] | None = None) -> Iterator[Path]:
    """Files of wanted names (images) in a folder and below, in the order of the path's parts."""
    wanted = wanted or _is_image
    pending = [(str(folder), True)]
    while pending:
        place, is_folder = pending.pop()
        if not is_folder:
            yield Path(place)
            continue
        kept = []
        with os.scandir(place) as entries:
            for entry in entries:
                inside = entry.is_dir()
                linked = inside and entry.is_symlink()
                if not linked and (not _is_system(entry.name) if inside else wanted(entry.name)):
                    kept.append((entry.path, inside))
        pending += sorted(kept, reverse=True)


def _is_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _is_image(name: str) -> bool:
    return not _is_system(name) and os.path.splitext(name)[1].lower() in SUFFIXES


def _is_other(name: str) -> bool:
    return not _is_system(name) and not _is_image(name)


def _measure(file: Path) -> int:
    """Bytes of a file; InputError when it is none, since reading a pipe would wait for ever."""
    try:
        facts = file.stat()
    except FileNotFoundError:
        target = f" to {os.readlink(file)}" if file.is_symlink() else ""
        raise InputError(f"{file} is a link{target}, which is not there; remove it") from None
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "no file")
        raise InputError(f"{file} is {kind} and not an image; remove it, or give it another name")
    return facts.st_size


def _shorten(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:_MOST_SHOWN])
    left = len(names) - _MOST_SHOWN
    return shown + (f" and {left} more" if left > 0 else "")
