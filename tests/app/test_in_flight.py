"""What is in flight: findings in order, and a pool that dies once, or twice."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import pytest

from app.evaluation.in_flight import InFlight
from app.evaluation.worker import Finding, Task

DEATH = BrokenProcessPool("a process was terminated abruptly")


def finding(value: float) -> Finding:
    return Finding("accuracy", "fraction", value, value, value, 10, 10, 0, 0.1)


class Scripted:
    """A pool whose tasks end as a script says: a value, an error, or not at all (``None``)."""

    width = 4

    def __init__(self, script: Mapping[str, float | Exception | None]) -> None:
        self.script, self.restarts = dict(script), 0
        self.open: dict[str, Future[Finding]] = {}

    def submit(self, task: Task) -> Future[Finding]:
        future: Future[Finding] = Future()
        name = str(task.choices["name"])
        self.open[name] = future
        self.end(name, self.script.get(name))
        return future

    def end(self, name: str, how: float | Exception | None) -> None:
        if isinstance(how, Exception):
            self.open.pop(name).set_exception(how)
        elif how is not None:
            self.open.pop(name).set_result(finding(how))

    def restart(self) -> None:
        self.restarts += 1

    def close(self) -> None:
        pass


def submit(flying: InFlight, names: str, first: int = 0) -> None:
    for index, name in enumerate(names, start=first):
        flying.submit(index, f"digest-{name}", Task({"name": name}))


def collect(flying: InFlight) -> list[tuple[int, float | None]]:
    return [(index, found and found.value) for index, found in flying.collect()]


def test_findings_come_lowest_place_first_and_once():
    pool = Scripted({"a": 0.1, "b": None, "c": 0.3})
    flying = InFlight(pool)
    submit(flying, "abc")
    assert collect(flying) == [(0, 0.1), (2, 0.3)]
    pool.end("b", 0.2)
    assert collect(flying) == [(1, 0.2)]
    assert collect(flying) == [], "nothing flies, so nothing is waited for"


def test_what_is_done_is_kept_when_workers_die_and_the_rest_is_lost():
    pool = Scripted({"a": DEATH, "b": None, "c": 0.3})
    flying = InFlight(pool)
    submit(flying, "abc")
    assert collect(flying) == [(2, 0.3), (0, None), (1, None)]
    assert pool.restarts == 1
    pool.script = {"a": 0.1, "b": 0.2}
    submit(flying, "ab")
    assert collect(flying) == [(0, 0.1), (1, 0.2)]


def test_a_second_death_names_what_was_in_flight():
    pool = Scripted({"a": DEATH, "b": DEATH})
    flying = InFlight(pool)
    submit(flying, "ab")
    assert collect(flying) == [(0, None), (1, None)]
    submit(flying, "ab")
    with pytest.raises(ValueError, match=r"died twice .* while digest-a, digest-b were") as error:
        collect(flying)
    assert error.value.__cause__ is DEATH
    assert pool.restarts == 1


def test_a_death_on_ray_is_known_by_its_name():
    class ActorDiedError(Exception):
        pass

    pool = Scripted({"a": ActorDiedError()})
    flying = InFlight(pool)
    submit(flying, "a")
    assert collect(flying) == [(0, None)]


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_what_a_worker_says_is_no_death(kind: type[Exception]):
    pool = Scripted({"a": 0.1, "b": kind("the run has other weights by now")})
    flying = InFlight(pool)
    submit(flying, "ab")
    arrivals = flying.collect()
    first = next(arrivals)
    assert first == (0, finding(0.1)), "what was done before can still be stored"
    with pytest.raises(kind, match="other weights by now"):
        next(arrivals)
    assert pool.restarts == 0


def test_workers_that_died_before_the_next_task_is_handed_over_are_restarted():
    class Dead(Scripted):
        def submit(self, task):
            if not self.restarts:
                raise DEATH
            return super().submit(task)

    pool = Dead({"a": 0.1, "b": 0.2})
    flying = InFlight(pool)
    submit(flying, "ab")
    assert collect(flying) == [(0, None), (1, None)]
    assert pool.restarts == 1
    submit(flying, "ab")
    assert collect(flying) == [(0, 0.1), (1, 0.2)]


def test_what_a_pool_refuses_for_another_reason_is_not_hidden():
    class Strict(Scripted):
        def submit(self, task):
            raise TypeError("no such task")

    with pytest.raises(TypeError, match="no such task"):
        submit(InFlight(Strict({})), "a")
