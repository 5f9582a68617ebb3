"""Ways to damage a file, and every leaf of its JSON replaced by what does not belong there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from supernet import checksums

Damage = Callable[[Path, Random], None]
_DEEP = "@deep@"
_HUGE = "@huge@"
# What json.dumps does not write, or not in this many digits.
_RAW = {_DEEP: "[" * 5000 + "]" * 5000, _HUGE: "9" * 5000}


def empty(path: Path, rng: Random) -> None:
    """Nothing is left."""
    path.write_bytes(b"")


def truncate(path: Path, rng: Random) -> None:
    """The file ends too early, somewhere."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(1, max(2, len(content)))])


def truncate_last_bytes(path: Path, rng: Random) -> None:
    """The last bytes are missing."""
    path.write_bytes(path.read_bytes()[: -rng.randrange(2, 6)])


def flip_byte(path: Path, rng: Random) -> None:
    """Every bit of one byte is another."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 0xFF
    path.write_bytes(bytes(content))


def flip_bit(path: Path, rng: Random) -> None:
    """One bit is another."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(7)
    path.write_bytes(bytes(content))


def change_digit(path: Path, rng: Random) -> None:
    """One digit is another."""
    content = bytearray(path.read_bytes())
    places = [i for i, byte in enumerate(content) if byte in b"0123456789"] or [0]
    place = rng.choice(places)
    content[place] = rng.choice([d for d in b"123456789" if d != content[place]])
    path.write_bytes(bytes(content))


def write_noise(path: Path, rng: Random) -> None:
    """As many random bytes."""
    path.write_bytes(rng.randbytes(path.stat().st_size))


def write_zeros(path: Path, rng: Random) -> None:
    """As many NUL bytes, as a file system leaves after a power cut."""
    path.write_bytes(bytes(path.stat().st_size))


def end_in_zeros(path: Path, rng: Random) -> None:
    """NUL bytes instead of the end."""
    content = path.read_bytes()
    kept = rng.randrange(len(content))
    path.write_bytes(content[:kept] + bytes(len(content) - kept))


def add_byte_order_mark(path: Path, rng: Random) -> None:
    """As some editors save text."""
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def use_windows_line_ends(path: Path, rng: Random) -> None:
    """As some transfers leave text."""
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def nest_deeply(path: Path, rng: Random) -> None:
    """Valid JSON that no recursion survives."""
    path.write_text(_RAW[_DEEP] + "\n")


def write_other_type(path: Path, rng: Random) -> None:
    """Valid JSON of another kind."""
    path.write_text(
        rng.choice(["[]", "{}", "null", "3", '"x"', "[[1, 2]]", '{"format": 1}']) + "\n"
    )


def remove_line(path: Path, rng: Random) -> None:
    """One line is missing."""
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    path.write_bytes(b"".join(lines))


def repeat_line(path: Path, rng: Random) -> None:
    """One line is there twice."""
    lines = path.read_bytes().splitlines(keepends=True)
    place = rng.randrange(len(lines))
    path.write_bytes(b"".join([*lines[: place + 1], *lines[place:]]))


def insert_noise(path: Path, rng: Random) -> None:
    """A line of random bytes among the others."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(rng.randrange(len(lines) + 1), rng.randbytes(40).replace(b"\n", b"") + b"\n")
    path.write_bytes(b"".join(lines))


def remove(path: Path, rng: Random) -> None:
    """The file is gone."""
    path.unlink()


def replace_by_folder(path: Path, rng: Random) -> None:
    """A folder of the same name is there."""
    path.unlink()
    path.mkdir()
    (path / "stranger.txt").write_text("something of somebody")


def swap_with_sibling(path: Path, rng: Random) -> None:
    """Another file of the same kind is there: of another search, step or architecture."""
    siblings = [
        other
        for folder in sorted(path.parent.parent.iterdir())
        if (other := folder / path.name).is_file() and other != path
    ]
    if not siblings:
        siblings = sorted(p for p in path.parent.iterdir() if p.is_file() and p != path)
    shutil.copy(rng.choice(siblings), path)


ALL: tuple[Damage, ...] = (
    empty,
    truncate,
    truncate_last_bytes,
    flip_byte,
    flip_bit,
    change_digit,
    write_noise,
    write_zeros,
    end_in_zeros,
    add_byte_order_mark,
    use_windows_line_ends,
    nest_deeply,
    write_other_type,
    remove_line,
    repeat_line,
    insert_noise,
    remove,
    replace_by_folder,
    swap_with_sibling,
)

Place = tuple[str | int, ...]


def list_leaves(payload: Any, place: Place = ()) -> Iterator[Place]:
    """Where the leaves of a JSON value are; empty objects and lists are leaves."""
    if isinstance(payload, dict | list) and payload:
        for key, value in payload.items() if isinstance(payload, dict) else enumerate(payload):
            yield from list_leaves(value, (*place, key))
    else:
        yield place


def list_nodes(payload: Any, place: Place = ()) -> Iterator[Place]:
    """Where the objects and lists are that are not empty, the whole one left out."""
    if isinstance(payload, dict | list) and payload:
        if place:
            yield place
        for key, value in payload.items() if isinstance(payload, dict) else enumerate(payload):
            yield from list_nodes(value, (*place, key))


def name_pattern(place: Place) -> Place:
    """The same place in every entry of a list."""
    return tuple(0 if isinstance(part, int) else part for part in place)


def list_replacements(value: Any) -> list[Any]:
    """What may stand in the place of a value after damage or an edit."""
    found: list[Any] = [
        None,
        True,
        {},
        [],
        {"x": [1]},
        [1, "x"],
        float("nan"),
        float("inf"),
        _HUGE,
        _DEEP,
        10**300,
        2**63,
        -1,
        0,
        1.5,
        "",
        "two\nlines",
        "../../outside",
        "<img src=x onerror=y>",
        "x" * 5000,
    ]
    if isinstance(value, int | float) and not isinstance(value, bool):
        found += [value * 2 + 1, -value, str(value)]
    return found


def replace_leaf(text: str, place: Place, value: Any, *, bare: bool) -> str:
    """A JSON text with another value at a place.

    Args:
        text: An object.
        place: Of a leaf.
        value: One of :func:`list_replacements`.
        bare: Whether the checksum is removed, as by somebody who means the change.
    """
    payload = json.loads(text)
    if bare:
        payload = checksums.unseal(payload)
    target = payload
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = value
    indent = 2 if "\n" in text.strip() else None
    result = json.dumps(payload, indent=indent)
    for token, raw in _RAW.items():
        result = result.replace(f'"{token}"', raw)
    return result + "\n"
