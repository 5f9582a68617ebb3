"""Short trainings stop where the order of the pilots is settled."""

from __future__ import annotations

import numpy as np
import pytest

from predictors.research.epochs import find_sufficient_epoch


def test_the_order_must_hold_from_there_on():
    final = np.arange(5.0)
    wrong = final[[1, 0, 3, 2, 4]]
    curves = np.stack([wrong, final, wrong, wrong, final + 1, final + 2, final + 3], axis=1)
    assert find_sufficient_epoch(curves) == 5
    assert find_sufficient_epoch(curves, threshold=0.5) == 1
    assert find_sufficient_epoch(np.stack([wrong, final], axis=1)) == 2


def test_pilots_that_end_equal_settle_nothing():
    assert find_sufficient_epoch(np.ones((4, 6))) == 6


def test_too_few_pilots_are_refused():
    with pytest.raises(ValueError, match="at least 3 pilots"):
        find_sufficient_epoch(np.ones((2, 6)))
    with pytest.raises(ValueError, match="not finite"):
        find_sufficient_epoch(np.full((3, 2), np.nan))
