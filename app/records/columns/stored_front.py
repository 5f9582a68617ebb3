"""A large ``front.json`` as it is shown: columns of all points, and each point when asked for.

The columns come from ``front.columns.npz`` beside the file, which the search writes, and which is
made anew where it does not fit. Jobs read the whole file by
:func:`app.records.searches.front.read_front`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from app.records.columns.choice_columns import ChoiceColumns
from app.records.columns.columns_file import (
    DIGEST,
    LEAST_BYTES,
    Arrays,
    Origin,
    are_digests,
    are_flags,
    are_numbers,
    are_places,
    find_origin,
    name_beside,
    read_columns,
    write_columns,
)
from app.records.columns.front_columns import Column
from app.records.columns.point_columns import FLAGS, PointColumns, StoredPoints
from app.records.columns.tabulate_points import tabulate_points
from app.records.searches.front import FILE, Front, Point, check_front, parse_front, read_front
from supernet import checksums
from supernet.errors import InputError

_FIELDS = tuple(field.name for field in fields(Column))
# What a column is made of may change from one release to the next.
_LAYOUT = f"front 2 {' '.join(_FIELDS)}"
# How points begin, follow each other and end in a file as it is written; no text that is JSON
# holds a line break.
_BEGIN, _END = b'\n  "points": [\n    {', b"\n    }\n  ]"
_BETWEEN = re.compile(rb"\n    \}(,\n    )\{")
# Points that are in memory at the same time.
_TOGETHER = 1024


@dataclass(frozen=True, eq=False)
class _Stored:
    """A front apart from its points, where these are in the file, and what is known of them."""

    origin: Origin
    header: str
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    table: PointColumns


def open_front(folder: Path) -> Front:
    """What a search found, to be shown, as :func:`app.records.searches.front.read_front` reads it.

    Points of a large file stay there, and arrays beside it make it quick to open.

    Args:
        folder: Folder of the search.

    Raises:
        FileNotFoundError: The search has not finished.
        InputError: The file is damaged, of another format or of another search than the
            ``search.json`` beside it.
    """
    path = folder / FILE
    if path.stat().st_size < LEAST_BYTES:
        return read_front(folder)
    stored = _read_stored(path) or _make_stored(folder)
    if stored is None:
        # What is wrong with a file is said by the one who reads all of it.
        return read_front(folder)
    points = StoredPoints(
        path, stored.starts, stored.ends, stored.table.digest, _parse_point, stored.table
    )
    front = parse_front(json.loads(stored.header), str(path), "")
    return check_front(front.replace(points=points), folder)


def keep_columns(folder: Path) -> None:
    """Write the arrays beside a front that is large, so that it is quick to open from then on.

    Args:
        folder: Folder of the search.

    Raises:
        FileNotFoundError: There is no front.
    """
    if (folder / FILE).stat().st_size >= LEAST_BYTES:
        _make_stored(folder)


def _make_stored(folder: Path) -> _Stored | None:
    """Read a whole file and write the arrays beside it; ``None`` where it cannot be taken apart."""
    path = folder / FILE
    try:
        stored = _take_apart(path.read_bytes())
    except (InputError, ValidationError):
        return None
    # A link would lead to what is not the run's own.
    if stored is not None and not (folder.is_symlink() or folder.parent.is_symlink()):
        _write_stored(path, stored)
    return stored


def _parse_point(content: bytes) -> tuple[Point, str]:
    point = Point.model_validate_json(content)
    return point, point.digest


def _take_apart(content: bytes) -> _Stored | None:
    """A file as this project writes it; ``None`` for one that is laid out in another way.

    Raises:
        InputError: A point is damaged.
        ValidationError: Likewise, or the rest of the file is.
    """
    begin = content.find(_BEGIN)
    end = content.find(_END, begin)
    if begin < 0 or end < 0 or checksums.is_changed(content):
        return None
    first, last = begin + len(_BEGIN) - len(b"{"), end + len(b"\n    }")
    header = content[: first - len(b"\n    ")] + content[last:]
    if Front.model_validate_json(header).points:
        return None
    gaps = np.array([match.span(1) for match in _BETWEEN.finditer(content, first, last)])
    gaps = gaps.astype(np.int64).reshape(-1, 2)
    starts, ends = np.append(first, gaps[:, 1]), np.append(gaps[:, 0], last)
    table = tabulate_points(_iterate_points(content, starts, ends))
    if table is None:
        return None
    origin = Origin(0, 0).extend(content)
    return _Stored(origin, header.decode(), starts, ends, table)


def _iterate_points(
    content: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Iterator[list[Point]]:
    places = list(zip(starts.tolist(), ends.tolist(), strict=True))
    for first in range(0, len(places), _TOGETHER):
        chosen = places[first : first + _TOGETHER]
        yield [Point.model_validate_json(content[start:end]) for start, end in chosen]


# -- the file of arrays ----------------------------------------------------------------------------


def _write_stored(path: Path, stored: _Stored) -> None:
    table = stored.table
    arrays: dict[str, NDArray[Any]] = {"start": stored.starts, "end": stored.ends}
    arrays |= {"digest": table.digest.astype(DIGEST), "choices": table.choices.codes}
    arrays |= {name: getattr(table, name) for name in FLAGS}
    # Many are the same: of most quantities there is no prediction, say, or the value is the best.
    places: dict[tuple[str, bytes], str] = {}
    columns: dict[str, dict[str, str]] = {}
    for name, column in table.columns.items():
        columns[name] = {}
        for field in _FIELDS:
            array = getattr(column, field)
            key = (str(array.dtype), hashlib.sha256(array.tobytes()).digest())
            columns[name][field] = places.setdefault(key, f"column {len(places)}")
            arrays[places[key]] = array
    header = {
        "origin": [stored.origin.size, stored.origin.checksum],
        "front": stored.header,
        "carried": table.carried,
        "columns": columns,
        "choices": table.choices.names,
        "values": table.choices.values,
    }
    write_columns(name_beside(path), _LAYOUT, header, arrays)


def _read_stored(path: Path) -> _Stored | None:
    """What the arrays beside a file hold; ``None`` where they are of no use."""
    found = read_columns(name_beside(path), _LAYOUT)
    if found is None:
        return None
    header, arrays = found
    try:
        size, checksum = header["origin"]
        origin = Origin(size, checksum)
        with path.open("rb") as file:
            same = find_origin(file, size + 1) == origin
        if not same or not are_digests(arrays["digest"], len(arrays["start"])):
            return None
        stored = _rebuild(origin, header, arrays)
        return stored if _is_sound(stored) else None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None


def _rebuild(origin: Origin, header: Mapping[str, Any], arrays: Arrays) -> _Stored:
    columns = {
        name: Column(**{field: arrays[places[field]] for field in _FIELDS})
        for name, places in header["columns"].items()
    }
    values = tuple(map(tuple, header["values"]))
    table = PointColumns(
        digest=arrays["digest"].astype(np.str_),
        choices=ChoiceColumns(tuple(header["choices"]), values, arrays["choices"]),
        carried=tuple(header["carried"]),
        columns=columns,
        **{name: arrays[name] for name in FLAGS},
    )
    parse_front(json.loads(header["front"]), "", "")
    return _Stored(origin, header["front"], arrays["start"], arrays["end"], table)


def _is_sound(stored: _Stored) -> bool:
    """Whether arrays fit each other, so that nothing that shows them meets a surprise."""
    table, count = stored.table, len(stored.starts)
    columns = [getattr(c, name) for c in table.columns.values() for name in _FIELDS]
    return (
        are_places(stored.starts, stored.ends, stored.origin.size)
        and all(are_flags(getattr(table, name), count) for name in FLAGS)
        and all(are_numbers(array, count) or are_flags(array, count) for array in columns)
        and all(isinstance(name, str) for name in (*table.carried, *table.columns))
        and len(table.choices) == count
        and table.choices.are_sound
    )
