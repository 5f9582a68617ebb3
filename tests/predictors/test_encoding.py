"""Codes: inert choices leave no trace, and the columns belong to the space."""

from __future__ import annotations

from functools import partial

import numpy as np

from predictors.features.encoding import one_hot, ordinal
from tests.timing import saved_by_batching
from tests.toys.worlds import space


def test_inert_choices_are_all_zero_whatever_they_hold():
    world = space()
    row = np.zeros((2, len(world)), dtype=np.int16)
    hidden = world.index("s0.b2.width")
    row[1, hidden] = 3
    for encode in (one_hot, ordinal):
        first, second = encode(world, row)
        assert (first == second).all()
    columns = slice(int(world.cardinalities[:hidden].sum()), None)
    assert (one_hot(world, row)[:, columns][:, :4] == 0).all()
    row[:, world.index("s0.depth")] = 2
    assert (one_hot(world, row)[0] != one_hot(world, row)[1]).sum() == 2


def test_every_active_choice_sets_its_own_column():
    world = space()
    rows = world.sample(np.random.default_rng(0), 50)
    code = one_hot(world, rows)
    assert code.shape == (50, int(world.cardinalities.sum()))
    assert (code.sum(1) == world.active(rows).sum(1)).all()
    starts = np.cumsum(world.cardinalities) - world.cardinalities
    for row, line in zip(rows, code, strict=True):
        for gene, position in enumerate(row):
            block = line[starts[gene] : starts[gene] + world.cardinalities[gene]]
            if block.any():
                assert np.flatnonzero(block).tolist() == [position]


def test_the_vocabulary_does_not_depend_on_the_sample():
    world = space()
    rows = world.sample(np.random.default_rng(1), 20)
    assert (one_hot(world, rows)[3] == one_hot(world, rows[3:4])[0]).all()


def test_many_architectures_are_encoded_at_once():
    world = space()
    rows = world.sample(np.random.default_rng(2), 100_000)
    assert saved_by_batching(partial(one_hot, world), rows) > 15  # measured 90
