"""Formats of neighbouring units: sampled, mutated and improved as runs."""

from __future__ import annotations

import numpy as np
import pytest

from search.arrays.format_runs import (
    MUTATED,
    change_runs,
    list_format_choices,
    mutate_formats,
    spread_formats,
)
from search.arrays.neighbourhood import one_change
from search.engines.array_nsga2 import polish
from search.engines.contract import Rows, Visited
from search.problem import Objective, SearchProblem
from search.sampling.first_sample import spread_sample
from supernet.space import PRECISION, Choice, SearchSpace

UNITS, FORMATS = 8, ("w4a8", "int8", "fp32")


def make_space(units: int = UNITS) -> SearchSpace:
    """A depth, of which the last units depend, and a format for each unit."""
    depth = Choice("depth", (units - 1, units), "depth")
    formats = [
        Choice(
            f"unit{i}.precision", FORMATS, PRECISION, ("depth", units) if i == units - 1 else None
        )
        for i in range(units)
    ]
    return SearchSpace((depth, *formats))


def count_borders(rows: np.ndarray) -> np.ndarray:
    """How often neighbours differ, ``(n,)``; the last unit is not always there."""
    return (rows[:, 1:-2] != rows[:, 2:-1]).sum(1)


def test_a_space_without_formats_draws_nothing_and_stays() -> None:
    space = SearchSpace((Choice("kernel", (3, 5), "kernel"), Choice("width", (1, 2, 3), "width")))
    rows = space.sample(np.random.default_rng(0), 20)
    for change in (spread_formats, mutate_formats):
        rng = np.random.default_rng(1)
        assert np.array_equal(change(space, rows, rng), rows)
        assert rng.random() == np.random.default_rng(1).random()
    assert not len(change_runs(space, rows))


def test_bits_of_weights_and_activations_are_groups_of_their_own() -> None:
    pairs = [
        Choice(f"unit{i}.{name}_bits", values, PRECISION)
        for i in range(3)
        for name, values in (("weight", (2, 4, 8)), ("activation", (8, 32)))
    ]
    weights, activations = list_format_choices(SearchSpace(tuple(pairs)))
    assert weights.columns.tolist() == [0, 2, 4]
    assert weights.positions.tolist() == [[0, 1, 2]] * 3
    assert activations.columns.tolist() == [1, 3, 5]
    assert activations.positions.tolist() == [[0, 1]] * 3


def test_units_that_do_not_offer_a_format_keep_theirs() -> None:
    space = SearchSpace(
        (
            Choice("stem.precision", ("int8", "fp32"), PRECISION),
            Choice("head.precision", ("weights4", "fp32"), PRECISION),
        )
    )
    (group,) = list_format_choices(space)
    assert group.positions.tolist() == [[0, 1, -1], [-1, 1, 0]]
    rows = np.array([[1, 1]] * 3, np.int16)
    group.fill(rows, np.zeros(3, int), np.ones(3, int), np.arange(3))
    assert rows.tolist() == [[0, 1], [1, 1], [1, 0]]


def test_samples_hold_networks_of_one_format_and_of_all_mixtures() -> None:
    space = make_space()
    independent = space.sample(np.random.default_rng(0), 3000)
    rows = spread_formats(space, independent, np.random.default_rng(1))
    assert np.array_equal(space.canonical(rows), rows)
    # A third of the rows has one format by intent, and shares drawn for others come near it.
    alike = count_borders(rows) == 0
    assert 0.33 < alike.mean() < 0.5
    assert (count_borders(independent) == 0).mean() < 0.01
    assert {FORMATS[p] for p in rows[alike, 1]} == set(FORMATS)
    # Those left alone are as different as before.
    assert (count_borders(rows) >= 4).mean() > 0.25


def test_the_first_sample_of_a_search_is_spread_too() -> None:
    space = make_space()
    objectives = (
        Objective("error", "fraction", "minimize", lambda rows: rows[:, 0] * 1.0, "evaluated"),
        Objective("time", "ms", "minimize", lambda rows: rows.sum(1) * 1.0, "table"),
    )
    rows = spread_sample(SearchProblem(space, objectives), np.random.default_rng(0), 600)
    assert 0.3 < (count_borders(rows) == 0).mean() < 0.6


def test_mutations_put_runs_of_one_format_into_rows() -> None:
    space = make_space()
    rows = np.zeros((4000, len(space)), np.int16)
    rows[:, 0] = 1
    changed = mutate_formats(space, rows, np.random.default_rng(0))
    assert (rows[:, 1:] == 0).all()
    assert (count_borders(changed) <= 2).all()
    # A third of the new formats is the old one.
    moved = (changed != rows).any(1).mean()
    assert moved == pytest.approx(MUTATED * 2 / 3, abs=0.03)
    assert (changed[:, 1:] == 2).all(1).any()


def test_prefixes_suffixes_and_runs_are_all_there() -> None:
    space = make_space(4)
    row = np.array([[1, 0, 0, 2, 2]], np.int16)
    found = {tuple(r[1:]) for r in change_runs(space, row).tolist()}
    expected = set()
    for form in range(3):
        for first, last in [(0, n) for n in range(4)] + [(n, 3) for n in range(4)]:
            changed = row[0, 1:].copy()
            changed[first : last + 1] = form
            expected.add(tuple(changed.tolist()))
    assert found == expected


def test_improvement_by_runs_crosses_what_single_changes_cannot() -> None:
    space = make_space()

    def score(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        # 8 bits save a unit of time each, and two formats side by side cost three.
        time = 10.0 - (rows[:, 1:] == 1).sum(1) + 3 * count_borders(rows)
        return np.stack((time, -1.0 * rows[:, 0]), 1), np.zeros((len(rows), 0))

    start = np.array([[1] + [2] * UNITS], np.int16)
    assert (score(one_change(space, start))[0][:, 0] > score(start)[0][0, 0] - UNITS).all()
    found = polish(space, score, Visited(start, *score(start)), 1)
    best = found.positions[found.objectives[:, 0].argmin()]
    assert (best[1:] == 1).all()
