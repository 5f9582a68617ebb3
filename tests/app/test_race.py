"""Who races against whom: rivals, stops and what they leave behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.evaluation.race import Candidate, Race, read_scores
from app.evaluation.race_bounds import RaceRule
from app.records.evaluation import EvaluationRecord, ScoresRecord
from search import Constraint, History, Objective, SearchProblem
from supernet.space import Choice, SearchSpace

TOTAL = 200
SPACE = SearchSpace((Choice("size", tuple(range(16)), "width"),))
RULE = RaceRule(lag=2, error=1e-3)


def problem(*constraints: Constraint, expensive_cost: bool = False) -> SearchProblem:
    source = "measured" if expensive_cost else "analytic"
    return SearchProblem(
        SPACE,
        (
            Objective("accuracy", "fraction", "maximize", lambda rows: rows[:, 0], "evaluated"),
            Objective("cost", "", "minimize", lambda rows: 1.0 + rows[:, 0], source),
        ),
        constraints,
    )


def race_of(*constraints: Constraint) -> Race:
    return Race(problem(*constraints), RULE, TOTAL, maximize=True)


def candidate(place: int, size: int) -> Candidate:
    row = np.array([size], dtype=np.int16)
    return Candidate(place, SPACE.decode(row[None])[0], row, np.array([np.nan, 1.0 + size]))


def record(right: int, samples: int = TOTAL) -> EvaluationRecord:
    answers = np.zeros(samples, np.float32)
    answers[:right] = 1
    kept = ScoresRecord.pack(answers, binary=True)
    return bare_record(right / samples).model_copy(update={"samples": samples, "scores": kept})


def bare_record(value: float | None) -> EvaluationRecord:
    """A record without scores."""
    return EvaluationRecord(
        architecture={"size": 0},
        digest="0" * 12,
        objective="accuracy",
        value=value,
        unit="fraction",
        split="val",
        samples=TOTAL,
    )


def test_a_rival_lies_the_lag_before_and_costs_no_more():
    race = race_of()
    dear, cheap = record(190), record(150)
    assert race.find_rival(candidate(0, 3)) is None, "nobody was there before"
    assert race.judge(candidate(0, 9), dear) == 0.95
    assert race.judge(candidate(1, 3), cheap) == 0.75
    assert race.find_rival(candidate(2, 9)) is dear
    assert race.find_rival(candidate(2, 5)) is None, "place 1 is nearer than the lag"
    assert race.find_rival(candidate(3, 5)) is cheap
    assert race.find_rival(candidate(3, 2)) is None, "both cost more"


def test_among_equals_the_first_of_the_search_is_the_rival():
    race = race_of()
    first, second = record(150), record(150)
    race.judge(candidate(1, 4), second)
    race.judge(candidate(0, 4), first)
    assert race.find_rival(candidate(5, 4)) is first


def test_a_hopeless_candidate_gets_its_estimate_and_is_no_rival():
    race = race_of()
    best = record(200)
    race.judge(candidate(0, 4), best)
    hopeless = candidate(2, 5)
    value = race.judge(hopeless, record(10, samples=25))
    bound = race.stopped[hopeless.row.tobytes()]
    assert value == bound.estimate
    assert bound.low <= value <= bound.high < 1
    assert race.saved_share == pytest.approx(1 - (TOTAL + 25) / (2 * TOTAL))
    assert race.find_rival(candidate(9, 15)) is best


def test_candidates_beyond_the_limits_or_without_a_value_are_no_rivals():
    race = race_of(Constraint("cost", at_most=8.0))
    race.judge(candidate(0, 9), record(200))
    assert np.isnan(race.judge(candidate(1, 2), bare_record(None)))
    assert race.find_rival(candidate(8, 12)) is None
    assert not race.stopped


def test_a_rival_without_scores_counts_by_its_value():
    assert read_scores(None) is None
    assert read_scores(bare_record(0.5)) == 0.5
    kept = read_scores(record(150))
    assert isinstance(kept, np.ndarray)
    assert kept.sum() == 150
    race = race_of()
    race.judge(candidate(0, 4), bare_record(1.0))
    race.judge(candidate(2, 5), record(0, samples=25))
    assert len(race.stopped) == 1


def test_a_stop_that_loses_its_rival_is_unsettled_until_it_has_a_value():
    race = race_of()
    race.judge(candidate(0, 4), record(200))
    estimate = race.judge(candidate(2, 5), record(10, samples=25))
    rows = np.array([[4], [5]], dtype=np.int16)
    names = ("accuracy", "cost")
    whole = History(names, rows, np.array([[1.0, 5], [estimate, 6]]), np.zeros(2, np.int64))
    assert race.find_unsettled(whole) is None, "its rival dominates it"
    failed = History(names, rows, np.array([[np.nan, 5], [estimate, 6]]), np.zeros(2, np.int64))
    assert race.find_unsettled(failed) == 1
    settled = race.settle(failed, 1, 0.4)
    assert settled.values[1].tolist() == [0.4, 6]
    assert failed.values[1, 0] == estimate, "a history is a value"
    assert race.find_unsettled(settled) is None


def test_a_race_needs_all_other_costs_beforehand():
    with pytest.raises(ValueError, match="'cost' is evaluated, too"):
        Race(problem(expensive_cost=True), RULE, TOTAL, maximize=True)
    cost = problem().objectives[1]
    cheap = SearchProblem(SPACE, (cost, replace(cost, name="size")))
    with pytest.raises(ValueError, match="nothing is evaluated here"):
        Race(cheap, RULE, TOTAL, maximize=True)
