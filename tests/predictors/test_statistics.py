"""Statistics: what a column holds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import accuracy, latency, space

from predictors.features.statistics import kind_sums, logarithms, stack, stage_sums, unit_costs
from predictors.models import gaussian_process
from predictors.scores import rmse

WORLD = space()


def sample(count, seed=0):
    return WORLD.sample(np.random.default_rng(seed), count)


def test_parts_are_stacked_in_order():
    rows = sample(5)
    both = stack(lambda r: r[:, 0], lambda r: r[:, 1:3])(rows)
    assert both.dtype == np.float64
    assert (both == rows[:, :3]).all()
    with pytest.raises(ValueError, match=r"statistic 1 of 5 .* has shape \(4,\)"):
        stack(lambda r: r[:, 0], lambda r: r[1:, 0])(rows)
    with pytest.raises(ValueError, match="at least one part"):
        stack()


def test_logarithms_are_of_positive_numbers():
    rows = sample(4)
    assert logarithms(lambda r: np.full(4, np.e))(rows) == pytest.approx(np.ones((4, 1)))
    with pytest.raises(ValueError, match=r"architecture 0 is 0\.0; a logarithm needs"):
        logarithms(lambda r: np.zeros(4))(rows)


def test_terms_of_a_cost_are_columns_and_add_up_by_unit():
    rows = np.array([[0, 1, 2], [2, 0, 1]], dtype=np.int16)
    first, second = np.array([1.0, 2.0, 4.0]), np.arange(9.0).reshape(3, 3)
    groups, tables = ((0,), (), (1, 2)), (first, np.array(5.0), second)
    assert unit_costs(groups, tables)(rows).tolist() == [[1.0, 5.0], [4.0, 1.0]]
    assert unit_costs(groups, tables, (7, 7, 7))(rows).tolist() == [[6.0], [5.0]]
    with pytest.raises(ValueError, match="3 groups have 2 tables"):
        unit_costs(groups, tables[:2])
    with pytest.raises(ValueError, match="depends on a choice"):
        unit_costs(((),), (np.array(1.0),))


def test_sums_count_what_is_active_and_average_it():
    row = np.zeros((1, len(WORLD)), dtype=np.int16)
    row[0, WORLD.index("s0.depth")] = 1
    row[0, WORLD.index("s0.b1.width")] = 3
    # Inert, so it counts for nothing.
    row[0, WORLD.index("s3.b2.width")] = 3
    count, depth, width = kind_sums(WORLD)(row)[0]
    assert count == 5
    assert depth == pytest.approx(0.5 / 4)
    assert width == pytest.approx(1 / 5)
    stages = stage_sums(WORLD)(row)[0]
    assert stages[:4].tolist() == [2, 1, 1, 1]
    # Depths of the four stages, then widths.
    assert stages[4:].tolist() == pytest.approx([0.5, 0, 0, 0, 0.5, 0, 0, 0])


def test_a_cost_that_explains_the_value_saves_samples():
    rows, unseen = sample(30), sample(500, seed=1)

    def capacity(positions):
        return -np.log(0.95 - accuracy(WORLD, positions)) + 0.02 * latency(WORLD, positions)

    truth = accuracy(WORLD, unseen)
    errors = [
        rmse(
            gaussian_process.fit(WORLD, rows, accuracy(WORLD, rows), seed=0, statistics=free).mean(
                unseen
            ),
            truth,
        )
        for free in (stack(capacity), None)
    ]
    assert errors[0] < 0.5 * errors[1]
