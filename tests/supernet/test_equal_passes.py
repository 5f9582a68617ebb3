"""Passes of a training: counted, and given to other recipes."""

from __future__ import annotations

import pytest

from supernet.data import DataSource, open_data
from supernet.families import ofa_mobilenetv3
from supernet.supernet import Supernet
from supernet.training import METHODS, find_recipe
from supernet.training.equal_passes import count_alone_steps, count_passes, fit_to_passes

# Networks in a step of methods that suit other supernets.
ONE_FAMILY = {"eqnet": 3, "panda": 1}


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


@pytest.mark.parametrize("base", ["digits", "clutter", "text"])
@pytest.mark.parametrize("name", METHODS)
def test_methods_train_for_as_many_passes_as_their_base(
    name: str, base: str, supernet: Supernet, data: DataSource
) -> None:
    usual, recipe = find_recipe(base), find_recipe(f"{base}+{name}")
    assert recipe.epochs is None
    assert recipe.warmup_steps / recipe.steps == pytest.approx(
        usual.warmup_steps / usual.steps, rel=0.02
    )
    if name in ONE_FAMILY:
        ours = recipe.steps * ONE_FAMILY[name]
        assert ours == pytest.approx(count_passes(usual, supernet, data), rel=0.02)
        return
    # Samplers leave out what they draw twice, and phases of progressive shrinking begin with one.
    passes = count_passes(recipe, supernet, data)
    assert passes == pytest.approx(count_passes(usual, supernet, data), rel=0.06)


@pytest.mark.parametrize("name", ["digits", "sandwich", "fairnas", "multi", "progressive"])
def test_networks_alone_train_for_a_quarter_of_the_passes(
    name: str, supernet: Supernet, data: DataSource
) -> None:
    recipe = find_recipe(name if name == "digits" else f"digits+{name}")
    steps = count_alone_steps(recipe, supernet, data)
    assert steps == pytest.approx(count_passes(recipe, supernet, data) / 4, rel=0.06)
    if name == "sandwich":
        assert steps == recipe.steps


def test_samplers_of_ones_own_are_not_imported_to_be_counted(
    supernet: Supernet, data: DataSource
) -> None:
    recipe = find_recipe("digits").replace({"sampler": "nowhere.at_all"})
    assert count_alone_steps(recipe, supernet, data) == recipe.steps
