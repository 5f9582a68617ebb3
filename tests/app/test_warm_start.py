"""Proxies that choose the first round of a search, and an earlier run that helps its predictors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.jobs.search import prepare
from app.runs.directory import Run, open_run
from app.runs.trained import Trained, open_trained
from app.searching.earlier_run import open_prior
from app.searching.proxy_start import WarmStart, first_rows
from app.searching.request import SearchRequest, read_plan, rebuild_request
from search import History, Objective, SearchProblem, Strategy
from search.sampling.first_sample import initial_rows
from search.strategies import nsga2
from supernet import checksums
from supernet.checkpoints import require
from supernet.quality.evaluate import CALIBRATION_SAMPLES
from supernet.space import Architecture, Choice, SearchSpace
from tests.app.conftest import EVALUATIONS, SEARCH, Command, Outcome, contents

Refused = Callable[..., str]
FIRST = 30

SPACE = SearchSpace(tuple(Choice(f"c{i}", (1, 2, 3, 4, 5), "width") for i in range(6)))
PROBLEM = SearchProblem(
    SPACE,
    (
        Objective("quality", "", "maximize", lambda rows: rows.sum(1) / 1.0, "evaluated"),
        Objective("cost", "ms", "minimize", lambda rows: rows.sum(1) / 1.0, "analytic"),
    ),
)


def opened(run: Path) -> Trained:
    return open_trained(open_run(run), lambda _: None)


def digests(run: Path) -> list[str]:
    """Architectures on the validation split in the order in which they were evaluated."""
    lines = (run / "evaluations.jsonl").read_text().splitlines()
    found = (json.loads(line) for line in lines)
    return list(dict.fromkeys(r["digest"] for r in found if r["split"] == "val"))


def found(outcome: Outcome) -> list[tuple[str, float]]:
    """The front of a search without what was measured."""
    points = json.loads(outcome.out)["front"]
    return [(p["digest"], p["objectives"]["accuracy"]["value"]) for p in points]


def config_of(run: Path, name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((run / "searches" / name / "search.json").read_text())
    return config["config"]


def edited(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write the evaluations of a run anew, each changed in place."""
    lines = (run / "evaluations.jsonl").read_text().splitlines()
    records = [checksums.unseal(json.loads(line)) for line in lines]
    for record in records:
        change(record)
    (run / "evaluations.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


@pytest.fixture
def fresh(a_run: Path) -> Path:
    """The run before it was searched."""
    shutil.rmtree(a_run / "searches")
    (a_run / "evaluations.jsonl").unlink()
    return a_run


@pytest.fixture
def earlier(finished_run: Path, tmp_path: Path) -> Path:
    """Another run of the same space, with evaluations."""
    return Path(shutil.copytree(finished_run, tmp_path / "earlier"))


def test_the_first_round_is_the_best_by_the_proxies_at_every_cost() -> None:
    def scores(rows: np.ndarray) -> np.ndarray:
        # The second proxy has nothing to say, which must not matter.
        return np.stack([rows[:, 0] - rows[:, 1], np.full(len(rows), np.nan)], axis=1).astype(float)

    chosen = first_rows(PROBLEM, FIRST, np.random.default_rng(0), scores)
    plain = initial_rows(PROBLEM, FIRST, np.random.default_rng(0))
    assert len(np.unique(chosen, axis=0)) == FIRST
    assert scores(chosen)[:, 0].mean() > scores(plain)[:, 0].mean() + 1
    for rows in (chosen, plain):
        costs = np.sort(rows.sum(1))
        assert (costs[0], costs[-1]) == (0, 24), "both corners"
    quarters = [
        [np.quantile(rows.sum(1), q) for q in (0.25, 0.5, 0.75)] for rows in (chosen, plain)
    ]
    assert np.abs(np.subtract(*quarters)).max() <= 2


def test_later_rounds_and_sizes_are_the_strategys_own() -> None:
    strategy = nsga2.build()
    warm = WarmStart(strategy, lambda rows: rows[:, :1].astype(float))
    history = History.empty(PROBLEM.names, len(SPACE))
    rows = warm.propose(PROBLEM, history, 10, np.random.default_rng(1))
    history = history.append(rows, np.stack([rows.sum(1), rows.sum(1)], 1).astype(float), 0)
    ours, theirs = (
        s.propose(PROBLEM, history, 5, np.random.default_rng(2)) for s in (warm, strategy)
    )
    assert (ours == theirs).all()
    assert [warm.batch_size(n) for n in (0, 50)] == [strategy.batch_size(n) for n in (0, 50)]


def test_a_search_begins_with_what_proxies_prefer(
    command: Command, refused: Refused, fresh: Path
) -> None:
    flags = ("search", "--run", fresh, "--name", "warm", "--evaluations", 22, "--strategy", "nsga2",
             "--proxies")  # fmt: skip
    outcome = command(*flags, "naswot", "--json")
    assert outcome.code == 0, outcome.err
    assert "the first 20 architectures are chosen from 80 by naswot" in outcome.err
    warm = digests(fresh)
    assert len(warm) == 22

    # Another process proposes the same, so that a killed search continues as it began.
    request = SearchRequest(run=fresh, evaluations=22, strategy="nsga2", proxies=("naswot",))
    setting = prepare(request, open_run(fresh), opened(fresh), lambda _: None)
    assert isinstance(setting.strategy, WarmStart)
    again, plain = (first_of(s, setting.problem) for s in (setting.strategy, nsga2.build()))
    assert again == warm[:20]
    both = set(warm[:20]) & set(plain)
    assert len(both) < 10
    space = setting.problem.space
    assert {space.smallest.digest, space.largest.digest} <= both

    assert config_of(fresh, "warm")["proxies"] == ["naswot"]
    sentence = refused(*flags, "synflow")
    assert "has other settings (proxies: ['naswot'] -> ['synflow'])" in sentence


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--proxies", "naswat"), "unknown proxy 'naswat' (did you mean 'naswot'?)"),
        (("--proxies", "naswot,"), "unknown proxy ''"),
        (("--proxies", "naswot,naswot"), "must be different names"),
        (("--proxies", "softmax_confidence"), "does not suit family 'ofa_mobilenetv3': "),
        (("--proxies", "naswot", "--strategy", "random_search"), "has no first sample"),
        (("--prior", "nowhere"), "nowhere is not a run directory"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_evaluated(
    refused: Refused, fresh: Path, flags: tuple[str, ...], sentence: str
) -> None:
    before = contents(fresh)
    assert sentence in refused("search", "--run", fresh, *SEARCH, *flags)
    assert contents(fresh) == before


def test_a_prior_that_does_not_fit_is_refused(refused: Refused, fresh: Path, earlier: Path) -> None:
    flags = ("search", "--run", fresh, *SEARCH)
    assert "is the run that is searched" in refused(*flags, "--prior", fresh)
    guided = refused(*flags, "--prior", earlier, "--strategy", "nsga2")
    assert "strategy 'nsga2' fits no predictor" in guided

    kept = (earlier / "evaluations.jsonl").read_text()
    (earlier / "evaluations.jsonl").write_text("".join(kept.splitlines(keepends=True)[:19]))
    assert "has 19 evaluated architectures" in refused(*flags, "--prior", earlier)
    (earlier / "evaluations.jsonl").write_text(kept)
    edited(earlier, lambda record: record.update(objective="loss", unit="nats/token"))
    judged = refused(*flags, "--prior", earlier)
    assert "was judged by loss, this run is by accuracy" in judged
    (earlier / "evaluations.jsonl").write_text(kept)
    edited(earlier, lambda record: record["architecture"].popitem())
    assert "was damaged or edited" in refused(*flags, "--prior", earlier)

    (earlier / "evaluations.jsonl").write_text(kept)
    record = checksums.read_json(earlier / "run.json")
    (earlier / "run.json").write_text(json.dumps({**record, "space": "0123456789abcdef"}))
    other = refused(*flags, "--prior", earlier)
    assert "has space 0123456789abcdef" in other
    assert "must have the same space" in other
    assert not (fresh / "evaluations.jsonl").exists()


def test_a_prior_helps_and_the_search_stays_what_it_was(
    command: Command, refused: Refused, fresh: Path, earlier: Path
) -> None:
    # The same network: what the earlier run says is what this one will find.
    search = ("search", "--run", fresh, *SEARCH, "--name", "helped")
    flags = (*search, "--prior", earlier, "--json")
    first = command(*flags)
    assert first.code == 0, first.err
    assert f"{EVALUATIONS} evaluations of {earlier} may help" in first.err
    plain = json.loads((earlier / "searches/default/front.json").read_text())
    assert json.loads(first.out)["predictor_tau"] > plain["report"]["accuracy"]["tau"]
    stored = config_of(fresh, "helped")["prior"]
    plan = read_plan(fresh / "searches" / "helped")
    assert plan is not None
    assert rebuild_request(fresh, "helped", plan.config).prior == earlier
    assert (stored["run"], stored["evaluations"]) == (str(earlier), EVALUATIONS)

    # The earlier run goes on; this one is killed, and continues with what it used.
    log = earlier / "evaluations.jsonl"
    line = json.loads(log.read_text().splitlines()[0])
    middle = unknown(
        open_prior(earlier, opened(fresh), print).positions, opened(fresh).supernet.space
    )
    line |= {"digest": middle.digest, "architecture": middle.to_dict(), "split": "val"}
    log.write_text(log.read_text() + json.dumps(checksums.seal(line)) + "\n")
    assert len(open_prior(earlier, opened(fresh), print).values) == EVALUATIONS + 1
    order = digests(fresh)
    killed(fresh, "helped")
    again = command(*flags)
    assert again.code == 0, again.err
    assert digests(fresh) == order
    assert found(again) == found(first)
    assert config_of(fresh, "helped")["prior"] == stored
    assert "prior: {" in refused(*search)


def first_of(strategy: Strategy, problem: SearchProblem) -> list[str]:
    """The first 20 architectures of a search with seed 0."""
    history = History.empty(problem.names, len(problem.space))
    rows = strategy.propose(problem, history, 20, np.random.default_rng([0, 0]))
    return [architecture.digest for architecture in problem.space.decode(rows)]


def killed(run: Path, name: str) -> None:
    """As if the search had been killed after 11 evaluations."""
    lines = (run / "evaluations.jsonl").read_text().splitlines(keepends=True)
    (run / "evaluations.jsonl").write_text("".join(lines[:11]))
    (run / "searches" / name / "front.json").unlink()


def unknown(rows: np.ndarray, space: SearchSpace) -> Architecture:
    """An architecture that is not among the rows."""
    drawn = space.canonical(np.random.default_rng(9).integers(0, 2, (50, len(space))))
    known = {row.tobytes() for row in rows}
    return space.decode(np.array([row for row in drawn if row.tobytes() not in known]))[0]


def test_only_evaluations_of_the_newest_weights_count(fresh: Path, earlier: Path) -> None:
    edited(earlier, lambda record: record.update(value=None) if record["value"] > 0.9 else None)
    found = open_prior(earlier, opened(fresh), print)
    run: Run = open_run(earlier)
    checkpoint = require(run.checkpoints).checkpoint
    assert checkpoint is not None
    records = [json.loads(line) for line in run.evaluations.read_text().splitlines()]
    usable = [r for r in records if r["split"] == "val" and r["value"] is not None]
    assert all(r["calibration"]["samples"] == CALIBRATION_SAMPLES for r in usable)
    assert list(found.values) == [r["value"] for r in usable]
    edited(earlier, lambda record: record.update(checkpoint="of before"))
    with pytest.raises(ValueError, match="has 0 evaluated architectures with its newest weights"):
        open_prior(earlier, opened(fresh), print)
