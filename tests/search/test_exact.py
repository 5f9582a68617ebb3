"""Integer programs choose what trying everything would choose."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from search.arrays.additive import AdditiveTerms, total
from search.arrays.pareto import nondominated
from search.integer.exact import Program, exact_front, solve
from search.sampling.feasibility import InfeasibleError
from supernet.space import Choice, SearchSpace
from tests.timing import least_seconds
from tests.toys.problems import nested_space, tradeoff, true_front


def everything(space: SearchSpace) -> np.ndarray:
    grids = product(*(range(int(n)) for n in space.cardinalities))
    return np.unique(space.canonical(np.array(list(grids), dtype=np.int16)), axis=0)


def random_terms(space: SearchSpace, groups, seed: int, whole: bool = False) -> AdditiveTerms:
    rng = np.random.default_rng(seed)
    shapes = [[int(space.cardinalities[i]) for i in group] for group in groups]
    tables = [rng.uniform(-1, 3, shape) for shape in shapes]
    if whole:
        tables = [np.round(table * 10) for table in tables]
    return AdditiveTerms(tuple(groups), tuple(tables), 0.5)


def deep_space() -> SearchSpace:
    """A choice that needs one that needs another, and a need that always holds."""
    return SearchSpace(
        (
            Choice("stages", (1, 2), "depth"),
            Choice("depth", (1, 2, 3), "depth", ("stages", 2)),
            Choice("width", (8, 16, 24), "width", ("depth", 2)),
            Choice("kernel", (3, 5), "kernel", ("width", 8)),
            Choice("act", ("relu", "swish", "gelu"), "act"),
        )
    )


GROUPS = {
    "nested": (nested_space, [(0, 2, 3), (0, 4), (1, 5), (6, 1), (7,), (), (3, 2)]),
    "deep": (deep_space, [(0, 1), (2, 1), (3,), (2, 3, 4), (4,), (), (1, 1)]),
}


@pytest.mark.parametrize("case", GROUPS)
@pytest.mark.parametrize("seed", range(4))
def test_it_finds_what_trying_everything_finds(case, seed):
    make, groups = GROUPS[case]
    space = make()
    gain = random_terms(space, groups, 2 * seed)
    cost = random_terms(space, groups[::-1], 2 * seed + 1)
    rows = everything(space)
    assert len(rows) == space.size
    program = Program(space, gain, (cost,))
    assert program.least(0) == pytest.approx(cost(rows).min())
    for quantile in (0.02, 0.3, 0.9):
        limit = float(np.quantile(cost(rows), quantile))
        found = program.best([limit])
        assert (found == space.canonical(found[None])[0]).all()
        assert cost(found[None])[0] <= limit
        assert gain(found[None])[0] == pytest.approx(gain(rows[cost(rows) <= limit]).max())


def test_several_limits_hold_at_once():
    space = nested_space()
    groups = GROUPS["nested"][1]
    gain, first, second = (random_terms(space, groups, seed) for seed in (11, 12, 13))
    rows = everything(space)
    limits = [(first, float(np.quantile(first(rows), 0.4))),
              (second, float(np.quantile(second(rows), 0.5)))]  # fmt: skip
    inside = np.all([terms(rows) <= bound for terms, bound in limits], axis=0)
    found = solve(space, gain, limits)
    assert gain(found[None])[0] == pytest.approx(gain(rows[inside]).max())


def test_forbidden_rows_give_the_next_best_one_after_another():
    space = nested_space()
    gain = random_terms(space, GROUPS["nested"][1], 5)
    cost = random_terms(space, GROUPS["nested"][1], 6)
    rows = everything(space)
    limit = float(np.quantile(cost(rows), 0.3))
    ranking = np.sort(gain(rows[cost(rows) <= limit]))[::-1]
    taken: list[np.ndarray] = []
    for expected in ranking[:6]:
        row = solve(space, gain, [(cost, limit)], forbidden=taken)
        assert gain(row[None])[0] == pytest.approx(expected)
        taken.append(row)
    inside = rows[cost(rows) <= limit]
    assert solve(space, gain, [(cost, limit)], forbidden=inside[1:]) is not None
    few = float(np.sort(cost(rows))[2])
    assert solve(space, gain, [(cost, few)], forbidden=rows[cost(rows) <= few]) is None


def test_a_pool_confines_the_choice():
    space = nested_space()
    gain = random_terms(space, GROUPS["nested"][1], 5)
    pool = space.sample(np.random.default_rng(0), 40)
    found = solve(space, gain, pool=pool, forbidden=[pool[np.argmax(gain(pool))]])
    assert found.tobytes() in {row.tobytes() for row in pool}
    assert gain(found[None])[0] == np.unique(gain(pool))[-2]


def test_infeasible_limits_name_the_nearest_feasible_value():
    space = nested_space()
    gain = random_terms(space, GROUPS["nested"][1], 5)
    cost = random_terms(space, GROUPS["nested"][1], 6)
    least = float(cost(everything(space)).min())
    with pytest.raises(InfeasibleError, match="no architecture has latency_ms at most") as caught:
        solve(space, gain, [(cost, least - 0.5)], names=["latency_ms"])
    assert caught.value.nearest == pytest.approx(least)
    assert caught.value.objective == "latency_ms"
    np.testing.assert_array_equal(
        cost(solve(space, gain, [(cost, least)])[None]), [pytest.approx(least)]
    )


def test_limits_that_exclude_each_other_say_how_near_they_come():
    space = nested_space()
    cost = random_terms(space, GROUPS["nested"][1], 6)
    rows = everything(space)
    middle = float(np.median(cost(rows)))
    below = cost(rows)[cost(rows) < middle - 1e-6].max()
    limits = [(cost, middle - 1e-3), (cost.scaled(-1), -middle)]
    nearest = cost(rows)[cost(rows) >= middle - 1e-9].min()
    assert below < middle
    with pytest.raises(InfeasibleError, match="meets all limits at once") as caught:
        solve(space, cost, [(limits[0][0], nearest - 1e-3), (limits[1][0], -nearest)])
    assert caught.value.nearest == pytest.approx(nearest)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e9])
def test_the_front_is_the_one_of_dynamic_programming_at_any_scale(size):
    problem = tradeoff(choices=6)
    columns = [(i,) for i in range(6)]
    steps = np.arange(3.0)
    cost_of = 1.0 + np.arange(6)
    cost = AdditiveTerms(tuple(columns), tuple(steps * c for c in cost_of), 5.0).scaled(size)
    gain = AdditiveTerms(tuple(columns), tuple(steps * np.sqrt(c) for c in cost_of))
    rows = exact_front(problem.space, gain, cost)
    found = np.stack((gain(rows), cost(rows) / size), axis=1)
    np.testing.assert_allclose(found, true_front(problem), rtol=1e-9)


def test_the_front_with_dependent_choices_is_the_one_of_trying_everything():
    space = nested_space()
    gain = random_terms(space, GROUPS["nested"][1], 21, whole=True)
    cost = random_terms(space, GROUPS["nested"][1], 22, whole=True)
    rows = everything(space)
    points = np.stack((-gain(rows), cost(rows)), axis=1)
    expected = np.unique(points[nondominated(points)], axis=0)[::-1]
    found = exact_front(space, gain, cost)
    np.testing.assert_allclose(np.stack((-gain(found), cost(found)), 1), expected)
    inside = exact_front(space, gain, cost, pool=rows[::3])
    kept = points[::3]
    np.testing.assert_allclose(
        -gain(inside)[::-1], np.unique(kept[nondominated(kept)], axis=0)[:, 0]
    )


def test_terms_of_another_space_are_refused():
    space = nested_space()
    with pytest.raises(ValueError, match=r"table of shape \(2,\); the space needs \(3,\)"):
        solve(space, AdditiveTerms(((0,),), (np.zeros(2),)))
    with pytest.raises(ValueError, match="the space has 8 choices"):
        solve(space, AdditiveTerms(((9,),), (np.zeros(3),)))


def ofa_terms(seed: int) -> tuple[SearchSpace, AdditiveTerms, AdditiveTerms]:
    """45 choices: five stages of up to four blocks, tables over depth, kernel and expand."""
    choices = [Choice(f"s{s}.depth", (2, 3, 4), "depth") for s in range(5)]
    groups = []
    for s in range(5):
        for b in range(4):
            needs = None if b < 2 else (f"s{s}.depth", b + 1)
            groups.append((s, len(choices), len(choices) + 1))
            choices.append(Choice(f"s{s}.b{b}.kernel", (3, 5, 7), "kernel", needs))
            choices.append(Choice(f"s{s}.b{b}.expand", (3, 4, 6), "expand", needs))
    rng = np.random.default_rng(seed)
    there = [np.array([b < d for d in (2, 3, 4)], dtype=float) for _ in range(5) for b in range(4)]
    work = [np.outer([1, 1.3, 1.8], [3, 4, 6]) * rng.uniform(0.5, 2) for _ in groups]
    cost = [
        a[:, None, None] * w * rng.uniform(0.9, 1.1, (3, 3))
        for a, w in zip(there, work, strict=True)
    ]
    gain = [
        a[:, None, None] * np.log(w) * rng.uniform(0.2, 2, (3, 3))
        for a, w in zip(there, work, strict=True)
    ]
    space = SearchSpace(tuple(choices))
    return (
        space,
        AdditiveTerms(tuple(groups), tuple(gain)),
        AdditiveTerms(tuple(groups), tuple(cost)),
    )


def test_a_space_of_ofa_size_takes_no_longer_than_scoring_a_few_million_architectures():
    space, gain, cost = ofa_terms(0)
    sample = space.sample(np.random.default_rng(0), 3000)
    limit = float(np.quantile(cost(sample), 0.3))
    solve(space, gain, [(cost, limit)])
    found = solve(space, gain, [(cost, 0.97 * limit)])
    solving = least_seconds(lambda: solve(space, gain, [(cost, 0.97 * limit)]), 2)
    scoring = least_seconds(lambda: (gain(sample), cost(sample)))
    assert solving < 1000 * scoring  # measured 150; there are 10^19 architectures
    within = sample[cost(sample) <= 0.97 * limit]
    assert gain(found[None])[0] > gain(within).max()


def test_the_sum_of_sums_adds_up():
    space, gain, cost = ofa_terms(1)
    rows = space.sample(np.random.default_rng(0), 20)
    both = total([gain, cost.scaled(2.0)])
    np.testing.assert_allclose(both(rows), gain(rows) + 2 * cost(rows))
