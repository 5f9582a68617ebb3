"""Histories only grow, keep failures, and know their rounds."""

from __future__ import annotations

import numpy as np
import pytest

from search import Evaluation, History


def rows(*values):
    return np.array(values, dtype=np.int16)


def test_appending_leaves_the_old_history_alone():
    first = History.empty(("accuracy",), 2)
    second = first.append(rows([0, 1]), np.array([[0.5]]), 0)
    assert (len(first), len(second)) == (0, 1)
    assert rows([0, 1])[0].tobytes() in second.keys


def test_failures_stay_failures():
    row = rows([1, 1])[0]
    history = History.from_rows(("a", "b"), 2, [Evaluation(row, {"a": 1.0}, 0)])
    assert history.failed.tolist() == [True]
    assert np.isnan(history.values[0, 1])


def test_before_cuts_at_a_round():
    history = History.empty(("a",), 1)
    for batch in range(3):
        history = history.append(rows([batch]), np.array([[1.0]]), batch)
    assert len(history.before(2)) == 2
    assert len(history.before(0)) == 0


def test_new_drops_known_and_repeated_rows_in_order():
    history = History.empty(("a",), 1).append(rows([1]), np.array([[1.0]]), 0)
    assert history.new(rows([2], [1], [0], [2])).tolist() == [[2], [0]]


def test_disordered_or_misshaped_histories_are_refused():
    with pytest.raises(ValueError, match="order of their batches"):
        History(("a",), rows([0], [1]), np.zeros((2, 1)), np.array([1, 0]))
    with pytest.raises(ValueError, match="values of shape"):
        History(("a",), rows([0]), np.zeros((2, 1)), np.array([0]))
