"""One architecture of a draw in each step."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from supernet.errors import InputError
from supernet.space import Choice, SearchSpace
from supernet.testing.toy_supernets import build_toy_supernet, make_toy_data
from supernet.training import Recipe, compose, find_recipe
from supernet.training.samplers.fair import Fair
from supernet.training.samplers.sandwich import Sandwich
from supernet.training.sequential import Sequential


def no_score(architectures: Any) -> list[float]:
    raise AssertionError("no sampler that is taken apart may look at losses")


def test_steps_put_together_are_the_draws() -> None:
    choices = [Choice("width", (1, 2, 3), "width"), Choice("depth", (1, 2), "depth")]
    sandwich = Sandwich(SearchSpace(choices), seed=3, random=2)
    taken = Sequential(sandwich)
    assert taken.period == 4
    for turn in range(20):
        drawn = sandwich.draw(turn, no_score)
        steps = [taken.draw(4 * turn + place, no_score) for place in range(4)]
        assert all(len(step) == 1 for step in steps)
        assert [step[0] for step in steps][: len(drawn)] == list(drawn)
        # What was drawn twice leaves a step over, which begins again.
        assert {step[0] for step in steps} == set(drawn)


def test_fairness_holds_over_a_period() -> None:
    space = build_toy_supernet(0).space
    fair = Sequential(Fair(space, seed=0))
    choice = max((c for c in space.choices if c.needs is None), key=lambda c: len(c.values))
    for turn in range(6):
        steps = range(turn * fair.period, (turn + 1) * fair.period)
        counts = Counter(fair.draw(step, no_score)[0][choice.name] for step in steps)
        assert set(counts.values()) == {1}


@pytest.mark.parametrize("sampler", ["shift", "best_up"])
def test_samplers_that_depend_on_losses_are_refused(sampler: str) -> None:
    recipe = Recipe(steps=8, sampler=sampler, distill="none", sequential=True)
    with pytest.raises(InputError, match="draws do not depend on losses"):
        compose(build_toy_supernet(0), make_toy_data(), recipe, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distill": "inplace"}, "cannot teach each other"),
        ({"distill": "none", "split": True}, "nothing to divide"),
    ],
)
def test_impossible_combinations_are_explained(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(sequential=True, **changes)


def test_phases_draw_for_themselves() -> None:
    changes = {"phases": "progressive", "sampler": "uniform", "sequential": True}
    recipe = find_recipe("digits+progressive").replace(changes)
    with pytest.raises(InputError, match="cannot go with sequential = True; use False"):
        compose(build_toy_supernet(0), make_toy_data(), recipe, 8)


def test_a_method_of_a_recipe_takes_draws_apart() -> None:
    recipe = find_recipe("clutter+sequential")
    sampler = compose(build_toy_supernet(0), make_toy_data(), recipe, 8).sampler
    assert isinstance(sampler, Sequential)
    assert isinstance(sampler.drawn, Sandwich)
