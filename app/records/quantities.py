"""Every quantity that an architecture has: its names, units, direction, and how people read it.

Help texts, limits, axes, tables and files go through :data:`QUANTITIES`; how a value is obtained
is known to :mod:`app.searching.objectives` alone. Needs neither numpy nor torch, so that ``--help``
stays fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from app.records import numbers
from supernet.errors import InputError

# Factors to the stored unit; powers of 1000, as counts and sizes are written.
COUNT_SUFFIXES = {"K": 1e3, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}
BYTE_SUFFIXES = {"B": 1.0, "KB": 1e3, "kB": 1e3, "MB": 1e6, "GB": 1e9}
TIME_SUFFIXES = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number that every architecture has.

    Args:
        name: The key in files: ``latency_ms``; ``latency_ms@DEVICE`` for one of several devices.
        unit: What stored values are in.
        direction: ``"maximize"`` or ``"minimize"``.
        title: The name in words, without a unit.
        write: A stored value as people read it, with its unit.
        aliases: Further names on the command line; the first is the one that help texts use.
        shown_unit: The unit of axes; empty for none.
        scale: Factor from the stored unit to that of axes.
        suffixes: What a limit may be written with besides a plain number: suffix to the factor
            that leads to the stored unit.
        is_quality: Whether it is evaluated on data and what costs are spent on; else it is a cost,
            and a limit may be a share of the largest architecture (``size<=50%``).
        per_device: Whether every device has one of its own, by its latency table.
        over_devices: Whether it sums up the latencies on several devices, each relative to that of
            the largest architecture there.
        on_request: Whether it is counted only where a search asks for it, instead of for every
            point.
        least: What no value can be below, in the stored unit.
        most: What no value can be above.
    """

    name: str
    unit: str
    direction: str
    title: str
    write: Callable[[float], str] = field(compare=False)
    aliases: tuple[str, ...] = ()
    shown_unit: str = ""
    scale: float = 1.0
    suffixes: Mapping[str, float] = field(default_factory=dict, compare=False)
    is_quality: bool = False
    per_device: bool = False
    over_devices: bool = False
    on_request: bool = False
    least: float = -math.inf
    most: float = math.inf

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return self.direction == "maximize"

    @property
    def limited_by_share(self) -> bool:
        """Whether a limit may be a share of the largest architecture."""
        return not self.is_quality

    @property
    def counted(self) -> bool:
        """Whether the architecture alone decides it, so that stored points carry it."""
        return not (self.is_quality or self.of_tables)

    @property
    def of_tables(self) -> bool:
        """Whether latency tables decide it."""
        return self.per_device or self.over_devices

    @property
    def short_name(self) -> str:
        """What people write: ``latency`` rather than ``latency_ms``."""
        return self.aliases[0] if self.aliases else self.name

    @property
    def device(self) -> str:
        """The device of a resolved quantity; empty where there is one device or none."""
        return self.name.partition("@")[2]

    @property
    def axis_label(self) -> str:
        """Title and unit of an axis or a selector: ``latency (ms)``."""
        return f"{self.title} ({self.shown_unit})" if self.shown_unit else self.title

    def on_device(self, device: str) -> Quantity:
        """The same quantity on one of several devices."""
        return replace(self, name=f"{self.name}@{device}", title=f"{self.title} on {device}")

    def bound(self, value: float) -> float:
        """The nearest value that the quantity can have: an interval ends where its scale does."""
        return min(max(value, self.least), self.most)

    def show(self, value: float | None) -> str:
        """A stored value with its unit; a dash for ``None``."""
        return numbers.MISSING if value is None else self.write(value)

    def show_interval(self, value: float | None, interval: tuple[float, float] | None) -> str:
        """A stored value with the ends of its interval: ``93.1 % (91.5 to 94.4)``."""
        if value is None or interval is None:
            return self.show(value)
        if self.unit == "fraction":
            low, high = (f"{100 * end:.1f}" for end in interval)
            return f"{numbers.format_percent(value)} ({low} to {high})"
        low, high = (numbers.format_digits(end * self.scale, 4) for end in interval)
        return f"{self.show(value)} ({low} to {high})"

    def show_named(self, value: float | None) -> str:
        """Title and value: ``size 45.1 KB``."""
        return f"{self.title} {self.show(value)}"

    def show_difference(self, value: float | None, other: float | None) -> str:
        """``value - other`` with a sign: ``+0.42 points``, ``−0.0310 ms``."""
        if value is None or other is None:
            return numbers.MISSING
        sign = "+" if value >= other else "\N{MINUS SIGN}"
        gap = abs(value - other)
        if self.unit == "fraction":
            return f"{sign}{100 * gap:.2f} points"
        return f"{sign}{self.write(gap)}"


def _with_unit(unit: str, value: float) -> str:
    return f"{numbers.format_digits(value, 4)} {unit}".strip()


_percent = partial(numbers.format_percent, decimals=2)

_share = partial(Quantity, unit="fraction", write=_percent, shown_unit="%", scale=100.0, least=0.0)
_cost = partial(Quantity, direction="minimize", least=0.0)
_count = partial(_cost, write=numbers.format_count, suffixes=COUNT_SUFFIXES)

ACCURACY = _share(
    name="accuracy", direction="maximize", title="accuracy", is_quality=True, most=1.0
)
LOSS = _cost(
    name="loss",
    unit="nats/token",
    title="validation loss",
    write=partial(_with_unit, "nats/token"),
    shown_unit="nats/token",
    is_quality=True,
)
LATENCY = _cost(
    name="latency_ms",
    unit="ms",
    title="latency",
    write=numbers.format_milliseconds,
    aliases=("latency",),
    shown_unit="ms",
    suffixes=TIME_SUFFIXES,
    per_device=True,
)
WORST_LATENCY = _share(
    name="worst_latency", direction="minimize", title="worst latency", over_devices=True
)
MEAN_LATENCY = replace(WORST_LATENCY, name="mean_latency", title="mean latency")
PARAMETERS = _count(
    name="parameters", unit="weights", title="parameters", shown_unit="thousand", scale=1e-3
)
MACS = _count(name="macs", unit="macs", title="multiply-adds", shown_unit="M", scale=1e-6)
SIZE = _cost(
    name="size_bytes",
    unit="bytes",
    title="size",
    write=numbers.format_bytes,
    aliases=("size",),
    shown_unit="KB",
    scale=1e-3,
    suffixes=BYTE_SUFFIXES,
)
BIT_OPERATIONS = _count(
    name="bit_operations",
    unit="bit operations",
    title="bit operations",
    aliases=("bitops",),
    shown_unit="G",
    scale=1e-9,
    on_request=True,
)
PEAK_MEMORY = replace(SIZE, name="peak_memory", title="peak memory", aliases=(), on_request=True)

# In the order of help texts, files and tables.
QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        *(ACCURACY, LOSS, LATENCY, WORST_LATENCY, MEAN_LATENCY, PARAMETERS, MACS, SIZE),
        *(BIT_OPERATIONS, PEAK_MEMORY),
    )
}

# Names of what is evaluated on data.
QUALITIES = tuple(quantity.name for quantity in QUANTITIES.values() if quantity.is_quality)


def list_counted() -> Iterator[Quantity]:
    """What is known of every architecture without a device and without data."""
    return (quantity for quantity in QUANTITIES.values() if quantity.counted)


def find_quantity(name: str) -> Quantity:
    """The quantity that a user or a file means, resolved for the device that the name gives.

    Args:
        name: A name or an alias, with ``@DEVICE`` for one of several devices.

    Raises:
        InputError: Unknown name, or a device for something that has none.
    """
    plain, at, device = name.partition("@")
    found = _look_up(plain)
    if found is None:
        # Only a wrong name needs this, and only this needs numpy.
        from supernet.space import nearest

        known = [quantity.short_name for quantity in QUANTITIES.values()]
        raise InputError(
            f"unknown objective {name!r}{nearest(plain, known)}; objectives are {', '.join(known)}"
        )
    if at and not (found.per_device and device):
        have = [q.short_name for q in QUANTITIES.values() if q.per_device]
        raise InputError(
            f"objective {name!r} is impossible; only {' and '.join(have)} has a device: "
            f"{have[0]}@cpu"
        )
    return found.on_device(device) if at else found


def find_stored_quantity(name: str, unit: str = "", direction: str = "minimize") -> Quantity:
    """The quantity of a file; one that this release does not know is as the file describes it.

    Args:
        name: The key in the file.
        unit: What its values are in, as the file says.
        direction: ``"maximize"`` or ``"minimize"``, as the file says.
    """
    plain, at, device = name.partition("@")
    known = QUANTITIES.get(plain)
    if known is not None and not at:
        return known
    if known is not None and known.per_device:
        return known.on_device(device)
    shares = unit == "fraction"
    return Quantity(
        name=name,
        unit=unit,
        direction=direction,
        title=name.rpartition(".")[2].replace("_", " "),
        write=_percent if shares else partial(_with_unit, unit),
        shown_unit="%" if shares else unit,
        scale=100.0 if shares else 1.0,
        is_quality=direction == "maximize",
    )


def name_latency(device: str, devices: Sequence[str]) -> str:
    """The name of the latency on a device: plain with one device, ``latency_ms@DEVICE`` else."""
    return LATENCY.name if len(devices) == 1 else LATENCY.on_device(device).name


def resolve_name(name: str) -> str:
    """The key in files that a name means: ``latency@phone`` is ``latency_ms@phone``.

    Names that this release does not know are left as they are.
    """
    plain, at, device = name.partition("@")
    found = _look_up(plain)
    return name if found is None else f"{found.name}{at}{device}"


def _look_up(plain: str) -> Quantity | None:
    return next((q for q in QUANTITIES.values() if plain in (q.name, *q.aliases)), None)
