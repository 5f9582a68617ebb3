"""Limits as people write them: ``size<=50%``, ``accuracy>=0.9``, ``macs<=300M``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from search.problem import Constraint, Objective, SearchProblem
from supernet.errors import InputError

_AMOUNT = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%|[A-Za-z]*)")
_LIMIT = re.compile(r"\s*([^\s<>=]+)\s*(<=|>=|<|>|==?)?\s*(.*?)\s*")


class Limitable(Protocol):
    """What has to be known about a quantity to read a limit on it."""

    @property
    def name(self) -> str:
        """The key of its values."""

    @property
    def unit(self) -> str:
        """What limits are stored in; a ``fraction`` is at most 1."""

    @property
    def direction(self) -> str:
        """``"maximize"`` or ``"minimize"``."""

    @property
    def suffixes(self) -> Mapping[str, float]:
        """Suffixes that amounts may have, with their factors to the unit."""

    @property
    def limited_by_share(self) -> bool:
        """Whether a limit may be a share of the largest architecture: ``size<=50%``."""


@dataclass(frozen=True)
class Amount:
    """A number, absolute or relative to the largest architecture (then a share of 1)."""

    value: float
    relative: bool = False
    suffix: str = ""


@dataclass(frozen=True)
class Limit:
    """A limit on a quantity as it was written.

    Args:
        quantity: The name as written.
        at_most: Whether it bounds from above.
        amount: How much.
        text: What was written, for messages.
    """

    quantity: str
    at_most: bool
    amount: Amount
    text: str


def parse_bound(bound: str | float, what: str = "bound") -> Amount:
    """Read ``"60%"`` (of the largest), ``"0.8"``, ``0.8``, ``"300M"`` or ``"2MB"``.

    Args:
        bound: The bound as it is written.
        what: What it bounds, for messages.

    Raises:
        InputError: Not a number, not finite, or below 0.
    """
    text = str(bound).strip()
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise InputError(
            f"{what} {text!r} cannot be read; write a number, such as 0.8 or 300M, or a share of "
            "the largest architecture, such as 60%"
        )
    number, suffix = float(match[1]), match[2]
    if not math.isfinite(number) or number < 0:
        raise InputError(f"{what} {text!r} is impossible; it must be a number of at least 0")
    if suffix == "%":
        return Amount(number / 100, relative=True)
    return Amount(number, suffix=suffix)


def parse_limit(text: str) -> Limit:
    """Read a limit such as ``"size<=50%"``.

    Raises:
        InputError: No name, no ``<=`` or ``>=``, or an amount that cannot be read.
    """
    match = _LIMIT.fullmatch(text)
    if match is None or match[2] not in ("<=", ">="):
        raise InputError(
            f"limit {text!r} cannot be read; write a quantity, <= or >=, and an amount, such as "
            "'size<=50%' or 'accuracy>=0.9'"
        )
    amount = parse_bound(match[3], f"limit {text!r}: the amount")
    return Limit(match[1], match[2] == "<=", amount, text)


def resolve_limit(limit: Limit, quantity: Limitable, largest: Callable[[], float]) -> Constraint:
    """A limit as a constraint on a quantity, in its unit.

    Args:
        limit: The limit as it was parsed.
        quantity: What it limits.
        largest: The quantity of the largest architecture; asked only by relative limits.

    Raises:
        InputError: A suffix that the quantity does not have, a limit of 0 from above, or a share
            of a quantity that has none.
    """
    amount = limit.amount
    if amount.relative:
        if not quantity.limited_by_share:
            raise InputError(
                f"limit {limit.text!r}: a percentage is a share of the largest architecture, "
                f"which is for costs; write {quantity.name} as a number"
                + (f", such as {amount.value:g}" if quantity.unit == "fraction" else "")
            )
        value = amount.value * largest()
    else:
        value = amount.value * _factor(limit, quantity)
    if limit.at_most and value <= 0 and quantity.direction == "minimize":
        raise InputError(f"limit {limit.text!r} cannot be met; {quantity.name} is above 0")
    if quantity.unit == "fraction" and value > 1:
        raise InputError(
            f"limit {limit.text!r} is impossible; {quantity.name} is a fraction between 0 and 1"
        )
    if limit.at_most:
        return Constraint(quantity.name, at_most=value)
    return Constraint(quantity.name, at_least=value)


def _factor(limit: Limit, quantity: Limitable) -> float:
    suffix = limit.amount.suffix
    if not suffix:
        return 1.0
    if suffix not in quantity.suffixes:
        legal = [", ".join(map(repr, quantity.suffixes))] if quantity.suffixes else []
        legal += ["% of the largest architecture"] if quantity.limited_by_share else []
        raise InputError(
            f"limit {limit.text!r}: {quantity.name} has no suffix {suffix!r}; it has "
            f"{', or '.join(legal) or 'none'}"
        )
    return quantity.suffixes[suffix]


def check_compatible(constraints: Sequence[Constraint]) -> None:
    """Refuse two limits on one quantity that exclude each other.

    Raises:
        InputError: Both limits are named.
    """
    for low in constraints:
        for high in constraints:
            if low.objective != high.objective or low.at_least is None or high.at_most is None:
                continue
            if low.at_least > high.at_most:
                raise InputError(
                    f"the limits {low.objective} >= {low.at_least:g} and {high.objective} <= "
                    f"{high.at_most:g} exclude each other"
                )


def evaluate_largest(problem: SearchProblem, quantity: Objective) -> float:
    """A cheap quantity of the largest architecture (of the pool, where there is one)."""
    space = problem.space
    row = problem.project(space.encode([space.largest]))
    return float(quantity.evaluate(row)[0])
