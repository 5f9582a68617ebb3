"""What goes next in a round, and what waits."""

from __future__ import annotations

import numpy as np
import pytest

from app.evaluation.round_queue import RoundQueue


def take_all(queue: RoundQueue) -> list[int]:
    found = []
    while (index := queue.take()) is not None:
        found.append(index)
    return found


def start_queue(length: int) -> RoundQueue:
    """A queue of depth 3 whose first three places are taken."""
    queue = RoundQueue(length, depth=3)
    assert take_all(queue) == [0, 1, 2]
    return queue


def test_places_go_in_order_as_deep_as_allowed():
    queue = start_queue(5)
    queue.finish(1)
    assert take_all(queue) == [3]
    for index in (0, 2, 3):
        queue.finish(index)
    assert not queue.is_done
    assert take_all(queue) == [4]
    queue.finish(4)
    assert queue.is_done
    assert queue.take() is None


def test_a_round_of_nothing_is_done():
    assert RoundQueue(0, depth=1).is_done


def test_a_place_waits_for_all_that_lie_the_lag_before_it():
    queue = RoundQueue(6, depth=6, lag=2)
    assert take_all(queue) == [0, 1], "place 2 may race against place 0, which is not done"
    queue.finish(1)
    assert take_all(queue) == [], "it is place 0 that counts"
    queue.finish(0)
    assert take_all(queue) == [2, 3]


def test_what_was_lost_goes_first_and_in_order():
    queue = start_queue(6)
    queue.finish(0)
    assert take_all(queue) == [3]
    for index in (3, 1, 2):
        queue.put_back(index)
    assert take_all(queue) == [1, 2, 3]


def test_what_was_lost_obeys_the_lag():
    queue = RoundQueue(4, depth=4, lag=2)
    assert take_all(queue) == [0, 1]
    queue.finish(0)
    assert take_all(queue) == [2]
    queue.put_back(1)
    queue.put_back(2)
    assert take_all(queue) == [1, 2]
    queue.put_back(2)
    queue.finish(1)
    assert take_all(queue) == [2, 3]


def test_only_what_was_taken_can_be_finished_or_lost():
    queue = RoundQueue(2, depth=1)
    with pytest.raises(KeyError):
        queue.finish(0)
    with pytest.raises(KeyError):
        queue.put_back(1)


@pytest.mark.parametrize("lag", [None, 1, 3])
@pytest.mark.parametrize("seed", range(20))
def test_every_round_ends_whatever_finishes_or_is_lost(seed: int, lag: int | None):
    rng = np.random.default_rng(seed)
    queue = RoundQueue(12, depth=4, lag=lag)
    flying: list[int] = []
    finished: set[int] = set()
    while not queue.is_done:
        for index in take_all(queue):
            if lag is not None:
                assert set(range(index - lag + 1)) <= finished
            flying.append(index)
        assert 0 < len(flying) <= 4
        index = flying.pop(int(rng.integers(len(flying))))
        if rng.random() < 0.3:
            queue.put_back(index)
        else:
            queue.finish(index)
            finished.add(index)
    assert finished == set(range(12))
