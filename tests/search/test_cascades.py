"""Cascades of two networks against the brute force over all thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from search.cascades import (
    OperatingPoints,
    answer_together,
    choose_within,
    list_best,
    list_operating_points,
)
from supernet.errors import InputError


def draw(seed: int, networks: int = 4, samples: int = 23):
    """Answers, confidences with ties, and latencies."""
    rng = np.random.default_rng(seed)
    right = rng.random((networks, samples)) < np.linspace(0.5, 0.9, networks)[:, None]
    # Few levels, so that many samples have the same confidence.
    confidence = rng.integers(0, 8, (networks, samples)) / 7
    return right, confidence, np.sort(rng.random(networks)) + 0.1


def list_all(right, confidence, latencies, going_on=None) -> list[tuple[float, float, float]]:
    """Mean latency, 95th percentile and accuracy at every threshold, sample by sample."""
    found = []
    if going_on is None:
        going_on = np.tile(latencies, (len(latencies), 1))
    for small in range(len(right)):
        found.append((latencies[small], latencies[small], right[small].mean()))
        for large in range(len(right)):
            for threshold in np.unique(confidence[small]):
                hits, times = [], []
                for sample in range(right.shape[1]):
                    asks = confidence[small, sample] < threshold
                    hits.append(right[large if asks else small, sample])
                    times.append(latencies[small] + (going_on[small, large] if asks else 0))
                rank = int(np.ceil(0.95 * len(times))) - 1
                found.append((np.mean(times), sorted(times)[rank], np.mean(hits)))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_nothing_better_was_left_out(seed: int) -> None:
    given = draw(seed)
    points, every = list_operating_points(*given), list_all(*given)
    for budget in np.linspace(0.1, 2.5, 40):
        for column, percentile in ((0, None), (1, 95.0)):
            within = [one[2] for one in every if one[column] <= budget + 1e-12]
            place = choose_within(points, budget + 1e-12, percentile)
            if not within:
                assert place is None
            else:
                assert place is not None
                assert points.accuracy[place] == pytest.approx(max(within), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_going_on_may_cost_less_than_the_other_network(seed: int) -> None:
    right, confidence, latencies = draw(seed)
    rest = latencies * np.random.default_rng(seed).uniform(0.3, 1, (4, 4))
    given = (right, confidence, latencies, rest)
    points, every = list_operating_points(*given), list_all(*given)
    for budget in np.linspace(0.1, 2.5, 40):
        within = [accuracy for mean, _, accuracy in every if mean <= budget + 1e-12]
        place = choose_within(points, budget + 1e-12)
        assert (place is None) == (not within)
        if place is not None:
            assert points.accuracy[place] == pytest.approx(max(within), abs=1e-12)
    front, plain = list_best(points), list_best(list_operating_points(*given[:3]))
    # A sample that is asked twice takes less, so that no point of the plain front is lost.
    for mean, accuracy in zip(plain.mean, plain.accuracy, strict=True):
        assert front.accuracy[front.mean <= mean + 1e-12].max() >= accuracy - 1e-12


@pytest.mark.parametrize("seed", range(6))
def test_points_are_what_their_thresholds_do(seed: int) -> None:
    right, confidence, latencies = draw(seed)
    points = list_operating_points(right, confidence, latencies)
    assert len(points) > len(right)
    for i in range(len(points)):
        small, large = points.small[i], points.large[i]
        hits, share = answer_together(right[[small, large]], confidence[small], points.threshold[i])
        assert hits.mean() == pytest.approx(points.accuracy[i], abs=1e-12)
        assert share == pytest.approx(points.continued[i], abs=1e-12)
        expected = latencies[small] + (share * latencies[large] if share else 0)
        assert points.mean[i] == pytest.approx(expected)


def test_the_front_is_that_of_brute_force() -> None:
    given = draw(11)
    front = list_best(list_operating_points(*given))
    every = list_all(*given)
    assert (np.diff(front.mean) > 0).all()
    assert (np.diff(front.accuracy) > 0).all()
    for latency, accuracy in zip(front.mean, front.accuracy, strict=True):
        beats = [a for t, _, a in every if t <= latency + 1e-12]
        assert accuracy == pytest.approx(max(beats), abs=1e-12)


def test_percentiles_of_two_latencies() -> None:
    one = np.array([0])
    points = OperatingPoints(one, one + 1, *(np.array([x]) for x in (0.9, 0.05, 0.8, 1.0, 4.0)))
    assert points.mean[0] == pytest.approx(1.15)
    assert [float(points.find_percentile(p)[0]) for p in (50, 95, 95.1, 99, 100)] == [1, 1, 4, 4, 4]


def test_a_perfectly_calibrated_small_network_needs_the_large_one_for_its_mistakes_alone() -> None:
    right = np.array([[True, True, True, False], [True, True, True, True]])
    confidence = np.array([[0.9, 0.8, 0.7, 0.2], [1, 1, 1, 1]])
    front = list_best(list_operating_points(right, confidence, np.array([1.0, 10.0])))
    assert front.accuracy.tolist() == [0.75, 1.0]
    assert front.mean.tolist() == [1.0, 3.5]
    assert front.threshold.tolist() == pytest.approx([0.0, 0.45])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confidence": np.full((2, 3), 1.5)}, "confidences must be probabilities"),
        ({"latencies": np.array([1.0, 0.0])}, "latencies must be numbers above 0"),
        ({"continuing": np.ones(2)}, "not those from each of 2 networks to each"),
        ({"continuing": np.zeros((2, 2))}, "latencies of going on must be numbers above 0"),
        ({"latencies": np.ones(3)}, "not of the same networks and samples"),
        ({"right": np.zeros((2, 0), dtype=bool)}, "at least one network to one sample"),
    ],
)
def test_impossible_answers(change: dict, message: str) -> None:
    given = {
        "right": np.zeros((2, 3), dtype=bool),
        "confidence": np.full((2, 3), 0.5),
        "latencies": np.ones(2),
    }
    with pytest.raises(InputError, match=message):
        list_operating_points(**(given | change))


def test_impossible_thresholds_and_percentiles() -> None:
    right, confidence, latencies = draw(0)
    with pytest.raises(InputError, match=r"a threshold of 1\.2 is impossible"):
        answer_together(right[:2], confidence[0], 1.2)
    points = list_operating_points(right, confidence, latencies)
    with pytest.raises(InputError, match="percentile 0 is impossible"):
        choose_within(points, 1.0, 0)
