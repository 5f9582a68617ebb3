"""Passes of a training: counted, and given to other recipes."""

from __future__ import annotations

import pytest

from supernet.data import DataSource, open_data
from supernet.families import ofa_mobilenetv3
from supernet.supernet import Supernet
from supernet.training import find_recipe
from supernet.training.equal_passes import count_passes, fit_to_passes


@pytest.fixture(scope="module")
def data() -> DataSource:
    return open_data("digits")


@pytest.fixture(scope="module")
def supernet(data: DataSource) -> Supernet:
    return ofa_mobilenetv3.build(ofa_mobilenetv3.configure("tiny", data.shape))


@pytest.mark.parametrize("name", ["spos", "sandwich", "multi", "progressive", "teacher"])
def test_a_recipe_that_was_fitted_runs_as_many_passes(
    name: str, supernet: Supernet, data: DataSource
) -> None:
    fitted = fit_to_passes(find_recipe(name, base="digits"), supernet, data, 240)
    # A step in phases has one network or more, so that not every number of passes is met.
    assert count_passes(fitted, supernet, data) == pytest.approx(240, rel=0.05)


def test_passes_over_the_data_count_as_their_steps(supernet: Supernet, data: DataSource) -> None:
    steps = find_recipe("digits+sandwich").replace({"steps": 1})
    epochs = steps.replace({"epochs": 2})
    assert count_passes(steps, supernet, data) == 4
    assert count_passes(epochs, supernet, data) == 4 * epochs.total_steps(data.epoch)
