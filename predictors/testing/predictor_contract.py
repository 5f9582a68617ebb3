"""Checks of the contract of a prediction method, for this project's methods and for your own.

In a test of your package::

    import pytest
    from predictors.testing.predictor_contract import CHECKS
    from my_package import my_predictor

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_predictor(check):
        check(my_predictor)

Every check takes the method's module, which has ``SUMMARY`` and a ``fit`` that is a
:class:`predictors.predictor.Fit`, and raises ``AssertionError`` where the contract is broken. They
fit 80 rows of a small space with inert choices, a few times, and need no other tool.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from predictors.features.encoding import one_hot
from predictors.predictor import Fit, Predictor, Rows
from supernet.errors import InputError
from supernet.space import Choice, SearchSpace

ROWS = 80
_WIDTHS = (1, 2, 3)


def _make_space() -> SearchSpace:
    blocks = [
        Choice(f"b{b}.{kind}", _WIDTHS, kind, None if b == 0 else ("depth", b + 1))
        for b in range(4)
        for kind in ("kernel", "expand")
    ]
    depth = Choice("depth", (1, 2, 3, 4), "depth")
    return SearchSpace((depth, *blocks, Choice("resolution", (16, 24, 32), "resolution")))


SPACE = _make_space()


def check_parts(method: ModuleType) -> None:
    """There is a summary of one line, and ``fit`` takes what every method's takes."""
    assert isinstance(method.SUMMARY, str), f"SUMMARY = {method.SUMMARY!r} is no text"
    assert method.SUMMARY.strip(), "SUMMARY is empty"
    assert "\n" not in method.SUMMARY, "SUMMARY has several lines"
    taken = inspect.signature(method.fit).parameters
    expected = inspect.signature(Fit.__call__).parameters
    for name, parameter in list(expected.items())[1:]:
        assert name in taken, f"fit does not take {name!r}"
        assert taken[name].kind == parameter.kind, f"fit takes {name!r} in another way"
        assert taken[name].default == parameter.default, f"{name!r} has another default"
    for name, parameter in taken.items():
        needless = name in expected or parameter.default is not parameter.empty
        assert needless, f"fit needs {name!r}, which no caller hands to it"


def check_name(method: ModuleType) -> None:
    """The report names the method as its file does, and the number of rows."""
    report = _fit(method).report
    name = method.__name__.rsplit(".", 1)[-1]
    assert report.model == name, f"the report is of {report.model!r}, not of {name!r}"
    assert report.samples == ROWS, f"{ROWS} rows were given and {report.samples} are reported"


def check_ranking(method: ModuleType) -> None:
    """It ranks architectures that it has not seen, and its report knows that it does."""
    model, unseen = _fit(method), _sample(200, 2)
    correlation = float(np.corrcoef(model.mean(unseen), _truth(unseen))[0, 1])
    assert correlation > 0.7, f"the correlation with the truth is {correlation:.2f}"
    assert model.report.tau > 0.5, f"the reported Kendall tau is {model.report.tau:.2f}"


def check_predictions(method: ModuleType) -> None:
    """Means and standard deviations have one value per row, in the unit of the training values."""
    model, unseen = _fit(method), _sample(7, 3)
    _check_spread(model, unseen)
    worst = float(np.abs(model.mean(unseen) - _truth(unseen)).max())
    assert worst < 0.3, f"a prediction is off by {worst:.2f}; values span less than 1"


def check_inert_choices(method: ModuleType) -> None:
    """What an inert choice holds does not change a prediction."""
    rows = np.zeros((2, len(SPACE)), dtype=np.int16)
    rows[1, SPACE.index("b3.kernel")] = 2
    first, second = _fit(method).mean(rows)
    assert first == second, "an inert choice changed the prediction"


def check_held_out(method: ModuleType) -> None:
    """Held-out predictions are of the training rows, and are no copies of their values."""
    model = _fit(method)
    held_out = model.held_out
    assert held_out.positions.shape == (ROWS, len(SPACE))
    for part in (held_out.mean, held_out.values, held_out.std):
        assert part.shape == (ROWS,), f"held-out numbers have shape {part.shape}"
    assert (held_out.std > 0).all(), "a held-out standard deviation is not above 0"
    assert (held_out.mean != held_out.values).all(), "a held-out prediction repeats its value"
    coverage = model.report.coverage
    assert 0.7 <= coverage <= 1.0, f"the reported coverage is {coverage:.2f}"


def check_report(method: ModuleType) -> None:
    """The report becomes JSON, without a learning curve that nobody asked for."""
    record = json.loads(json.dumps(_fit(method).report.to_json(), allow_nan=False))
    assert record["samples"] == ROWS
    assert 0 <= record["regret"] < 0.3, f"the regret is {record['regret']}"
    assert record["curve"] == []
    assert record["needed"] is None


def check_repeatability(method: ModuleType) -> None:
    """Equal seeds give equal predictors, whatever the global random state is."""
    unseen, before = _sample(20, 4), np.random.get_state()
    try:
        np.random.seed(1)
        first = _fit(method).mean(unseen)
        np.random.seed(2)
        second = _fit(method).mean(unseen)
    finally:
        np.random.set_state(before)
    assert (first == second).all(), "the same seed gave another predictor"


def check_arguments_kept(method: ModuleType) -> None:
    """Fitting leaves the training arrays as they are."""
    rows = _sample(30, 1)
    values = _truth(rows)
    before = rows.copy(), values.copy()
    method.fit(SPACE, rows, values, seed=0)
    assert (rows == before[0]).all(), "the positions were changed"
    assert (values == before[1]).all(), "the values were changed"


def check_three_rows(method: ModuleType) -> None:
    """Three rows are enough, and so are values that are all the same."""
    rows = _sample(3, 6)
    for values in (np.array([0.1, 0.2, 0.3]), np.full(3, 0.5)):
        model = method.fit(SPACE, rows, values, seed=0)
        mean, std = model.predict(rows)
        assert np.isfinite(mean).all(), f"means of {values} are {mean}"
        assert np.isfinite(std).all(), f"standard deviations of {values} are {std}"
        json.dumps(model.report.to_json(), allow_nan=False)


def check_unusable_values(method: ModuleType) -> None:
    """Values that are too few, of another number or not finite are refused in one line."""
    rows, missing = _sample(5, 7), np.array([1, 2, np.nan, 4, 5])
    _assert_refused(lambda: method.fit(SPACE, rows, missing, seed=0), "value 2 is nan")
    _assert_refused(lambda: method.fit(SPACE, rows[:2], np.arange(2.0), seed=0), "at least 3")
    _assert_refused(lambda: method.fit(SPACE, rows, np.arange(4.0), seed=0), "of shape (4,)")


def check_statistics(method: ModuleType) -> None:
    """Statistics are features: what the choices cannot tell is learned from them, at any scale."""
    rows, unseen = _sample(ROWS, 1), _sample(200, 2)
    weights = np.random.default_rng(9).normal(0, 1, SPACE.cardinalities.sum())

    def statistics(positions: NDArray[np.int16]) -> NDArray[np.float64]:
        # Periodic in the choices: next to impossible to learn from so few rows without it.
        code = one_hot(SPACE, positions) @ weights
        return np.sin(7 * code)[:, None] * 1e6 + 3e6

    values, target = (statistics(part)[:, 0] * 1e-6 for part in (rows, unseen))
    blind = method.fit(SPACE, rows, values, seed=0)
    model = method.fit(SPACE, rows, values, seed=0, statistics=statistics)
    with_them, without = (np.corrcoef(m.mean(unseen), target)[0, 1] for m in (model, blind))
    assert with_them > 0.8, f"the correlation is {with_them:.2f} with the answer as a statistic"
    assert without < 0.5, f"the correlation is {without:.2f} without it, so it proves nothing"
    _check_spread(model, unseen[:4])


def check_unusable_statistics(method: ModuleType) -> None:
    """Statistics of another shape or that are not finite are refused in one line."""
    rows, values = _sample(5, 7), np.arange(5.0)

    def fit_with(shape: tuple[int, ...], number: float) -> Callable[[], object]:
        def statistics(positions: Rows) -> NDArray[np.float64]:
            return np.full((len(positions), *shape), number)

        return lambda: method.fit(SPACE, rows, values, seed=0, statistics=statistics)

    _assert_refused(fit_with((), 0.0), "have shape (5,); expected (5, k)")
    _assert_refused(fit_with((2,), np.inf), "of architecture 0 is inf")


CHECKS: tuple[Callable[[ModuleType], None], ...] = (
    check_parts,
    check_name,
    check_ranking,
    check_predictions,
    check_inert_choices,
    check_held_out,
    check_report,
    check_repeatability,
    check_arguments_kept,
    check_three_rows,
    check_unusable_values,
    check_statistics,
    check_unusable_statistics,
)


def check_predictor(method: ModuleType) -> None:
    """Run every check on a method.

    Args:
        method: Its module.

    Raises:
        AssertionError: The first part of the contract that is broken.
    """
    for check in CHECKS:
        check(method)


def _sample(count: int, seed: int) -> NDArray[np.int16]:
    return SPACE.sample(np.random.default_rng(seed), count)


def _truth(rows: Rows) -> NDArray[np.float64]:
    """Additive values between 0.5 and 1.5."""
    features = one_hot(SPACE, rows)
    return 0.5 + features @ np.random.default_rng(5).gamma(2.0, 0.02, features.shape[1])


def _fit(method: ModuleType) -> Predictor:
    rows = _sample(ROWS, 1)
    model: Predictor = method.fit(SPACE, rows, _truth(rows), seed=0)
    return model


def _check_spread(model: Predictor, rows: Rows) -> None:
    mean, std = model.predict(rows)
    assert mean.shape == std.shape == (len(rows),), f"{len(rows)} rows gave shape {mean.shape}"
    assert (std > 0).all(), "a standard deviation is not above 0"
    assert np.allclose(mean, model.mean(rows), rtol=1e-6, atol=1e-12), "mean and predict disagree"
    assert model.mean(rows[:0]).shape == (0,), "no rows have to give no means"


def _assert_refused(attempt: Callable[[], object], words: str) -> None:
    message = None
    try:
        attempt()
    except InputError as error:
        message = str(error)
    assert message is not None, f"nothing was refused where the refusal says {words!r}"
    assert words in message, f"the refusal does not say {words!r}: {message}"
    assert "\n" not in message, f"the refusal has several lines: {message}"
