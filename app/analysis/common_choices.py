"""What the networks of a front have in common, against everything that was evaluated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.analysis.positions import Encoded
from supernet.space import SearchSpace, Value


@dataclass(frozen=True)
class Prevalence:
    """How frequent a value of a choice is on the front and among all evaluated architectures.

    Args:
        name: Of the choice.
        value: One of its values.
        members: Architectures of the front that have the value.
        of_members: Architectures of the front that have the choice.
        population: Evaluated architectures that have the value, those of the front included.
        of_population: Evaluated architectures that have the choice.
        chance: Probability that as many architectures, drawn at random from the evaluated ones,
            have the value at least as often, corrected for all values of all choices (Holm); at
            most 1.
    """

    name: str
    value: Value
    members: int
    of_members: int
    population: int
    of_population: int
    chance: float

    @property
    def share(self) -> float:
        """Share of the front that has the value."""
        return self.members / self.of_members

    @property
    def share_of_population(self) -> float:
        """Share of the evaluated architectures that has the value."""
        return self.population / self.of_population

    @property
    def lift(self) -> float:
        """How many times as frequent the value is on the front; above 1 for more frequent."""
        return self.share / self.share_of_population


def compare_prevalence(
    space: SearchSpace, encoded: Encoded, members: NDArray[np.bool_]
) -> tuple[Prevalence, ...]:
    """Compare how often each value is on the front and among everything evaluated.

    Args:
        space: The search space.
        encoded: All evaluated architectures.
        members: Which of them are on the front, ``(n,)``.

    Returns:
        Every value that a front network has, of every choice with more than one value; the least
        explicable by chance first, and of equals the one that is more frequent on the front.
    """
    kept = encoded.known
    rows, active, front = encoded.rows[kept], encoded.active[kept], members[kept]
    counted: list[tuple[str, Value, int, int, int, int]] = []
    for column, choice in enumerate(space.choices):
        if len(choice.values) == 1:
            continue
        mine = active[:, column]
        everyone = np.bincount(rows[mine, column], minlength=len(choice.values)).tolist()
        chosen = np.bincount(rows[mine & front, column], minlength=len(choice.values)).tolist()
        counted += [
            (choice.name, value, hits, sum(chosen), marked, sum(everyone))
            for value, hits, marked in zip(choice.values, chosen, everyone, strict=True)
            if hits
        ]
    logs = _sum_logarithms(len(rows))
    chances = _correct([_tail(logs, *entry[2:]) for entry in counted])
    found = [Prevalence(*entry, chance) for entry, chance in zip(counted, chances, strict=True)]
    return tuple(sorted(found, key=lambda one: (one.chance, -one.lift, -one.share)))


def list_shared(found: tuple[Prevalence, ...]) -> tuple[Prevalence, ...]:
    """The values that every front network with the choice has, though other values were tried."""
    return tuple(
        one for one in found if one.members == one.of_members and one.population < one.of_population
    )


def _sum_logarithms(most: int) -> NDArray[np.float64]:
    """Logarithms of the factorials from 0 to ``most``."""
    return np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, most + 1)))))


def _tail(logs: NDArray[np.float64], hits: int, drawn: int, marked: int, total: int) -> float:
    """Probability of at least ``hits`` marked ones among those drawn (hypergeometric)."""

    def choose(n: int, k: NDArray[np.intp]) -> NDArray[np.float64]:
        ways: NDArray[np.float64] = logs[n] - logs[k] - logs[n - k]
        return ways

    least = max(hits, drawn + marked - total)
    counts = np.arange(least, min(drawn, marked) + 1)
    terms = (
        choose(marked, counts)
        + choose(total - marked, drawn - counts)
        - choose(total, np.array([drawn]))
    )
    return float(min(np.exp(terms).sum(), 1.0))


def _correct(chances: list[float]) -> list[float]:
    """Holm's correction: the probability that any of all is as small by chance."""
    order = np.argsort(chances, kind="stable")
    corrected = [1.0] * len(chances)
    worst = 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min((len(chances) - rank) * chances[place], 1.0))
        corrected[place] = worst
    return corrected
