"""Stops by evaluations, time and stagnation; progress; resuming stays exact."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from search import Constraint, Evaluation, History, Progress, Stops, search
from search.stops import frozen_reference, hypervolume_trace, stagnated
from search.strategies.random_search import RandomSearch
from tests.toys.problems import tradeoff


def test_the_number_of_evaluations_ends_a_search_either_way():
    problem = tradeoff()
    plain = search(problem, RandomSearch(10), evaluations=25, seed=0)
    stops = search(problem, RandomSearch(10), stops=Stops(25), seed=0)
    assert plain.stopped == stops.stopped == "evaluations"
    assert (plain.history.positions == stops.history.positions).all()
    with pytest.raises(ValueError, match="either evaluations or stops"):
        search(problem, RandomSearch(10), seed=0)
    with pytest.raises(ValueError, match="either evaluations or stops"):
        search(problem, RandomSearch(10), evaluations=3, stops=Stops(3), seed=0)


def test_time_is_looked_at_between_rounds(monkeypatch):
    clock = itertools.count(0.0, 10.0)
    monkeypatch.setattr("search.run.time.monotonic", lambda: next(clock))
    # Looks at 10, 20 and 30 s: two whole rounds fit before 25 s have passed.
    result = search(tradeoff(), RandomSearch(10), stops=Stops(1000, seconds=25), seed=0)
    assert result.stopped == "time"
    assert len(result.history) == 20


def test_a_space_that_is_used_up_says_so():
    result = search(tradeoff(choices=3), RandomSearch(10), evaluations=100, seed=0)
    assert result.stopped == "exhausted"
    assert len(result.history) == 27


def flat_after(problem, count):
    """The problem whose accuracy is constant and whose cost improves only so many times."""
    calls = itertools.count()

    def value(rows):
        return np.array([float(min(next(calls), count)) for _ in rows])

    return replace(problem, objectives=(replace(problem.objectives[0], evaluate=value),
                                        problem.objectives[1]))  # fmt: skip


def test_a_front_that_stands_still_ends_a_search():
    problem = flat_after(tradeoff(), 0)
    result = search(problem, RandomSearch(10), stops=Stops(500, stagnation=30), seed=0)
    assert result.stopped == "stagnation"
    assert 30 < len(result.history) < 500
    assert len(result.history) % 10 == 0
    # What the rule says, by an independent count: no growth of 0.1 % over the last 30, and the
    # rule did not hold one round earlier.
    bound = problem.natural(frozen_reference(problem, result.history)[None])[0]
    trace = hypervolume_trace(problem, result.history, bound)
    assert trace[-1] - trace[-31] < 1e-3 * trace[-31]
    earlier = trace[:-10]
    assert len(earlier) <= 30 or earlier[-1] - earlier[-31] >= 1e-3 * earlier[-31]


def test_a_front_that_grows_does_not_stagnate():
    problem = flat_after(tradeoff(), 10_000)
    result = search(problem, RandomSearch(10), stops=Stops(80, stagnation=10), seed=0)
    assert result.stopped == "evaluations"


def test_the_reference_is_frozen_after_the_first_round_with_usable_points():
    problem = tradeoff(constraints=(Constraint("accuracy", at_least=5.0),))
    result = search(problem, RandomSearch(10), evaluations=60, seed=3)
    references = [frozen_reference(problem, result.history.before(batch)) for batch in range(1, 7)]
    known = [bound for bound in references if bound is not None]
    assert known
    assert all((bound == known[0]).all() for bound in known)
    failing = search(
        tradeoff(fail_every=1), RandomSearch(10), stops=Stops(30, stagnation=5), seed=0
    )
    assert failing.stopped == "evaluations", "a search without a front has not stagnated"
    assert frozen_reference(tradeoff(fail_every=1), failing.history) is None


def test_stagnation_needs_more_history_than_its_window():
    problem = tradeoff()
    result = search(problem, RandomSearch(10), evaluations=20, seed=0)
    bound = frozen_reference(problem, result.history)
    assert not stagnated(problem, result.history, 20, bound)
    assert stagnated(problem, result.history, 19, bound, growth=1e9)


class KilledError(Exception):
    pass


def test_a_killed_search_with_a_stagnation_stop_resumes_to_the_same_end():
    problem = tradeoff(choices=6)
    stops = Stops(200, stagnation=20)
    whole = search(problem, RandomSearch(10), stops=stops, seed=1)
    assert whole.stopped == "stagnation"
    stored: list[Evaluation] = []

    def store(evaluation):
        stored.append(evaluation)
        if len(stored) == 17:
            raise KilledError

    with pytest.raises(KilledError):
        search(problem, RandomSearch(10), stops=stops, seed=1, on_evaluated=store)
    history = History.from_rows(problem.names, len(problem.space), stored)
    again = search(problem, RandomSearch(10), stops=stops, seed=1, history=history)
    assert again.stopped == "stagnation"
    assert (again.history.positions == whole.history.positions).all()


def test_progress_shows_the_current_front_after_every_round():
    seen: list[Progress] = []
    problem = tradeoff(fail_every=4)
    result = search(problem, RandomSearch(10), evaluations=25, seed=0, progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [(10, 25), (20, 25), (25, 25)]
    last = seen[-1]
    assert (last.front.values == result.front.values).all()
    assert last.failed == result.history.failed.sum() > 0
    volumes = [p.hypervolume for p in seen]
    assert volumes == sorted(volumes)
    assert last.best == {
        "accuracy": result.front.values[:, 0].max(), "latency_ms": result.front.values[:, 1].min()
    }  # fmt: skip
    empty: list[Progress] = []
    search(tradeoff(fail_every=1), RandomSearch(10), evaluations=10, seed=0, progress=empty.append)
    assert empty[0].best == {}
    assert np.isnan(empty[0].hypervolume)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"evaluations": 0}, "evaluations = 0 is impossible; use at least 1"),
        ({"evaluations": 5, "seconds": 0.0}, "time limit of 0 s cannot work"),
        ({"evaluations": 5, "seconds": float("nan")}, "time limit of nan s cannot work"),
        ({"evaluations": 5, "stagnation": 0}, "stagnation = 0 is impossible"),
    ],
)
def test_impossible_stops_are_refused(settings, expected):
    with pytest.raises(ValueError, match=expected):
        Stops(**settings)
