"""What networks are worth trained alone: learned biases, intervals that hold, and good choices."""

from __future__ import annotations

import math

import numpy as np
import pytest

from predictors.alone import (
    Networks,
    Trainings,
    choose_trainings,
    infer_alone,
    predict_left_out,
)
from predictors.scores import kendall_tau
from supernet.errors import InputError
from supernet.space import Choice, SearchSpace

SPACE = SearchSpace(
    (
        Choice("resolution", (8, 12, 16), "resolution"),
        *(Choice(f"width{i}", (1, 2, 3, 4), "width") for i in range(6)),
    )
)
OPERATIONS = SearchSpace(
    tuple(Choice(f"op{i}", ("conv", "pool", "skip"), "operation") for i in range(5))
)
NONE = Trainings(np.zeros(0, dtype=np.intp), np.zeros(0), np.zeros(0))
LUCK = 0.1


def draw(seed: int, count: int = 60) -> tuple[Networks, np.ndarray]:
    """Networks whose shared weights give large resolutions too little, and their true values."""
    rng = np.random.default_rng(seed)
    rows = np.unique(SPACE.sample(rng, count), axis=0)
    widths = rows[:, 1:].sum(axis=1)
    costs = np.log((rows[:, 0] + 2.0) ** 2 * (widths + 6.0))
    true = 0.5 * np.sqrt(rows[:, 1:] + 1.0).sum(axis=1) + 0.7 * rows[:, 0]
    inherited = 0.8 * true - 0.9 * rows[:, 0] - 1.0 + 0.2 * rng.standard_normal(len(rows))
    return Networks(SPACE, rows, inherited, costs, maximize=True), true


def train(true: np.ndarray, rows: np.ndarray, seed: int) -> Trainings:
    luck = LUCK * np.random.default_rng([1, seed]).standard_normal(len(rows))
    return Trainings(rows, true[rows] + luck, np.full(len(rows), 0.02))


def test_a_dozen_trainings_tell_a_bias_and_how_far_predictions_are_off() -> None:
    taus, errors, inside = [], [], []
    for seed in range(6):
        networks, true = draw(seed)
        every = np.arange(len(true))
        rows = choose_trainings(networks, every, 12, 0.02)
        found = infer_alone(networks, train(true, rows, seed))
        unseen = np.setdiff1d(every, rows)
        mean, deviation = found.posterior.mean[unseen], found.posterior.deviation[unseen]
        taus.append(
            [kendall_tau(one[unseen], true[unseen]) for one in (networks.estimates, networks.costs)]
            + [kendall_tau(mean, true[unseen])]
        )
        errors.append(np.sqrt(((mean - true[unseen]) ** 2).mean()))
        again = true[unseen] + LUCK * np.random.default_rng([2, seed]).standard_normal(len(unseen))
        inside.append(np.abs(mean - again) <= 1.645 * np.hypot(deviation, found.luck))
    inherited, costs, calibrated = np.mean(taus, axis=0)
    assert calibrated > max(inherited, costs) + 0.05
    assert calibrated > 0.85
    assert np.mean(errors) < 0.25
    assert 0.85 <= np.mean(np.concatenate(inside)) <= 0.99


def test_before_any_training_costs_and_inherited_quality_count_alike() -> None:
    networks, _ = draw(0)
    found = infer_alone(networks, NONE).posterior
    standard = (found.mean - networks.level) / networks.scale
    costs = (networks.costs - networks.costs.mean()) / networks.costs.std()
    halves = 0.5 * costs + 0.5 * (networks.estimates - networks.level) / networks.scale
    assert standard == pytest.approx(halves)
    assert (found.deviation > 2 * networks.scale).all(), "the level is not known"


def test_units_and_directions_make_no_difference() -> None:
    networks, true = draw(1)
    trained = train(true, np.arange(0, 40, 5), 0)
    found = infer_alone(networks, trained)
    other = Networks(SPACE, networks.positions, -3 * networks.estimates + 7, networks.costs, False)
    turned = Trainings(trained.rows, -3 * trained.values + 7, 3 * trained.errors)
    again = infer_alone(other, turned)
    assert again.posterior.mean == pytest.approx(-3 * found.posterior.mean + 7)
    assert again.posterior.deviation == pytest.approx(3 * found.posterior.deviation, rel=1e-6)
    assert again.luck == pytest.approx(3 * found.luck)


def test_rows_asked_for_are_those_of_the_whole() -> None:
    networks, true = draw(2)
    trained = train(true, np.arange(0, 40, 8), 0)
    whole, part = infer_alone(networks, trained), infer_alone(networks, trained, np.array([7, 3]))
    assert part.posterior.mean == pytest.approx(whole.posterior.mean[[7, 3]])
    chosen = whole.posterior.covariance[np.ix_([7, 3], [7, 3])]
    assert part.posterior.covariance == pytest.approx(chosen)
    left_out = predict_left_out(networks, trained)
    first = infer_alone(networks, trained.drop(0), trained.rows[:1])
    assert left_out.posterior.mean[0] == pytest.approx(first.posterior.mean[0])
    assert left_out.posterior.deviation[0] > whole.posterior.deviation[trained.rows[0]]


def test_chosen_networks_tell_more_than_others() -> None:
    networks, true = draw(3)
    candidates = np.arange(5, 45)
    rows = choose_trainings(networks, candidates, 6, 0.02)
    assert (np.diff(rows) > 0).all()
    assert np.isin(rows, candidates).all()
    assert set(choose_trainings(networks, candidates, 4, 0.02)) <= set(rows), "the first stay"

    def spread(chosen: np.ndarray) -> float:
        return infer_alone(networks, train(true, chosen, 0)).posterior.deviation[candidates].mean()

    rng = np.random.default_rng(0)
    others = [spread(np.sort(rng.choice(candidates, 6, replace=False))) for _ in range(8)]
    assert spread(rows) < np.mean(others)
    with pytest.raises(InputError, match="41 networks cannot be chosen from 40"):
        choose_trainings(networks, candidates, 41, 0.02)


@pytest.mark.parametrize("space", [SPACE, OPERATIONS])
def test_networks_that_seem_all_the_same_are_no_obstacle(space: SearchSpace) -> None:
    rows = np.unique(space.sample(np.random.default_rng(0), 12), axis=0)
    # Numbers whose means are rounded, so that their deviations are not 0.
    estimates, costs = np.full(len(rows), math.log(9.0)), np.full(len(rows), math.log(123457.0))
    networks = Networks(space, rows, estimates, costs, True)
    assert networks.scale == 1.0
    trained = Trainings(np.array([0, 4]), np.array([2.5, 2.5]), np.zeros(2))
    found = infer_alone(networks, trained)
    assert np.isfinite(found.posterior.covariance).all()
    assert found.posterior.mean == pytest.approx(np.full(len(rows), 2.5), abs=0.1)


def test_names_are_counted_one_by_one() -> None:
    rows = np.unique(OPERATIONS.sample(np.random.default_rng(1), 40), axis=0)
    rng = np.random.default_rng(2)
    true = (rows == 0).sum(axis=1) * 1.0
    networks = Networks(OPERATIONS, rows, rng.standard_normal(len(rows)), np.zeros(len(rows)), True)
    mine = np.arange(0, len(rows), 3)
    found = infer_alone(networks, Trainings(mine, true[mine], np.full(len(mine), 0.01)))
    unseen = np.setdiff1d(np.arange(len(rows)), mine)
    assert kendall_tau(found.posterior.mean[unseen], true[unseen]) > 0.6


def test_bad_arrays_are_refused() -> None:
    networks, _ = draw(0)
    with pytest.raises(InputError, match="need as many estimates and costs"):
        Networks(SPACE, networks.positions, networks.estimates[:3], networks.costs, True)
    with pytest.raises(InputError, match="must be finite"):
        Networks(SPACE, networks.positions, networks.estimates * np.nan, networks.costs, True)
    with pytest.raises(InputError, match="none twice"):
        Trainings(np.array([1, 1]), np.zeros(2), np.zeros(2))
    with pytest.raises(InputError, match="must be finite"):
        Trainings(np.array([1]), np.array([np.inf]), np.zeros(1))
