"""Parallel and raced evaluation: values in the order asked, whoever finishes first or dies."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
import torch

from app.evaluation.choose_pool import open_pool
from app.evaluation.log import EvaluationLog
from app.evaluation.pools import InlinePool, ProcessPool
from app.evaluation.race_bounds import RaceRule
from app.evaluation.round_work import evaluate_together
from app.evaluation.scheduler import WHOLE_ROUND, Evaluator
from app.evaluation.worker import Finding, Task, work
from app.records.evaluation import EvaluationRecord
from app.records.typed_json.record_files import read_log
from app.runs.directory import open_run
from app.runs.trained import Trained, open_trained
from search import History, Objective, SearchProblem, SearchResult, pareto_front, search
from search.strategies import random_search
from supernet.data import open_data
from supernet.quality.evaluate import evaluate
from tests.app.training import train_run

RULE = RaceRule(lag=4, error=1e-3)


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("evaluator") / "run", steps=60)


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def opened(run: Path) -> EvaluationLog:
    return EvaluationLog(open_trained(open_run(run), lambda _: None), print, calibration_samples=64)


def problem_of(trained: Trained, *names: str) -> SearchProblem:
    costs = trained.cost_model

    def never(rows: np.ndarray) -> np.ndarray:
        raise AssertionError("the evaluator evaluates")

    objectives = [Objective("accuracy", "fraction", "maximize", never, "evaluated")]
    for name in names or ("macs",):
        objectives.append(Objective(name, "", "minimize", getattr(costs, name), "analytic"))
    return SearchProblem(trained.supernet.space, tuple(objectives))


def searched(
    log: EvaluationLog, evaluator: Evaluator, evaluations: int = 24, seed: int = 0
) -> SearchResult:
    result = search(
        evaluator.problem, random_search.RandomSearch(batch=12), evaluations=evaluations, seed=seed,
        evaluate_batch=evaluator.evaluate_batch, chunk=WHOLE_ROUND, known=evaluator.list_known(),
    )  # fmt: skip
    return evaluator.settle(result)


class Backwards:
    """A pool where what was submitted last finishes first, as soon as nothing more comes."""

    def __init__(self, log: EvaluationLog, width: int = 3) -> None:
        self.width, self.restarts, self.order = width, 0, []
        self._log = log
        self._held: list[tuple[Future[Finding], Task]] = []
        self._lock = threading.Lock()

    def submit(self, task: Task) -> Future[Finding]:
        future: Future[Finding] = Future()
        with self._lock:
            self._held.append((future, task))
            full = len(self._held) == self.width
        threading.Timer(0.0 if full else 0.3, self._finish, [full]).start()
        return future

    def _finish(self, full: bool) -> None:
        log = self._log
        with self._lock:
            held, self._held = self._held, []
            for future, task in reversed(held):
                self.order.append(task.choices)
                future.set_result(work(log.trained, log.caches, log.calibration_samples, task))

    def restart(self) -> None:
        self.restarts += 1

    def close(self) -> None:
        pass


def test_values_come_back_in_the_order_asked(run: Path) -> None:
    log = opened(run)
    problem = problem_of(log.trained)
    rows = problem.space.sample(np.random.default_rng(0), 7)
    with Evaluator(problem, log, pool=(pool := Backwards(log))) as evaluator:
        found = evaluator.evaluate_batch(rows)["accuracy"]
    architectures = problem.space.decode(rows)
    assert pool.order != [a.to_dict() for a in architectures], "finished out of order"
    data = open_data("digits")
    for architecture, value in zip(architectures, found, strict=True):
        direct = evaluate(log.trained.supernet, architecture, data, calibration_samples=64)
        assert value == direct.value
        record = log.find(architecture, "val")
        assert record is not None
        assert (record.value, record.low, record.high) == (
            direct.value, direct.low, direct.high,
        )  # fmt: skip
        assert "scores" not in record, "only races need them"
    assert len(opened(run).known("val")) == 7, "all are on disk"


@pytest.mark.exactness
@pytest.mark.parametrize("rule", [None, RULE])
def test_who_finishes_first_changes_nothing(
    run: Path, tmp_path: Path, rule: RaceRule | None
) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    results = []
    for path, backwards in ((run, False), (other, True)):
        log = opened(path)
        pool = Backwards(log) if backwards else None
        with Evaluator(problem_of(log.trained), log, pool=pool, rule=rule) as evaluator:
            results.append(searched(log, evaluator))
            assert (len(evaluator.stopped) > 0) == (rule is not None)
    assert np.array_equal(results[0].history.positions, results[1].history.positions)
    assert np.array_equal(results[0].history.values, results[1].history.values)


@pytest.mark.exactness
@pytest.mark.parametrize(
    ("names", "seed"), [(("macs",), 0), (("macs", "parameters"), 2), (("parameters",), 3)]
)
def test_early_stops_leave_the_front_as_it_is(
    run: Path, tmp_path: Path, names: tuple[str, ...], seed: int
) -> None:
    plain, raced = opened(run), opened(Path(shutil.copytree(run, tmp_path / "raced")))
    with Evaluator(problem_of(plain.trained, *names), plain) as evaluator:
        expected = searched(plain, evaluator, seed=seed)
        assert evaluator.saved_share == 0
    with Evaluator(problem_of(raced.trained, *names), raced, rule=RULE) as evaluator:
        found = searched(raced, evaluator, seed=seed)
    # Random search asks for the same architectures whatever it is told.
    assert np.array_equal(found.history.positions, expected.history.positions)
    assert np.array_equal(found.front.rows, expected.front.rows)
    assert np.array_equal(found.front.values, expected.front.values)
    assert evaluator.stopped, "nothing was stopped, so nothing was tested"
    assert 0 < evaluator.saved_share < 1
    rows = [row.tobytes() for row in found.history.positions]
    assert not {rows[i] for i in found.front.rows} & set(evaluator.stopped)
    for i, row in enumerate(rows):
        bound = evaluator.stopped.get(row)
        truth = expected.history.values[i, 0]
        if bound is None:
            assert found.history.values[i, 0] == truth, "whole values are the same to the bit"
        else:
            assert bound.low <= truth <= bound.high
            assert found.history.values[i, 0] == bound.estimate


def test_records_of_stopped_candidates_say_so(run: Path) -> None:
    log = opened(run)
    with Evaluator(problem_of(log.trained), log, rule=RULE) as evaluator:
        searched(log, evaluator)
    kept = read_log(run / "evaluations.jsonl", EvaluationRecord, print)
    stopped = [record for record in kept if record.stopped]
    assert len(stopped) == len(evaluator.stopped)
    total = len(log.trained.data.val)
    for record in stopped:
        assert record.fidelity == record.samples / total < 1
        assert record.low <= record.value <= record.high
        seen = record.unpack_scores()
        assert seen is not None
        assert len(seen) == record.samples
        architecture = log.trained.supernet.space.architecture(record.architecture)
        assert log.find(architecture, "val") is None, "an estimate is no evaluation"
        assert log.find(architecture, "val", stopped=True) == record
    whole = [record for record in kept if not record.stopped]
    assert all(
        r.fidelity == 1 and r.unpack_scores().mean() == pytest.approx(r.value_or_nan) for r in whole
    )
    assert len(log.known("val")) == len(whole)


def test_a_raced_search_continues_exactly(run: Path) -> None:
    log = opened(run)
    with Evaluator(problem_of(log.trained), log, rule=RULE) as evaluator:
        expected = searched(log, evaluator)
    path = run / "evaluations.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:15]))
    again = opened(run)
    with Evaluator(problem_of(again.trained), again, rule=RULE) as evaluator:
        found = searched(again, evaluator)
        assert evaluator.reused == 15
    assert np.array_equal(found.history.values, expected.history.values)
    # The checksum of a line covers its times, too.
    times = ("seconds", "at", "checksum")
    before, after = (
        [{k: v for k, v in json.loads(line).items() if k not in times} for line in log]
        for log in (lines, path.read_text().splitlines())
    )
    assert after == before


def test_a_stopped_candidate_that_could_reach_the_front_is_finished(run: Path) -> None:
    log = opened(run)
    with Evaluator(problem_of(log.trained), log, rule=RULE) as evaluator:
        result = searched(log, evaluator)
        key, bound = next(iter(evaluator.stopped.items()))
        index = [row.tobytes() for row in result.history.positions].index(key)
        # As if its rival had failed in hindsight: nothing that dominates it is left.
        points = evaluator.problem.minimised(result.history.values)
        dominating = (points <= points[index]).all(axis=1)
        dominating[index] = False
        values = result.history.values.copy()
        values[dominating, 0] = np.nan
        history = result.history
        broken = History(history.names, history.positions, values, history.batches)
        front = pareto_front(evaluator.problem, broken)
        fake = SearchResult(broken, front, result.reference, result.trace, {}, "evaluations")
        settled = evaluator.settle(fake)
    architecture = log.trained.supernet.space.decode(history.positions[index][None])[0]
    record = log.find(architecture, "val")
    assert record is not None, "finished"
    assert settled.history.values[index, 0] == record.value_or_nan != bound.estimate
    assert key not in evaluator.stopped


def test_failures_are_kept_with_their_reason(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(run)
    problem = problem_of(log.trained)
    rows = problem.space.sample(np.random.default_rng(0), 3)
    bad = problem.space.decode(rows)[1]
    extract = log.trained.supernet.extract

    def fails(architecture: object) -> torch.nn.Module:
        if architecture == bad:
            raise RuntimeError("size mismatch\nin layer 3")
        return extract(architecture)

    monkeypatch.setattr(log.trained.supernet, "extract", fails)
    with Evaluator(problem, log) as evaluator:
        found = evaluator.evaluate_batch(rows)["accuracy"]
    assert np.isnan(found).tolist() == [False, True, False]
    record = opened(run).find(bad, "val")
    assert record is not None
    assert record.value is None
    assert record.failure == "RuntimeError: size mismatch in layer 3"


@pytest.mark.parametrize("rule", [None, RULE])
def test_outputs_that_are_no_numbers_are_failures(run: Path, rule: RaceRule | None) -> None:
    log = opened(run)
    problem = problem_of(log.trained)
    with torch.no_grad():
        next(p for n, p in log.trained.supernet.named_parameters() if p.ndim > 1).fill_(math.nan)
    rows = problem.space.sample(np.random.default_rng(0), 2)
    with Evaluator(problem, log, rule=rule) as evaluator:
        found = evaluator.evaluate_batch(rows)["accuracy"]
    assert np.isnan(found).all(), "the first class would be right for a tenth of the digits"
    record = log.find(problem.space.decode(rows)[0], "val")
    assert record is not None
    assert "not finite" in record.failure


@pytest.mark.slow
@pytest.mark.exactness
@pytest.mark.parametrize("dies", [False, True])
def test_records_of_several_splits_come_back_in_the_order_asked(
    run: Path, tmp_path: Path, dies: bool
) -> None:
    """Whoever finishes first or dies, each is looked up or evaluated, stored and counted once."""
    other = opened(Path(shutil.copytree(run, tmp_path / "other")))
    log = opened(run)
    rows = log.trained.supernet.space.sample(np.random.default_rng(0), 5)
    networks = log.trained.supernet.space.decode(rows)
    wanted = [(a, split) for a, split in zip(networks, ["val", "test"] * 3, strict=False)]
    log.evaluate(*wanted[2])
    pool = Dying(log) if dies else Backwards(log)
    counted: list[int] = []
    found = evaluate_together(log, pool, wanted, lambda: counted.append(1))
    assert [(r.digest, r.split) for r in found] == [(a.digest, split) for a, split in wanted]
    assert len(counted) == 5
    assert pool.restarts == dies
    inline = InlinePool(other.trained, other.caches, other.calibration_samples)
    alone = evaluate_together(other, inline, wanted, lambda: None)
    times = {"seconds", "at"}
    assert [r.model_dump(exclude=times) for r in found] == [
        r.model_dump(exclude=times) for r in alone
    ]
    kept = read_log(run / "evaluations.jsonl", EvaluationRecord, print)
    assert sorted((r.digest, r.split) for r in kept) == sorted((a.digest, s) for a, s in wanted)


@pytest.mark.exactness
def test_processes_give_the_values_of_one_and_are_replaced_when_they_die(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    log = opened(run)
    problem = problem_of(log.trained)
    rows = problem.space.sample(np.random.default_rng(1), 6)
    pool = open_pool(log, workers=2)
    assert isinstance(pool, ProcessPool)
    with Evaluator(problem, log, pool=pool) as evaluator:
        # One, so that no more than one process is started to be killed.
        found = evaluator.evaluate_batch(rows[:1])["accuracy"].tolist()
        (first,) = pool._executor._processes
        os.kill(first, signal.SIGKILL)
        found += evaluator.evaluate_batch(rows[1:])["accuracy"].tolist()
        assert len(pool._executor._processes) == 2
        assert first not in pool._executor._processes
    direct = [evaluate(log.trained.supernet, a, log.trained.data, calibration_samples=64).value
              for a in problem.space.decode(rows)]  # fmt: skip
    assert found == direct
    assert len(opened(run).known("val")) == 6


class Dying(Backwards):
    """Every task ends with its worker."""

    def submit(self, task: Task) -> Future[Finding]:
        future: Future[Finding] = Future()
        future.set_exception(BrokenProcessPool("a process was terminated abruptly"))
        return future


def test_workers_that_keep_dying_end_the_search_with_a_sentence(run: Path) -> None:
    log = opened(run)
    problem = problem_of(log.trained)
    rows = problem.space.sample(np.random.default_rng(0), 3)
    pool = Dying(log)
    evaluator = Evaluator(problem, log, pool=pool)
    with pytest.raises(ValueError, match=r"died twice .* with fewer workers") as error:
        evaluator.evaluate_batch(rows)
    assert pool.restarts == 1
    assert problem.space.decode(rows)[0].digest in str(error.value)


@pytest.mark.slow
def test_other_weights_in_a_worker_are_refused(run: Path) -> None:
    log = opened(run)
    checkpoints = sorted((run / "checkpoints").iterdir())
    pool = open_pool(log, workers=2)
    weights = checkpoints[-1] / "weights.safetensors"
    weights.unlink()
    with Evaluator(problem_of(log.trained), log, pool=pool) as evaluator:
        rows = evaluator.problem.space.sample(np.random.default_rng(0), 1)
        with pytest.raises(ValueError, match=r"no usable|checkpoint|weights"):
            evaluator.evaluate_batch(rows)


def test_a_race_needs_one_expensive_objective(run: Path) -> None:
    log = opened(run)
    problem = problem_of(log.trained)
    measured = Objective("energy_mj", "mJ", "minimize", lambda rows: np.ones(len(rows)), "measured")
    both = SearchProblem(problem.space, (*problem.objectives, measured))
    with pytest.raises(ValueError, match="'energy_mj' is evaluated, too"):
        Evaluator(both, log, rule=RULE)
    rows = problem.space.sample(np.random.default_rng(0), 2)
    with Evaluator(both, log) as evaluator:
        assert set(evaluator.evaluate_batch(rows)) == {"accuracy", "energy_mj"}
    with pytest.raises(ValueError, match="workers = 0"):
        open_pool(log, workers=0)


@pytest.fixture
def cluster() -> Iterator[str]:
    """Two Ray nodes on this machine, one processor each."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    yield nodes.address
    nodes.shutdown()


@pytest.mark.slow
def test_ray_gives_the_values_of_one_process(
    run: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    log = opened(run)
    problem = problem_of(log.trained)
    rows = problem.space.sample(np.random.default_rng(1), 6)
    with Evaluator(problem, log, pool=open_pool(log, workers=2, ray=cluster)) as evaluator:
        found = evaluator.evaluate_batch(rows)["accuracy"]
    direct = [evaluate(log.trained.supernet, a, log.trained.data, calibration_samples=64).value
              for a in problem.space.decode(rows)]  # fmt: skip
    assert found.tolist() == direct


def test_an_address_without_a_cluster_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.evaluation.ray_pool._import_ray", FakeRay)
    with pytest.raises(ValueError, match=r"there is no Ray cluster at '127\.0\.0\.1:1'"):
        open_pool(opened(run), workers=2, ray="127.0.0.1:1")


class FakeRay:
    """The part of Ray's interface that is used, with threads for actors."""

    def __init__(self) -> None:
        self.killed, self.started, self.down = 0, 0, False

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: object) -> None:
        assert options["address"] == "auto"

    def remote(self, **options: object) -> object:
        assert options == {"num_cpus": 1}
        fake = self

        def decorate(cls: type) -> type:
            class Handle:
                @staticmethod
                def remote(*arguments: object) -> object:
                    fake.started += 1
                    return _FakeActor(cls(*arguments))

            return Handle

        return decorate

    def kill(self, actor: object) -> None:
        self.killed += 1

    def shutdown(self) -> None:
        self.down = True


class _FakeActor:
    def __init__(self, actor: object) -> None:
        self._threads = ThreadPoolExecutor(1)
        self.run = self
        self._actor = actor

    def remote(self, task: Task) -> _FakeActor:
        self._future = self._threads.submit(self._actor.run, task)
        return self

    def future(self) -> Future[Finding]:
        return self._future


def test_the_ray_pool_starts_uses_and_ends_its_actors(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRay()
    log = opened(run)
    monkeypatch.setattr("app.evaluation.ray_pool._import_ray", lambda: fake)
    monkeypatch.setattr(
        "app.evaluation.choose_pool.work_apart",
        lambda setup, task: work(log.trained, log.caches, setup.calibration_samples, task),
    )
    problem = problem_of(log.trained)
    rows = problem.space.sample(np.random.default_rng(1), 5)
    with Evaluator(problem, log, pool=open_pool(log, workers=2, ray="auto")) as evaluator:
        found = evaluator.evaluate_batch(rows)["accuracy"]
    assert (fake.started, fake.killed, fake.down) == (2, 2, True)
    inline = [log.evaluate(a, "val").value_or_nan for a in problem.space.decode(rows)]
    assert found.tolist() == inline


def test_ray_that_is_not_installed_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'supernet\[ray\]'"):
        open_pool(opened(run), workers=2, ray="auto")
