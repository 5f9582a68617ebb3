"""What a browser looks at, as one value, and as the query of an address that restores it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

from app.analysis.regions import Filter, Region
from supernet.errors import InputError

SCREENS = (
    "Front",
    "Network",
    "Compare",
    "Space",
    "Devices",
    "Predictors",
    "Search",
    "Training",
    "Runs",
)
# What a front chart can show besides the verified front.
LAYERS = (
    "predicted",
    "evaluated",
    "intervals",
    "knee",
    "references",
    "random search",
    "within noise",
    "dominated",
    "outside the limits",
    "failed",
)
USUAL = frozenset(("intervals", "knee", "references"))
# More of a kind than this is no view that somebody chose by hand.
MOST = 64
_LONGEST = 4000

Read = TypeVar("Read")


@dataclass(frozen=True)
class ViewState:
    """What one browser looks at; empty texts stand for what the page chooses by itself.

    Args:
        run: Name of a run as the page lists it.
        device: Device of the searches.
        search: Name of the search.
        screen: One of :data:`SCREENS`.
        budgets: Limits of the front's cost in its stored unit; the first one chooses.
        x: Name of the quantity across.
        y: Name of the quantity upwards.
        color: Name of the quantity that colours points.
        x_log: Whether the axis across is logarithmic.
        y_log: Whether the axis upwards is.
        shown: Which of :data:`LAYERS` are shown.
        region: What was drawn around points.
        filters: Ranges or values that choices must have, by name.
        chosen: Digest of the architecture that was chosen by hand.
        compared: Digests of those beside it.
        beside: Labels of the fronts of other searches that are drawn, too.
    """

    run: str = ""
    device: str = ""
    search: str = ""
    screen: str = SCREENS[0]
    budgets: tuple[float, ...] = ()
    x: str = ""
    y: str = ""
    color: str = ""
    x_log: bool = False
    y_log: bool = False
    shown: frozenset[str] = USUAL
    region: Region | None = None
    filters: Mapping[str, Filter] = field(default_factory=dict)
    chosen: str = ""
    compared: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def write_query(state: ViewState) -> dict[str, list[str]]:
    """The query of an address that restores a state exactly; what is usual is left out."""
    usual = ViewState()
    query: dict[str, list[str]] = {}
    for entry in fields(ViewState):
        value = getattr(state, entry.name)
        if value == getattr(usual, entry.name):
            continue
        query[entry.name] = _FORMS[entry.name][0](value)
    return query


def read_query(query: Mapping[str, Sequence[str]]) -> tuple[ViewState, tuple[str, ...]]:
    """The state that a query names, and what of it means nothing.

    Args:
        query: Values by key, as an address gives them; keys of other programs are ignored.

    Returns:
        The state, in which what means nothing is as usual, and the keys of that.
    """
    found: dict[str, Any] = {}
    dropped = []
    for name, (_, read) in _FORMS.items():
        given = list(query.get(name, ()))
        if not given:
            continue
        try:
            if len(given) > MOST or any(len(text) > _LONGEST for text in given):
                raise InputError("too much")
            found[name] = read(given)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            dropped.append(name)
    return ViewState(**found), tuple(dropped)


# -- one form for each field: how it is written, and how it is read --------------------------------


def _read_one(given: list[str]) -> str:
    (text,) = given
    return text


def _read_screen(given: list[str]) -> str:
    return SCREENS[SCREENS.index(_read_one(given))]


def _read_flag(given: list[str]) -> bool:
    return {"1": True, "0": False}[_read_one(given)]


def _read_budgets(given: list[str]) -> tuple[float, ...]:
    found = tuple(float(text) for text in given)
    if not all(math.isfinite(value) and value > 0 for value in found):
        raise InputError("a budget is a number above 0")
    return found


def _write_shown(shown: frozenset[str]) -> list[str]:
    return [name for name in LAYERS if name in shown] or ["nothing"]


def _read_shown(given: list[str]) -> frozenset[str]:
    if given == ["nothing"]:
        return frozenset()
    if not set(given) <= set(LAYERS):
        raise InputError("an unknown layer")
    return frozenset(given)


def _write_json(content: object) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def _write_region(region: Region) -> list[str]:
    logarithmic = "".join(name for name, log in (("x", region.x_log), ("y", region.y_log)) if log)
    return [_write_json([region.kind, region.x, region.y, logarithmic, region.corners])]


def _read_region(given: list[str]) -> Region:
    kind, x, y, logarithmic, corners = json.loads(_read_one(given))
    if not (isinstance(x, str) and isinstance(y, str) and logarithmic in ("", "x", "y", "xy")):
        raise InputError("no region")
    return Region(
        x,
        y,
        _read_kind(kind),
        tuple((_read_number(across), _read_number(up)) for across, up in corners),
        "x" in logarithmic,
        "y" in logarithmic,
    )


def _read_kind(kind: object) -> Literal["box", "lasso"]:
    if kind == "box":
        return "box"
    if kind == "lasso":
        return "lasso"
    raise InputError("an unknown kind of region")


def _read_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError("no number")
    return float(value)


def _write_filters(filters: Mapping[str, Filter]) -> list[str]:
    return [
        _write_json(
            [name, *wanted] if isinstance(wanted, tuple) else [name, sorted(wanted, key=str)]
        )
        for name, wanted in filters.items()
    ]


def _read_filters(given: list[str]) -> dict[str, Filter]:
    found: dict[str, Filter] = {}
    for text in given:
        name, *wanted = json.loads(text)
        if not isinstance(name, str) or name in found:
            raise InputError("a filter has the name of one choice")
        if len(wanted) == 1:
            values = frozenset(wanted[0])
            if not all(
                isinstance(value, str | int | float) and not isinstance(value, bool)
                for value in values
            ):
                raise InputError("a value is a text or a number")
            found[name] = values
        else:
            low, high = wanted
            found[name] = (_read_number(low), _read_number(high))
    return found


_Form = tuple[Callable[[Any], list[str]], Callable[[list[str]], Any]]
_TEXT: _Form = (lambda text: [text], _read_one)
_TEXTS: _Form = (list, tuple)
_FLAG: _Form = (lambda flag: ["1" if flag else "0"], _read_flag)
_FORMS: dict[str, _Form] = {
    "run": _TEXT,
    "device": _TEXT,
    "search": _TEXT,
    "screen": (_TEXT[0], _read_screen),
    "budgets": (lambda budgets: [repr(value) for value in budgets], _read_budgets),
    "x": _TEXT,
    "y": _TEXT,
    "color": _TEXT,
    "x_log": _FLAG,
    "y_log": _FLAG,
    "shown": (_write_shown, _read_shown),
    "region": (_write_region, _read_region),
    "filters": (_write_filters, _read_filters),
    "chosen": _TEXT,
    "compared": _TEXTS,
    "beside": _TEXTS,
}
