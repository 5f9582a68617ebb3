"""SMS-EMOA (Beume, Naujoks and Emmerich 2007): survivors are those that add hypervolume."""

from __future__ import annotations

from pymoo.algorithms.moo.sms import SMSEMOA


def build_algorithm(population: int, objectives: int, **operators: object) -> SMSEMOA:
    """A new SMS-EMOA with so many survivors."""
    return SMSEMOA(pop_size=population, output=None, **operators)
