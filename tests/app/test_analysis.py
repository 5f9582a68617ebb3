"""Importance, prevalence and devices, against closed forms and second implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from app.analysis.common_choices import compare_prevalence, list_shared
from app.analysis.devices import (
    KnownLatencies,
    correlate_devices,
    join_latencies,
    measure_drift,
    rank_with_ties,
)
from app.analysis.importance import LEAST_ROWS, MOST_ROWS, fit_main_effects
from app.analysis.positions import Encoded, encode_choices
from app.records.columns.choice_columns import tabulate_choices
from supernet.space import Choice, SearchSpace
from tests.toys.explored_runs import small_space


def draw(space: SearchSpace, count: int, seed: int = 0) -> Encoded:
    rows = space.sample(np.random.default_rng(seed), count)
    return Encoded(rows, space.active(rows), np.ones(count, dtype=np.bool_))


def flat_space(choices: int = 3, values: int = 3) -> SearchSpace:
    legal = tuple(range(1, values + 1))
    return SearchSpace(tuple(Choice(f"part{i}.width", legal, "width") for i in range(choices)))


# -- positions -------------------------------------------------------------------------------------


def test_choices_of_files_are_encoded_as_the_space_does() -> None:
    space = small_space()
    rows = space.sample(np.random.default_rng(1), 200)
    members = space.decode(rows)
    found = encode_choices(space, tabulate_choices([member.to_dict() for member in members]))
    assert found.known.all()
    assert (found.rows == rows).all()
    assert (found.active == space.active(rows)).all()


def test_what_the_space_does_not_know_is_marked() -> None:
    space = small_space()
    good = space.largest.to_dict()
    lacking = {name: value for name, value in good.items() if name != "stage2.block2.kernel"}
    odd = {**good, "stage1.block1.kernel": 7}
    further = {**good, "of another space": 1}
    found = encode_choices(space, tabulate_choices([good, lacking, odd, further]))
    assert found.known.tolist() == [True, False, False, True]
    assert len(encode_choices(space, tabulate_choices([])).known) == 0


# -- importance ------------------------------------------------------------------------------------


def test_effects_of_a_sum_are_its_terms() -> None:
    space = flat_space()
    encoded = draw(space, 4000)
    terms = np.array([[0.0, 1.0, 4.0], [0.0, -0.5, -1.0], [0.0, 0.0, 0.0]])
    sizes = [terms[i][encoded.rows[:, i]] for i in range(3)]
    noise = 0.3 * np.random.default_rng(2).standard_normal(4000)
    values = 10 + sum(sizes) + noise
    found = fit_main_effects(space, encoded, values, np.full(4000, 0.3))
    assert found is not None
    for i, effect in enumerate(found.choices):
        assert effect.share == pytest.approx(np.var(sizes[i]) / np.var(values), abs=0.02)
        assert np.diff(effect.means) == pytest.approx(np.diff(terms[i]), abs=0.05)
        assert effect.counts.sum() == 4000
    assert found.explained == pytest.approx(sum(effect.share for effect in found.choices))
    assert found.explained == pytest.approx(1 - 0.09 / np.var(values), abs=0.01)
    assert found.noise == pytest.approx(0.09 / np.var(values))
    assert next(effect.name for effect in found.rank()) == "part0.width"


def test_intervals_hold_the_true_effect_as_often_as_they_say() -> None:
    space = flat_space()
    inside = []
    for seed in range(60):
        encoded = draw(space, 300, seed)
        rng = np.random.default_rng(seed + 1000)
        values = encoded.rows[:, 0] * 0.2 + rng.standard_normal(300)
        found = fit_main_effects(space, encoded, values)
        assert found is not None
        effect = found.choices[0]
        # Means are about the level of what was evaluated, which the truth is shifted to.
        truth = 0.2 * np.arange(3) - 0.2 * encoded.rows[:, 0].mean() + values.mean()
        inside += ((effect.low <= truth) & (truth <= effect.high)).tolist()
    assert 0.9 <= np.mean(inside) <= 0.99


def test_a_depth_owns_what_its_blocks_bring() -> None:
    space = small_space()
    encoded = draw(space, 3000)
    depth, expand = space.index("stage1.depth"), space.index("stage1.block2.expand")
    third = encoded.active[:, expand] & (encoded.rows[:, expand] == 2)
    found = fit_main_effects(space, encoded, 1.0 + 2.0 * encoded.rows[:, depth] + 0.6 * third)
    assert found is not None
    effects = {effect.name: effect for effect in found.choices}
    # A block that is there brings 2 and, in a third of the cases, 0.6.
    assert np.diff(effects["stage1.depth"].means)[0] == pytest.approx(2.2, abs=0.03)
    inner = effects["stage1.block2.expand"].means
    assert inner - inner[0] == pytest.approx([0, 0, 0.6], abs=0.02)
    assert inner.mean() == pytest.approx(3.2, abs=0.02), "the level of networks with the block"
    assert found.explained == pytest.approx(1.0, abs=1e-3)


def test_what_choices_do_together_is_the_rest() -> None:
    space = flat_space(choices=2, values=2)
    encoded = draw(space, 2000)
    values = (encoded.rows[:, 0] == encoded.rows[:, 1]).astype(float)
    found = fit_main_effects(space, encoded, values)
    assert found is not None
    assert abs(found.explained) < 0.02


def test_nothing_but_noise_explains_nothing() -> None:
    space = small_space()
    encoded = draw(space, 60)
    values = np.random.default_rng(3).standard_normal(60)
    found = fit_main_effects(space, encoded, values)
    assert found is not None
    assert found.explained < 0.1


def test_too_little_is_said_to_be_nothing() -> None:
    space = small_space()
    encoded = draw(space, 40)
    assert fit_main_effects(space, encoded, np.ones(40)) is None
    values = np.random.default_rng(0).standard_normal(40)
    values[LEAST_ROWS - 1 :] = np.nan
    assert fit_main_effects(space, encoded, values) is None


def test_a_value_nobody_has_is_unknown() -> None:
    space = flat_space(choices=2)
    encoded = draw(space, 200)
    encoded.rows[:, 1] = np.minimum(encoded.rows[:, 1], 1)
    values = np.random.default_rng(0).standard_normal(200)
    found = fit_main_effects(space, encoded, values)
    assert found is not None
    assert np.isnan(found.choices[1].means).tolist() == [False, False, True]
    assert found.choices[1].counts[2] == 0


def test_many_rows_are_thinned_and_counted() -> None:
    space = flat_space(choices=2)
    encoded = draw(space, MOST_ROWS + 5000)
    found = fit_main_effects(space, encoded, encoded.rows[:, 0].astype(float))
    assert found is not None
    assert (found.rows, found.of) == (MOST_ROWS, MOST_ROWS + 5000)


# -- what a front has in common --------------------------------------------------------------------


def test_prevalence_is_counted_and_its_chance_is_hypergeometric() -> None:
    space = flat_space(choices=2)
    encoded = draw(space, 500)
    members = (encoded.rows[:, 0] == 2) & (np.arange(500) % 4 == 0)
    found = compare_prevalence(space, encoded, members)
    (first, *_) = found
    hits = int(members.sum())
    assert (first.name, first.value, first.share) == ("part0.width", 3, 1.0)
    assert first.population == (encoded.rows[:, 0] == 2).sum()
    tests = sum(len(set(encoded.rows[members, i].tolist())) for i in range(2))
    single = stats.hypergeom.sf(hits - 1, 500, first.population, hits)
    assert first.chance == pytest.approx(tests * single, rel=1e-6)
    assert first in list_shared(found)
    assert all(one.name == "part0.width" for one in list_shared(found))


def test_only_networks_with_a_block_count_for_its_choices() -> None:
    space = small_space()
    encoded = draw(space, 400)
    kernel = space.index("stage1.block2.kernel")
    members = np.arange(400) < 50
    for one in compare_prevalence(space, encoded, members):
        if one.name == "stage1.block2.kernel":
            assert one.of_population == encoded.active[:, kernel].sum()
            assert one.of_members == encoded.active[:50, kernel].sum()


def test_a_front_drawn_at_random_has_little_in_common() -> None:
    space = small_space()
    significant = 0
    for seed in range(40):
        encoded = draw(space, 300, seed)
        members = np.random.default_rng(seed).permutation(300) < 30
        significant += compare_prevalence(space, encoded, members)[0].chance < 0.05
    assert significant <= 5


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_tails_agree_with_scipy(data: st.DataObject) -> None:
    from app.analysis.common_choices import _sum_logarithms, _tail

    total = data.draw(st.integers(1, 300))
    marked = data.draw(st.integers(1, total))
    drawn = data.draw(st.integers(1, total))
    hits = data.draw(st.integers(max(0, drawn + marked - total), min(drawn, marked)))
    expected = stats.hypergeom.sf(hits - 1, total, marked, drawn)
    assert _tail(_sum_logarithms(total), hits, drawn, marked, total) == pytest.approx(
        expected, rel=1e-6, abs=1e-12
    )


# -- devices ---------------------------------------------------------------------------------------


def known(digests: list[str], **latencies: Any) -> KnownLatencies:
    return KnownLatencies(
        np.array(digests), {name: np.array(found) for name, found in latencies.items()}
    )


def test_devices_are_joined_by_architecture() -> None:
    nan = np.nan
    joined = join_latencies(
        [
            known(["a", "b", "c"], cpu=[1.0, nan, 3.0]),
            known(["c", "d"], phone=[30.0, 40.0]),
            known(["b", "a"], cpu=[2.0, 9.0]),
        ]
    )
    assert joined.devices == ("cpu", "phone")
    table = dict(zip(joined.digests, joined.latency_ms.tolist(), strict=True))
    assert table["a"][0] == 1.0, "the first known latency counts"
    assert table["b"][0] == 2.0
    assert table["c"] == [3.0, 30.0]
    assert np.isnan(table["d"][0])


def test_rank_correlations_agree_with_scipy_and_say_their_count() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 12, 80).astype(float)
    other = base + 4 * rng.standard_normal(80)
    other[:10] = np.nan
    digests = [str(i) for i in range(80)]
    (found,) = correlate_devices(join_latencies([known(digests, a=base, b=other)]))
    assert found.networks == 70
    assert found.spearman == pytest.approx(stats.spearmanr(base[10:], other[10:]).statistic)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.spearman < found.high


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30))
@settings(deadline=None)
def test_ranks_share_ties(values: list[int]) -> None:
    found = rank_with_ties(np.array(values, dtype=np.float64))
    assert found.tolist() == stats.rankdata(values).tolist()


def test_devices_without_networks_in_common_have_no_correlation() -> None:
    (found,) = correlate_devices(join_latencies([known(["x"], a=[1.0]), known(["y"], b=[1.0])]))
    assert (found.spearman, found.networks) == (None, 0)
    same = np.ones(9)
    digests = [str(i) for i in range(9)]
    (flat,) = correlate_devices(join_latencies([known(digests, a=same, b=np.arange(9.0))]))
    assert flat.spearman is None
    assert correlate_devices(join_latencies([])) == ()


def test_drift_is_the_median_ratio_of_what_was_measured_twice() -> None:
    drift = measure_drift({"a": 1.0, "b": 2.0, "c": 4.0, "d": 1.0}, {"a": 1.1, "b": 2.2, "c": 6.0})
    assert drift is not None
    assert (drift.networks, drift.ratio) == (3, pytest.approx(1.1))
    assert (drift.low, drift.high) == (pytest.approx(1.1), pytest.approx(1.5))
    assert measure_drift({"a": 1.0}, {"b": 1.0}) is None
