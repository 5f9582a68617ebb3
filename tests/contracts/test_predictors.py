"""What every module in ``predictors/models`` has to do."""

from __future__ import annotations

import importlib
import json
import pkgutil

import numpy as np
import pytest

import predictors.models
from predictors.features.encoding import one_hot
from supernet.space import Choice, SearchSpace

NAMES = sorted(module.name for module in pkgutil.iter_modules(predictors.models.__path__))


def world() -> SearchSpace:
    depth = Choice("depth", (1, 2, 3, 4), "depth")
    blocks = [
        Choice(f"b{b}.{kind}", (1, 2, 3), kind, None if b == 0 else ("depth", b + 1))
        for b in range(4)
        for kind in ("kernel", "expand")
    ]
    return SearchSpace((depth, *blocks, Choice("resolution", (16, 24, 32), "resolution")))


SPACE = world()


def truth(rows):
    features = one_hot(SPACE, rows)
    return 0.5 + features @ np.random.default_rng(5).gamma(2.0, 0.02, features.shape[1])


@pytest.fixture(params=NAMES)
def module(request):
    return importlib.import_module(f"predictors.models.{request.param}")


def fitted(module, count=80, seed=0):
    rows = SPACE.sample(np.random.default_rng(1), count)
    return module.fit(SPACE, rows, truth(rows), seed=seed)


def test_there_is_something_to_test():
    assert {"ridge", "gaussian_process", "support_vector", "random_forest"} <= set(NAMES)
    assert {"gradient_boosting", "ensemble", "mlp"} <= set(NAMES)


def test_it_says_what_it_is(module):
    assert isinstance(module.SUMMARY, str)
    assert "\n" not in module.SUMMARY
    assert fitted(module).report.model == module.__name__.rsplit(".", 1)[1]


def test_it_ranks_unseen_architectures(module):
    unseen = SPACE.sample(np.random.default_rng(2), 200)
    model = fitted(module)
    assert np.corrcoef(model.mean(unseen), truth(unseen))[0, 1] > 0.7
    assert model.report.tau > 0.5


def test_predictions_have_shapes_units_and_spread(module):
    model = fitted(module)
    unseen = SPACE.sample(np.random.default_rng(3), 7)
    mean, std = model.predict(unseen)
    assert mean.shape == std.shape == (7,)
    assert (std > 0).all()
    assert mean == pytest.approx(model.mean(unseen))
    assert np.abs(mean - truth(unseen)).max() < 0.3
    assert model.mean(unseen[:0]).shape == (0,)


def test_inert_choices_do_not_matter(module):
    rows = np.zeros((2, len(SPACE)), dtype=np.int16)
    rows[1, SPACE.index("b3.kernel")] = 2
    first, second = fitted(module).mean(rows)
    assert first == second


def test_held_out_predictions_are_of_the_training_rows_and_not_copies(module):
    model = fitted(module)
    assert model.held_out.mean.shape == model.held_out.values.shape == (80,)
    assert (model.held_out.std > 0).all()
    assert (model.held_out.mean != model.held_out.values).all()
    assert 0.7 <= model.report.coverage <= 1.0


def test_the_report_is_json(module):
    record = json.loads(json.dumps(fitted(module).report.to_json(), allow_nan=False))
    assert record["samples"] == 80
    assert 0 <= record["regret"] < 0.3
    assert record["curve"] == []
    assert record["needed"] is None


def test_same_seed_same_model(module):
    unseen = SPACE.sample(np.random.default_rng(4), 20)
    assert (fitted(module).mean(unseen) == fitted(module).mean(unseen)).all()


def test_the_training_arrays_are_left_alone(module):
    rows = SPACE.sample(np.random.default_rng(1), 30)
    values = truth(rows)
    copies = rows.copy(), values.copy()
    module.fit(SPACE, rows, values, seed=0)
    assert (rows == copies[0]).all()
    assert (values == copies[1]).all()


def test_three_rows_and_constant_values_are_enough(module):
    rows = SPACE.sample(np.random.default_rng(6), 3)
    for values in (np.array([0.1, 0.2, 0.3]), np.full(3, 0.5)):
        model = module.fit(SPACE, rows, values, seed=0)
        mean, std = model.predict(rows)
        assert np.isfinite(mean).all()
        assert np.isfinite(std).all()
        json.dumps(model.report.to_json(), allow_nan=False)


def test_bad_training_data_is_one_clear_sentence(module):
    rows = SPACE.sample(np.random.default_rng(7), 5)
    with pytest.raises(ValueError, match="value 2 is nan; leave failed evaluations out"):
        module.fit(SPACE, rows, np.array([1, 2, np.nan, 4, 5]), seed=0)
    with pytest.raises(ValueError, match="at least 3 evaluations; got 2"):
        module.fit(SPACE, rows[:2], np.arange(2.0), seed=0)
    with pytest.raises(ValueError, match="5 architectures have values of shape"):
        module.fit(SPACE, rows, np.arange(4.0), seed=0)


def test_statistics_are_features(module):
    rows, unseen = (SPACE.sample(np.random.default_rng(s), c) for s, c in ((1, 80), (2, 200)))
    hidden = np.random.default_rng(9)
    weights = hidden.normal(0, 1, SPACE.cardinalities.sum())

    def statistics(positions):
        # Periodic in the choices: next to impossible to learn from 80 rows without it.
        return np.sin(7 * one_hot(SPACE, positions) @ weights)[:, None] * 1e6 + 3e6

    values, target = (statistics(r)[:, 0] * 1e-6 for r in (rows, unseen))
    blind = module.fit(SPACE, rows, values, seed=0)
    model = module.fit(SPACE, rows, values, seed=0, statistics=statistics)
    assert np.corrcoef(model.mean(unseen), target)[0, 1] > 0.8
    assert np.corrcoef(blind.mean(unseen), target)[0, 1] < 0.5
    mean, std = model.predict(unseen[:4])
    assert mean == pytest.approx(model.mean(unseen[:4]))
    assert (std > 0).all()
    assert model.mean(unseen[:0]).shape == (0,)


def test_bad_statistics_are_one_clear_sentence(module):
    rows = SPACE.sample(np.random.default_rng(7), 5)

    def vector(positions):
        return np.zeros(len(positions))

    def infinite(positions):
        return np.full((len(positions), 2), np.inf)

    with pytest.raises(ValueError, match=r"have shape \(5,\); expected \(5, k\)"):
        module.fit(SPACE, rows, np.arange(5.0), seed=0, statistics=vector)
    with pytest.raises(ValueError, match="statistic 0 of architecture 0 is inf"):
        module.fit(SPACE, rows, np.arange(5.0), seed=0, statistics=infinite)
