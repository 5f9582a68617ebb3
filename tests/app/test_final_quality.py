"""Final qualities: shared errors, intervals that hold, and finalists that are looked at again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from app.evaluation.pools import WorkerPool
from app.evaluation.race_bounds import RaceRule
from app.progress import Step
from app.records.evaluation import EvaluationRecord, ScoresRecord
from app.searching.results.confirm import (
    Confirmed,
    ConfirmRule,
    LoggedFinalists,
    confirm_finalists,
    find_probabilities,
)
from app.searching.results.contenders import MOST_ROWS, choose_rows
from app.searching.results.evidence import Evidence, Scored, gather_evidence
from app.searching.results.final_quality import FinalQuality, bound_share, infer_quality
from app.searching.results.settled import put_in, settle_front
from predictors.posterior import Posterior
from search import (
    Constraint,
    History,
    Objective,
    SearchProblem,
    SearchResult,
    pareto_front,
)
from supernet.data import DataSource, Split
from supernet.quality.sampling_error import compute_wilson_interval
from supernet.space import Choice, SearchSpace

SPACE = SearchSpace(tuple(Choice(f"width{i}", (1, 2, 3, 4), "width") for i in range(5)))


# -- errors ------------------------------------------------------------------------------------


def draw_scores(
    networks: int, bases: int, sets: int, seed: int, *, sway: float, own: float
) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """Right answers of equally good networks: bases are hard for all, renderings for each alone."""
    rng = np.random.default_rng(seed)
    hard = sway * rng.standard_normal(bases)
    found = []
    for _ in range(networks):
        parts = [
            (1.2 + hard[:, None] + own * rng.standard_normal((bases, 4)) > 0).ravel().astype(float)
            for _ in range(sets)
        ]
        found.append(parts)
    return found, np.repeat(np.arange(bases), 4)


def test_what_networks_share_of_their_errors_shows_in_their_differences() -> None:
    shared, own, spread = [], [], []
    for seed in range(40):
        scores, groups = draw_scores(12, 60, 1, seed, sway=1.5, own=0.7)
        found = [Scored.from_scores(parts, [groups], answers=True) for parts in scores]
        evidence = gather_evidence(found, seed)
        own.append(np.mean(evidence.own))
        shared.append(np.sqrt(np.mean(evidence.errors**2 - evidence.own**2)))
        spread.append((evidence.values.mean(), evidence.values.std(ddof=1)))
    means, deviations = np.array(spread).T
    # What all share moves their mean from one data set to the next, what is their own spreads them.
    assert np.mean(own) == pytest.approx(np.sqrt(np.mean(deviations**2)), rel=0.15)
    assert np.mean(shared) == pytest.approx(means.std(ddof=1), rel=0.25)
    assert np.mean(shared) > 2 * np.mean(own)


def test_further_renderings_leave_the_error_of_the_bases() -> None:
    scores, groups = draw_scores(8, 80, 3, 0, sway=1.5, own=0.7)
    one = [Scored.from_scores(parts[:1], [groups], answers=True) for parts in scores]
    three = [Scored.from_scores(parts, [groups] * 3, answers=True) for parts in scores]
    before, after = gather_evidence(one, 0), gather_evidence(three, 0)
    assert (after.samples == 3 * before.samples).all()
    assert np.mean(after.own) == pytest.approx(np.mean(before.own) / np.sqrt(3), rel=0.2)
    assert 0.8 < np.mean(after.errors) / np.mean(before.errors) < 1.0
    mixed = gather_evidence([three[0], *one[1:]], 0)
    # A single network with three sets: the share of the others' errors stands in.
    ratio = before.own[0] / before.errors[0]
    assert mixed.own[0] == pytest.approx(three[0].error * ratio, rel=1e-6)


def draw_sets(seed: int) -> tuple[np.ndarray, np.ndarray, list[list[np.ndarray]], np.ndarray]:
    """Networks, their true accuracies, and answers on four sets that are not equally hard."""
    rng = np.random.default_rng(seed)
    rows = np.unique(rng.integers(0, 4, (60, 5)), axis=0).astype(np.int16)
    skill = 1.2 + 0.06 * (rows.sum(1) - 7)
    hard = 0.8 * rng.standard_normal((80, 1))
    renderings = rng.standard_normal((4, 80, 4))
    scores = [
        [
            (one + hard + set_ + 0.5 * rng.standard_normal((80, 4)) > 0).ravel().astype(float)
            for set_ in renderings
        ]
        for one in skill
    ]
    spread = np.sqrt(0.8**2 + 1 + 0.5**2)
    truth = np.array([NormalDist().cdf(one / spread) for one in skill])
    return rows, truth, scores, np.repeat(np.arange(80), 4)


@pytest.mark.parametrize(("chosen_by", "most"), [("chance", 0.35), ("value", 0.75)])
def test_an_easy_set_does_not_favour_those_that_were_evaluated_on_it_alone(
    chosen_by: str, most: float
) -> None:
    gaps, apart, covered = [], [], []
    for seed in range(8):
        rows, truth, scores, groups = draw_sets(seed)
        first = np.array([parts[0].mean() for parts in scores])
        order = np.random.default_rng(seed).permutation(len(rows))
        finalists = order[:12] if chosen_by == "chance" else np.argsort(-first)[:12]
        sets = np.ones(len(rows), np.intp)
        sets[finalists] = 4
        found = [
            Scored.from_scores(parts[:count], [groups] * count, answers=True)
            for parts, count in zip(scores, sets, strict=True)
        ]
        history = make_history(rows, first, rows.sum(1).astype(np.float64))
        evidence = gather_evidence(found, seed)
        places = np.arange(len(rows))
        quality = infer_quality(make_problem(rows), history, "accuracy", places, evidence, None, 0)
        error = quality.posterior.mean - truth
        gaps.append(error[sets == 4].mean() - error[sets == 1].mean())
        plain = np.array([one.value for one in found]) - truth
        apart.append(plain[sets == 4].mean() - plain[sets == 1].mean())
        low, high = quality.bound()
        covered.append(((low <= truth) & (truth <= high)).mean())
    # How far one kind is favoured by what it saw, beside what plain values make of it.
    assert np.sqrt(np.mean(np.square(gaps))) < most * np.sqrt(np.mean(np.square(apart)))
    assert np.mean(covered) > 0.8


def test_what_may_be_shared_is_not_averaged_away() -> None:
    rng = np.random.default_rng(0)
    rows = np.unique(rng.integers(0, 4, (60, 5)), axis=0).astype(np.int16)
    inside = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        truth = 0.8 + 0.01 * (rows.sum(1) - 7)
        # One error for all, of which older logs do not tell that it is shared.
        values = truth + 0.02 * rng.standard_normal()
        found = [Scored(value, 0.02, 1, 400, True) for value in values.tolist()]
        evidence = gather_evidence(found, 0)
        assert not evidence.told
        history = make_history(rows, values, rows.sum(1).astype(np.float64))
        quality = infer_quality(
            make_problem(rows), history, "accuracy", np.arange(len(rows)), evidence, None, 0
        )
        assert quality.deviation.min() > 0.019
        inside.append(((quality.low <= truth) & (truth <= quality.high)).mean())
    assert np.mean(inside) > 0.8


def make_record(scores: np.ndarray, split: str, *, kept: bool = True) -> EvaluationRecord:
    low, high = compute_wilson_interval(float(scores.mean()), 100.0)
    order = RaceRule().draw_order(len(scores))
    packed = ScoresRecord.pack(scores[order].astype(np.float32), binary=True)
    return EvaluationRecord.model_construct(
        objective="accuracy", value=float(scores.mean()), low=low, high=high, split=split,
        samples=len(scores), scores=packed if kept else None,
    )  # fmt: skip


def test_records_are_read_with_the_groups_of_their_samples() -> None:
    scores, groups = draw_scores(1, 50, 2, 3, sway=2.0, own=0.5)
    (parts,) = scores
    made = Split(torch.zeros(200, 1), torch.zeros(200, dtype=torch.int64), torch.from_numpy(groups))
    data = cast(DataSource, SimpleNamespace(split=lambda name: made))
    records = [make_record(part, name) for part, name in zip(parts, ("val", "val+1"), strict=True)]
    found = Scored.from_records(records, data)
    expected = Scored.from_scores(parts, [groups] * 2, answers=True)
    assert (found.value, found.samples, found.sets) == (expected.value, 400, 2)
    assert found.error == pytest.approx(expected.error)
    # Without scores the interval of the record is all there is.
    bare = Scored.from_records([make_record(parts[0], "val", kept=False)], data)
    share = parts[0].mean()
    assert bare.error == pytest.approx(np.sqrt(share * (1 - share) / 100))
    evidence = gather_evidence([bare, bare], 0)
    assert (evidence.own == evidence.errors).all()


def test_losses_have_errors_too() -> None:
    rng = np.random.default_rng(0)
    common = rng.standard_normal(500)
    losses = [2 + common + 0.1 * rng.standard_normal(500) for _ in range(6)]
    evidence = gather_evidence([Scored.from_scores([x], [None], answers=False) for x in losses], 0)
    assert evidence.errors == pytest.approx(1 / np.sqrt(500), rel=0.1)
    assert evidence.own == pytest.approx(0.1 / np.sqrt(500), rel=0.1)


# -- intervals ---------------------------------------------------------------------------------


def test_intervals_stay_within_what_can_be() -> None:
    for share in (-0.01, 0.0, 0.5, 0.999, 1.0, 1.02):
        low, high = bound_share(share, 0.02)
        assert 0 <= low <= min(max(share, 0), 1) <= high <= 1
    low, high = bound_share(0.9, 0.01)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.01, rel=0.02)
    assert bound_share(0.7, 0.0) == (0.7, 0.7)
    quality = FinalQuality(
        "loss", np.arange(2), Posterior(np.array([1.0, 0.01]), np.diag([0.01, 0.01])),
        np.array([0.0, 0.1]), np.array([9, 9]),
    )  # fmt: skip
    assert quality.low == pytest.approx([1 - 0.196, 0], abs=1e-4)
    assert quality.high == pytest.approx([1.196, 0.01 + 1.96 * np.hypot(0.1, 0.1)], abs=1e-4)


# -- who may be on the front -------------------------------------------------------------------


def make_problem(rows: np.ndarray, limit: float | None = None, error: float = 0.02) -> Any:
    """Costs rise with the rows; a history of equal values."""

    def cost(asked: np.ndarray) -> np.ndarray:
        return np.asarray(asked, np.float64).sum(1)

    problem = SearchProblem(
        SPACE,
        (
            Objective("accuracy", "", "maximize", cost, "evaluated",
                      noise=lambda values: np.full(len(values), error)),
            Objective("cost", "", "minimize", cost, "analytic"),
        ),
        () if limit is None else (Constraint("cost", at_most=limit),),
    )  # fmt: skip
    return problem


def make_history(rows: np.ndarray, values: np.ndarray, costs: np.ndarray) -> History:
    return History(
        ("accuracy", "cost"), rows, np.stack((values, costs), axis=1),
        np.zeros(len(rows), np.int64),
    )  # fmt: skip


def make_quality(mean: list[float], deviation: list[float]) -> FinalQuality:
    count = len(mean)
    posterior = Posterior(np.array(mean), np.diag(np.square(deviation)))
    return FinalQuality("accuracy", np.arange(count), posterior, np.zeros(count), np.ones(count))


def test_probabilities_of_the_front_and_of_the_best_within_a_limit() -> None:
    rows = np.eye(5, dtype=np.int16)
    costs = np.array([1.0, 2.0, 3.0, 4.0, 9.0])
    history = make_history(rows, np.full(5, 0.5), costs)
    quality = make_quality([0.5, 0.6, 0.6, 0.3, 0.9], [0.01, 0.01, 0.01, 0.01, 0.01])
    free = find_probabilities(make_problem(rows), history, quality, 0)
    assert free[0] == free[1] == free[4] == 1
    # The third costs more than the second, which is as good with a probability of one half.
    assert free[2] == pytest.approx(0.5, abs=0.08)
    assert free[3] == 0
    limited = find_probabilities(make_problem(rows, limit=5.0), history, quality, 0)
    assert limited[[1, 2]] == pytest.approx([0.5, 0.5], abs=0.08)
    assert limited[0] == limited[3] == limited[4] == 0
    assert limited.sum() == pytest.approx(1)
    members = find_probabilities(
        make_problem(rows, limit=5.0), history, quality, 0, membership=True
    )
    assert members[0] == members[1] == 1
    assert members[4] == 0


def test_limits_on_the_quality_itself_hold_for_what_it_may_be() -> None:
    rows = np.eye(5, dtype=np.int16)
    history = make_history(rows, np.array([0.9, 0.5, 0.9, 0.9, 0.5]), np.arange(5.0))
    problem = make_problem(rows)
    limited = SearchProblem(
        SPACE,
        problem.objectives,
        (Constraint("accuracy", at_least=0.7), Constraint("cost", at_most=4)),
    )
    quality = make_quality([0.6, 0.7, 0.8, 0.6, 0.81], [0.01, 0.01, 0.01, 0.01, 0.01])
    found = find_probabilities(limited, history, quality, 0, membership=True)
    # The first was lucky; the second scored below the limit and meets it as often as not.
    assert found[0] == found[3] == 0
    assert found[1] == pytest.approx(0.5, abs=0.08)
    assert found[2] == 1
    best = find_probabilities(limited, history, quality, 0)
    assert best[2] + best[4] == pytest.approx(1)
    assert best[2] == pytest.approx(0.24, abs=0.08)
    none = find_probabilities(
        limited, history, make_quality([0.1] * 5, [0.01] * 5), 0, membership=True
    )
    assert not none.any()


def test_too_few_networks_for_a_model_keep_their_values() -> None:
    rows = np.eye(5, dtype=np.int16)
    history = make_history(rows, np.linspace(0.5, 0.9, 5), np.arange(5.0))
    problem = make_problem(rows)
    scores = np.repeat([0.0, 1.0], 50)
    whole = {a.digest for a in SPACE.decode(rows[:2])}

    def find(architecture: Any, split: str) -> EvaluationRecord | None:
        return make_record(scores, split) if architecture.digest in whole else None

    # All others were stopped early: the search knows values of them, but no record of all samples.
    sources = cast(Any, SimpleNamespace(log=SimpleNamespace(find=find)))
    front = pareto_front(problem, history)
    result = cast(SearchResult, SimpleNamespace(history=history, front=front))
    settled = settle_front(problem, result, sources, None, 0, lambda _line: None)
    assert settled.result is result
    assert settled.qualities == {}


def test_rows_of_unknown_quality_are_on_no_front() -> None:
    rows = np.eye(5, dtype=np.int16)
    history = make_history(rows, np.linspace(0.5, 0.9, 5), np.arange(5.0))
    quality = FinalQuality(
        "accuracy", np.array([0, 2]), Posterior(np.array([0.4, 0.6]), np.eye(2) * 1e-4),
        np.zeros(2), np.ones(2, np.intp),
    )  # fmt: skip
    settled = put_in(history, make_problem(rows), quality)
    assert settled.failed.tolist() == [False, True, False, True, True]
    assert settled.values[[0, 2], 0].tolist() == [0.4, 0.6]
    assert (history.values[:, 0] == np.linspace(0.5, 0.9, 5)).all()


def test_the_rows_kept_of_many_are_those_near_the_front() -> None:
    rng = np.random.default_rng(0)
    count = MOST_ROWS + 500
    rows = rng.integers(0, 4, (count, 5)).astype(np.int16)
    costs = rng.random(count)
    values = costs - rng.random(count)
    history = make_history(rows, values, costs)
    kept = choose_rows(make_problem(rows), history, "accuracy", np.arange(count))
    assert len(kept) == MOST_ROWS
    assert (np.diff(kept) > 0).all()
    left = np.setdiff1d(np.arange(count), kept)
    order = np.argsort(costs)
    best = np.empty(count)
    best[order] = np.maximum.accumulate(values[order])
    assert (best - values)[left].min() >= (best - values)[kept].max() - 1e-12


def test_nothing_on_the_front_is_left_out_of_many_rows() -> None:
    rng = np.random.default_rng(0)
    count = MOST_ROWS + 3000
    problem = make_problem(np.eye(5, dtype=np.int16), limit=0.3)
    cost = problem.objectives[1]
    three = SearchProblem(
        SPACE, (*problem.objectives, replace(cost, name="size")), (Constraint("cost", at_most=0.3),)
    )
    rows = rng.integers(0, 4, (count, 5)).astype(np.int16)
    costs = rng.random((count, 2))
    # Beyond the limit everything is better.
    values = np.where(costs[:, 0] > 0.3, 0.9, 0.3) + 0.1 * rng.random(count)
    values -= 0.5 * (1 - costs[:, 1]) + 0.5 * (1 - costs[:, 0])
    history = History(
        ("accuracy", "cost", "size"), rows, np.column_stack((values, costs)),
        np.zeros(count, np.int64),
    )  # fmt: skip
    kept = choose_rows(three, history, "accuracy", np.arange(count))
    assert len(kept) == MOST_ROWS
    front = pareto_front(three, history).rows
    assert len(front) > 50
    assert np.isin(front, kept).all()
    assert (costs[:, 0] <= 0.3).sum() < MOST_ROWS
    assert np.isin(np.flatnonzero(costs[:, 0] <= 0.3), kept).all()


# -- looking again -----------------------------------------------------------------------------


class Drawn:
    """Networks with true values and independent noise; every look halves doubt as it should."""

    def __init__(self, history: History, problem: SearchProblem, truth: np.ndarray,
                 error: float, seed: int) -> None:  # fmt: skip
        self.history, self.problem, self.truth, self.error = history, problem, truth, error
        self.rng = np.random.default_rng(seed)
        self.seen = [[value] for value in history.values[:, 0]]
        self.has_more = True

    def count_sets(self, row: int) -> int:
        return len(self.seen[row]) - 1

    def look_further(self, rows: Sequence[int], count: Callable[[], None]) -> None:
        for row in rows:
            self.seen[row].append(self.truth[row] + self.error * self.rng.standard_normal())
            count()

    def infer(self) -> FinalQuality:
        counts = np.array([len(seen) for seen in self.seen])
        errors = self.error / np.sqrt(counts)
        means = np.array([np.mean(seen) for seen in self.seen])
        evidence = Evidence(means, errors, errors, counts)
        rows = np.arange(len(self.seen))
        return infer_quality(self.problem, self.history, "accuracy", rows, evidence, None, 0)


def race(seed: int, rule: ConfirmRule) -> tuple[Drawn, FinalQuality, np.ndarray, list[str | Step]]:
    drawn, confirmed, within, said = confirm(seed, rule)
    return drawn, confirmed.quality, within, said


def confirm(
    seed: int, rule: ConfirmRule, is_late: Callable[[], bool] = lambda: False
) -> tuple[Drawn, Confirmed, np.ndarray, list[str | Step]]:
    rng = np.random.default_rng(seed)
    rows = np.unique(rng.integers(0, 4, (80, 5)), axis=0).astype(np.int16)
    truth = 0.7 + 0.02 * np.sqrt(rows + 1.0).sum(1) + 0.01 * rng.standard_normal(len(rows))
    values = truth + 0.02 * rng.standard_normal(len(rows))
    problem = make_problem(rows, limit=8.0)
    history = make_history(rows, values, rows.sum(1).astype(np.float64))
    drawn = Drawn(history, problem, truth, 0.02, seed)
    said: list[str | Step] = []
    confirmed = confirm_finalists(problem, history, drawn, rule, 0, said.append, is_late)
    return drawn, confirmed, rows.sum(1) <= 8, said


def test_finalists_are_looked_at_until_one_stands_out() -> None:
    regret: dict[str, list[float]] = {"value": [], "posterior": [], "confirmed": []}
    looks, optimism = [], []
    for seed in range(8):
        drawn, quality, within, _ = race(seed, ConfirmRule(30))
        plain, _, _, _ = race(seed, ConfirmRule(0))
        places = np.flatnonzero(within)
        top = drawn.truth[places].max()
        by = {
            "value": drawn.history.values[places, 0],
            "posterior": plain.infer().posterior.mean[places],
            "confirmed": quality.posterior.mean[places],
        }
        for name, values in by.items():
            regret[name].append(top - drawn.truth[places[values.argmax()]])
        best = places[by["confirmed"].argmax()]
        optimism.append(quality.posterior.mean[best] - drawn.truth[best])
        spent = [drawn.count_sets(row) for row in range(len(drawn.truth))]
        looks.append(sum(spent))
        assert not any(spent[row] for row in np.flatnonzero(~within))
    assert max(looks) <= 30
    assert np.mean(regret["confirmed"]) < 0.75 * np.mean(regret["value"])
    assert np.mean(regret["confirmed"]) <= np.mean(regret["posterior"])
    assert abs(np.mean(optimism)) < 0.01


def test_a_race_ends_when_it_is_decided_or_paid_for() -> None:
    drawn, _, _, said = race(1, ConfirmRule(7))
    assert sum(map(drawn.count_sets, range(len(drawn.truth)))) == 7
    assert str(said[-1]) == "confirm: looking at finalists again: 7/7 evaluations"
    drawn, quality, _, _ = race(1, ConfirmRule(5000, sets=200))
    spent = sum(map(drawn.count_sets, range(len(drawn.truth))))
    assert spent < 5000
    found = find_probabilities(drawn.problem, drawn.history, quality, 0)
    assert (found > 0.05).sum() == 1
    drawn, _, _, _ = race(1, ConfirmRule(500, sets=2))
    assert max(map(drawn.count_sets, range(len(drawn.truth)))) == 2


def test_a_race_that_is_late_ends_with_its_round() -> None:
    rounds: list[int] = []

    def count_rounds(most: int) -> Callable[[], bool]:
        rounds.clear()

        def is_late() -> bool:
            rounds.append(1)
            return len(rounds) > most

        return is_late

    rule = ConfirmRule(40, sets=200)
    _, whole, _, said = confirm(1, rule, count_rounds(1000))
    every = len(rounds)
    assert every >= 4
    assert not whole.stopped
    spent = []
    for most in (0, 1, every - 1, every):
        drawn, found, _, said = confirm(1, rule, count_rounds(most))
        sets = [drawn.count_sets(row) for row in range(len(drawn.truth))]
        assert (found.evaluations, found.networks) == (sum(sets), int(np.count_nonzero(sets)))
        told = {line.done for line in said if isinstance(line, Step)} - {0}
        assert told == set(range(1, found.evaluations + 1))
        # With nothing left to look at it was not time that ended it.
        assert found.stopped == (most < every)
        spent.append(found.evaluations)
    assert spent[0] == 0
    assert (np.diff(spent) > 0).all()
    assert spent[-1] == whole.evaluations
    _, found, _, _ = confirm(1, ConfirmRule(0), lambda: True)
    assert not found.stopped, "there was nothing to spend"


def test_a_network_that_fails_on_a_set_is_not_looked_at_again() -> None:
    rows = np.eye(5, dtype=np.int16)
    history = make_history(rows, np.linspace(0.5, 0.9, 5), np.arange(5.0))
    scores = np.repeat([0.0, 1.0], 50)
    broken, other = (architecture.digest for architecture in SPACE.decode(rows[:2]))
    asked: list[tuple[str, str]] = []

    def find(architecture: Any, split: str) -> EvaluationRecord:
        asked.append((architecture.digest, split))
        record = make_record(scores, split)
        fails = architecture.digest == broken and split == "val+2"
        return record.model_copy(update={"value": None, "scores": None}) if fails else record

    made = Split(torch.zeros(100, 1), torch.zeros(100, dtype=torch.int64))
    data = SimpleNamespace(split=lambda name: made, further=lambda number: made)
    log = SimpleNamespace(
        find=find, require_same_samples=lambda split: None, trained=SimpleNamespace(data=data)
    )
    pool = cast(WorkerPool, SimpleNamespace(width=1))
    finalists = LoggedFinalists(
        make_problem(rows), history, "accuracy", cast(Any, log), None, 0, pool
    )
    counted: list[int] = []
    for _ in range(2):
        finalists.look_further([0, 1], lambda: counted.append(1))
    assert asked[-4:] == [(broken, "val+1"), (other, "val+1"), (broken, "val+2"), (other, "val+2")]
    assert len(counted) == 4
    assert finalists.count_sets(0) >= ConfirmRule(10).sets
    assert finalists.count_sets(1) == 2
    # What was known of it before is still known.
    assert finalists.infer().samples[:3].tolist() == [200, 300, 100]
