"""Choosing networks for an audit, and finding planted faults in inherited weights."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from supernet.elastic.alternatives import Alternatives
from supernet.elastic.edits import Pick, follow
from supernet.quality import audit
from supernet.quality.evaluate import evaluate
from supernet.space import Architecture, Choice, SearchSpace
from supernet.supernet import InputSpec, Supernet
from supernet.testing.toy_supernets import build_toy_supernet, make_toy_data

SPACE = SearchSpace(
    (
        Choice("size", (1, 2, 3, 4), "width"),
        Choice("depth", (1, 2, 3), "depth"),
        Choice("second.kernel", (3, 5), "kernel", ("depth", 2)),
        Choice("third.kernel", (3, 5, 7), "kernel", ("depth", 3)),
        Choice("third.expand", (1, 2, 3), "expand", ("third.kernel", 5)),
    )
)


def cost(positions: np.ndarray) -> np.ndarray:
    """Grows with every choice."""
    return (positions + 1.0) @ np.array([8.0, 20.0, 3.0, 4.0, 5.0])


def test_networks_cover_the_whole_cost_range_and_follow_the_seed() -> None:
    found = audit.sample_across_costs(SPACE, cost, 10, np.random.default_rng(0))
    costs = cost(SPACE.encode(found))
    assert (found[0], found[-1]) == (SPACE.smallest, SPACE.largest)
    assert len(set(found)) == 10
    assert (np.diff(costs) >= 0).all()
    edges = np.linspace(costs[0], costs[-1], 9)
    inner = costs[1:-1]
    inside = [((inner >= low) & (inner <= high)).any() for low, high in pairwise(edges)]
    assert all(inside), "one network in every part of the range"
    assert found == audit.sample_across_costs(SPACE, cost, 10, np.random.default_rng(0))
    assert found != audit.sample_across_costs(SPACE, cost, 10, np.random.default_rng(1))


def test_the_whole_of_a_small_space_and_no_more() -> None:
    space = SearchSpace((Choice("a", (1, 2), "width"), Choice("b", (1, 2, 3), "width")))

    def flat(positions: np.ndarray) -> np.ndarray:
        return positions.sum(axis=1).astype(float)

    assert len(set(audit.sample_across_costs(space, flat, 6, np.random.default_rng(0)))) == 6
    with pytest.raises(ValueError, match=r"7 networks are more than the search space has \(6\)"):
        audit.sample_across_costs(space, flat, 7, np.random.default_rng(0))


def test_most_of_a_space_larger_than_one_draw_is_found() -> None:
    space = SearchSpace(tuple(Choice(f"c{i}", (1, 2, 3), "operation") for i in range(8)))
    found = audit.sample_across_costs(
        space, lambda p: p.sum(axis=1).astype(float), 4500, np.random.default_rng(0)
    )
    assert len(set(found)) == 4500 < space.size == 6561


def test_every_member_of_a_chain_contains_the_one_before() -> None:
    lengths = set()
    for seed in range(50):
        members = audit.draw_chain(SPACE, np.random.default_rng(seed), 6)
        rows = SPACE.encode(members)
        assert (np.diff(rows, axis=0) >= 0).all()
        assert len(set(members)) == len(members)
        lengths.add(len(members))
    assert max(lengths) == 6


def test_choices_without_an_order_stay_as_they_are_along_a_chain() -> None:
    seen = set()
    for seed in range(20):
        members = audit.draw_chain(SPACE, np.random.default_rng(seed), 6, fixed=["size"])
        assert len({member["size"] for member in members}) == 1
        seen.add(members[0]["size"])
    assert len(seen) > 1


def test_operations_have_no_order() -> None:
    choice = Choice("op", ("a", "b"), "operation")
    model = nn.Sequential(nn.Conv2d(1, 2, 1), Alternatives("b", a=nn.ReLU(), b=nn.Tanh()))
    supernet = Supernet(
        model, SearchSpace((choice,)), (Pick("1", follow(choice, str)),),
        units=("0", "1"), inputs=InputSpec((1, 4, 4), torch.float32),
    )  # fmt: skip
    assert audit.find_unordered_choices(supernet) == {"op"}
    assert audit.find_unordered_choices(build_toy_supernet()) == frozenset()


def nested() -> list[Architecture]:
    """Six networks, each inside the next."""
    space = SearchSpace((Choice("width", (1, 2, 3, 4, 5, 6), "width"),))
    return space.decode(np.arange(6, dtype=np.int16)[:, None])


def test_a_planted_violation_is_found_and_noise_is_not() -> None:
    members = nested()
    rng = np.random.default_rng(0)
    base = rng.normal(size=2000)
    # Each network is 0.1 better than the one inside it; sample noise is shared, as in a split.
    fine = [base + 0.1 * i + 0.2 * rng.normal(size=2000) for i in range(len(members))]
    pairs, found = audit.find_violations(members, fine)
    assert (pairs, found) == (15, [])
    broken = [q - (0.25 if i == 3 else 0.0) for i, q in enumerate(fine)]
    _, found = audit.find_violations(members, broken)
    # 0.3 - 0.25 stands against 0, 0.1 and 0.2: worse than the second and the third.
    assert {(members.index(v.smaller), members.index(v.larger)) for v in found} == {(1, 3), (2, 3)}
    worst = max(found, key=lambda v: v.drop)
    assert worst.drop == pytest.approx(0.15, abs=4 * worst.error)
    assert worst.error == pytest.approx(0.2 * np.sqrt(2 / 2000), rel=0.1)


def test_samples_in_groups_are_compared_by_group() -> None:
    rng = np.random.default_rng(0)
    first, second = nested()[:2]
    groups = torch.arange(100).repeat_interleave(30)
    # Networks of the same quality whose luck is that of a group, and 30 samples share it.
    luck = [np.repeat(rng.normal(size=100), 30) for _ in range(400)]
    wrong = {"grouped": 0, "alone": 0}
    for better, worse in zip(luck[::2], luck[1::2], strict=True):
        for name, known in (("grouped", groups), ("alone", None)):
            wrong[name] += len(audit.find_violations([first, second], [better, worse], known)[1])
    assert wrong["grouped"] <= 0.06 * 200, "one-sided 2.5 %"
    assert wrong["alone"] > 0.2 * 200


def test_chance_makes_few_violations() -> None:
    members = nested()
    total = found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        pairs, wrong = audit.find_violations(members, [rng.normal(size=300) for _ in members])
        total, found = total + pairs, found + len(wrong)
    assert 0.01 < found / total < 0.045, "one-sided 2.5 %"


@pytest.mark.parametrize("name", SPACE.names)
def test_a_probe_changes_one_choice_that_matters(name: str) -> None:
    for seed in range(20):
        lower, higher = audit.draw_pair(SPACE, name, np.random.default_rng(seed))
        choice = SPACE.choice(name)
        assert choice.position(lower[name]) < choice.position(higher[name])
        assert name in lower.to_dict()
        assert name in higher.to_dict()
        others = set(lower.diff(higher)) - {name}
        assert all(_below(other, name) for other in others), "only what depends on it"


def _below(name: str, above: str) -> bool:
    needs = SPACE.choice(name).needs
    return needs is not None and (needs[0] == above or _below(needs[0], above))


@pytest.mark.parametrize("name", SPACE.names)
def test_corners_raise_the_smallest_and_lower_the_largest(name: str) -> None:
    (low, high), (less, most) = audit.pair_corners(SPACE, name)
    choice = SPACE.choice(name)
    assert most == SPACE.largest
    assert (low == SPACE.smallest) == (choice.needs is None)
    for smaller, larger in ((low, high), (less, most)):
        assert (smaller[name], larger[name]) == (choice.values[0], choice.values[-1])
        rows = SPACE.encode([smaller, larger])
        assert (rows[0] <= rows[1]).all()
        assert all(_below(other, name) for other in set(smaller.diff(larger)) - {name})


def test_a_choice_without_effect_is_found() -> None:
    toy = build_toy_supernet()
    idle = Choice("idle", (1, 2, 3), "width")
    space = SearchSpace((*toy.space.choices, idle))
    supernet = Supernet(toy.model, space, toy.edits, units=toy.units, inputs=toy.inputs)
    data = make_toy_data()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        nothing = audit.measure_effect(
            supernet, "idle", audit.draw_pair(space, "idle", rng), data, "val"
        )
        assert (nothing.identical, nothing.output_change, nothing.change) == (True, 0, 0)
        real = audit.measure_effect(
            supernet, "width", audit.draw_pair(space, "width", rng), data, "val"
        )
        assert not real.identical
        assert real.output_change > 0.001


def test_quality_of_losses_has_its_sign_turned() -> None:
    values = np.array([1.0, 2.0])
    data = make_toy_data()
    assert (audit.orient_scores(values, data) == values).all()
    supernet = build_toy_supernet()
    found = audit.measure_quality(supernet, supernet.space.largest, data, "val")
    assert found.shape == (20,)
    assert set(found) <= {0.0, 1.0}


def test_calibration_curve_is_the_quality_after_so_many_batches() -> None:
    data, supernet = make_toy_data(count=600), build_toy_supernet()
    supernet.model.bn.running_mean.fill_(50.0)
    largest = supernet.space.largest
    curve = audit.measure_recalibration(supernet, largest, data, "val")
    assert curve is not None
    assert (curve.batches, curve.batch_size) == ((0, 1, 2, 4, 8), 64)
    for count, value in zip(curve.batches[1:], curve.values[1:], strict=True):
        found = evaluate(
            supernet, largest, data, "val", calibration_samples=64 * count, batch_size=64
        )
        assert value == found.value
    assert curve.values[0] == pytest.approx(1 / 3, abs=0.01), "a dead network says one class"
    assert supernet.model.bn.running_mean[0] == 50.0, "the supernet is left alone"


def test_a_network_without_statistics_needs_no_calibration() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    supernet = Supernet(
        model, SearchSpace(()), (), units=(), inputs=InputSpec((1, 6, 6), torch.float32)
    )
    assert (
        audit.measure_recalibration(supernet, supernet.space.smallest, make_toy_data(), "val")
        is None
    )


def test_settling_looks_at_everything_that_comes_after() -> None:
    right, wrong = np.ones(400), np.r_[np.zeros(100), np.ones(300)]
    counts = (0, 1, 2, 4)
    assert audit._find_settled(counts, [wrong, right, right, right]) == 1
    assert audit._find_settled(counts, [right, right, wrong, right]) is None
    assert audit._find_settled(counts, [right, right, right, right]) == 0
