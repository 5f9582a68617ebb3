"""Budgets of a front: where they begin, which values a slider takes, what is within them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.records.searches import picking
from app.records.searches.front import Front


@dataclass(frozen=True)
class Scale:
    """What a slider over the cost of a front offers, in the unit that is shown.

    Args:
        low: Its least value.
        high: Its largest value.
        step: From one value to the next.
        decimals: That a value has.
    """

    low: float
    high: float
    step: float
    decimals: int

    def fit(self, value: float) -> float:
        """The nearest value that it offers, from above, so that what cost as much stays within."""
        rounded = round(math.ceil(round(value / self.step, 6)) * self.step, 9)
        return min(max(rounded, self.low), self.high)


def make_scale(front: Front) -> Scale | None:
    """The slider of a front; ``None`` when nothing was verified by measurement."""
    costs = front.column(front.cost.name).value[front.measured]
    if not len(costs):
        return None
    low, high = 0.85 * costs.min() * front.cost.scale, costs.max() * front.cost.scale
    step = 10.0 ** math.floor(math.log10((high - low or 1.0) / 100))
    return Scale(
        round(math.floor(low / step) * step, 9),
        round((math.floor(high / step) + 1) * step, 9),
        step,
        max(0, -math.floor(math.log10(step))),
    )


def choose_budget(front: Front) -> float | None:
    """The budget that a front opens with, in the stored unit of its cost.

    It is the limit that was searched for, or else what the knee costs; ``None`` when nothing was
    verified by measurement.
    """
    scale = make_scale(front)
    if scale is None:
        return None
    knee = picking.pick_knee(front)
    highest = scale.high / front.cost.scale
    value = knee.best(front.cost.name) if knee else None
    wanted = front.limits.get(front.cost.name)
    value = (value if wanted is None else wanted) or highest
    return scale.fit(value * front.cost.scale) / front.cost.scale
