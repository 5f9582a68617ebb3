"""Searching as a job: weights, latency table, predictors and strategy meet here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import plugins
from app.evaluations import EvaluationLog
from app.front_file import Findings, front_record, write_front
from app.latency import DeviceTable, open_table
from app.objectives import build_problem, resolve
from app.runs import Run, now, open_run
from app.trained import Say, Trained, open_trained
from app.verify import verify
from predictors import fit
from search import (
    Evaluation,
    Progress,
    SearchProblem,
    SearchResult,
    Strategy,
    check_feasible,
    search,
)
from supernet import files

FORMAT_VERSION = 1
DRIFT = 0.10


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What to search for.

    Args:
        run: The run directory.
        device: A profiled device.
        latency_ms: Upper limit of the predicted latency in milliseconds, if any.
        objectives: Names; empty for the task's quality and the latency.
        evaluations: Architectures to evaluate; those of earlier searches cost nothing again.
        strategy: Module name in ``search/strategies`` or a dotted path.
        name: Of the search.
        seed: Of every random decision.
        replace: Search anew where another search has this name.
    """

    run: Path
    device: str = "cpu"
    latency_ms: float | None = None
    objectives: tuple[str, ...] = ()
    evaluations: int = 200
    strategy: str = "predictor_guided"
    name: str = "default"
    seed: int = 0
    replace: bool = False

    def __post_init__(self) -> None:
        if self.evaluations < 5:
            raise ValueError(f"evaluations = {self.evaluations} is too few; use 5 or more")
        if self.seed < 0:
            raise ValueError(f"seed = {self.seed} is impossible; it must be at least 0")
        if not self.name or not all(c.isalnum() or c in "._-" for c in self.name):
            raise ValueError(f"search name {self.name!r} must be letters, digits, '.', '_', '-'")
        if self.name.startswith("."):
            raise ValueError(f"search name {self.name!r} must not start with a dot")


@dataclass(frozen=True)
class SearchOutcome:
    """A finished search; ``front`` has one record per point, cheapest first."""

    run: Path
    search: str
    device: str
    evaluations: int
    reused: int
    objectives: tuple[str, ...]
    front: tuple[Mapping[str, Any], ...]
    hypervolume: float | None
    predictor_tau: float | None


def search_job(request: SearchRequest, say: Say) -> SearchOutcome:
    """Search, verify the front for real and store it; a killed command continues.

    Args:
        request: What to search for.
        say: Told about progress.

    Raises:
        ValueError: Unknown names, a budget nothing meets (the nearest feasible latency is
            named), or another search of this name.
        OSError: The disk is full; evaluations made so far are kept.
    """
    run = open_run(request.run)
    strategy: Strategy = plugins.strategy(request.strategy).build(fit)
    trained = open_trained(run, say)
    names = resolve(request.objectives, trained.quality)
    with run.writing():
        log = EvaluationLog(trained)
        table = _table(request, run, trained, names, say)
        problem = build_problem(names, request.latency_ms, trained, log, table)
        check_feasible(problem)
        if table is not None:
            table.table.check_device(table.device)
        plan = _plan(request, names, trained, table)
        folder = run.search(request.name)
        if _is_complete(folder, plan, replace=request.replace):
            say(f"search {request.name}: already complete")
            return _outcome(run, files.read_json(folder / "front.json"), 0)
        files.write_json(folder / "search.json", {**plan, "status": "running", "updated": now()})
        run.set_stage("search", "running", name=request.name)
        result, reused = _search(request, problem, strategy, log, say)
        record = _verified(request, Findings(problem, result, {}, log, table), plan, say)
        write_front(folder, record, result.trace)
        files.write_json(folder / "search.json", {**plan, "status": "complete", "updated": now()})
        run.set_stage("search", "complete", name=request.name)
    return _outcome(run, record, reused)


def _table(
    request: SearchRequest, run: Run, trained: Trained, names: tuple[str, ...], say: Say
) -> DeviceTable | None:
    needed = "latency_ms" in names or request.latency_ms is not None
    if not needed and request.device not in run.devices:
        say(f"search: device {request.device!r} is not profiled; latency is left out")
        return None
    return open_table(run, request.device, trained.cost_model, say)


def _plan(
    request: SearchRequest, names: tuple[str, ...], trained: Trained, table: DeviceTable | None
) -> dict[str, Any]:
    """What decides the result of a search; stored as ``search.json``."""
    return {
        "version": FORMAT_VERSION,
        "config": {
            "device": request.device,
            "latency_ms": request.latency_ms,
            "objectives": list(names),
            "strategy": request.strategy,
            "seed": request.seed,
            "evaluations": request.evaluations,
        },
        "space": trained.supernet.space.digest,
        "checkpoint": trained.checkpoint.digest,
        "table": None if table is None else table.digest,
    }


def _is_complete(folder: Path, plan: Mapping[str, Any], *, replace: bool) -> bool:
    """Whether the front of exactly this search is there.

    Raises:
        ValueError: The folder holds a search with other settings.
    """
    path = folder / "search.json"
    if replace or not path.exists():
        return False
    old = files.read_json(path)
    if not isinstance(old, dict) or not isinstance(old.get("config"), dict):
        raise ValueError(f"{path} was damaged or edited; choose another --name, or --replace it")
    before, now_ = dict(old.get("config", {})), dict(plan["config"])
    longer = now_.pop("evaluations") >= before.pop("evaluations", 0)
    if before == now_ and not longer:
        before["evaluations"] = old["config"]["evaluations"]
        now_["evaluations"] = plan["config"]["evaluations"]
    if before != now_:
        changes = [f"{k}: {before.get(k)} -> {v}" for k, v in now_.items() if before.get(k) != v]
        raise ValueError(
            f"search {folder.name!r} has other settings ({', '.join(changes)}); choose another "
            "--name, or --replace it"
        )
    same = {key: old.get(key) for key in plan} == dict(plan)
    return same and old.get("status") == "complete" and (folder / "front.json").exists()


def _search(
    request: SearchRequest,
    problem: SearchProblem,
    strategy: Strategy,
    log: EvaluationLog,
    say: Say,
) -> tuple[SearchResult, int]:
    reused = [0]

    def count(evaluation: Evaluation) -> None:
        reused[0] += evaluation.reused

    def progress(now_: Progress) -> None:
        say(f"search {request.name}: {now_.done}/{now_.total} evaluations")

    result = search(
        problem,
        strategy,
        evaluations=request.evaluations,
        seed=request.seed,
        known=log.known("val"),
        on_evaluated=count,
        progress=progress,
    )
    return result, reused[0]


def _verified(
    request: SearchRequest, findings: Findings, plan: Mapping[str, Any], say: Say
) -> dict[str, Any]:
    front = findings.result.front
    if not len(front):
        raise ValueError(
            f"no evaluation of search {request.name!r} succeeded within the limits; "
            "raise --evaluations or the budget"
        )
    architectures = findings.problem.space.decode(front.positions)
    verified = verify(architectures, findings.log, findings.table, say)
    header = {
        "search": request.name,
        "device": request.device,
        "space": plan["space"],
        "checkpoint": plan["checkpoint"],
        "seed": request.seed,
        "strategy": request.strategy,
    }
    whole = Findings(findings.problem, findings.result, verified, findings.log, findings.table)
    record = front_record(whole, header)
    ratio = record["latency_ratio"]
    if ratio is not None and abs(ratio - 1) > DRIFT:
        word = "slower" if ratio > 1 else "faster"
        say(
            f"warning: networks now run {abs(ratio - 1):.0%} {word} on {request.device} than its "
            "table predicts; measured values are kept beside the predictions, and "
            f"`supernet profile --run {request.run} --device {request.device} --replace` renews it"
        )
    return record


def _outcome(run: Run, record: Mapping[str, Any], reused: int) -> SearchOutcome:
    quality = record["objectives"][0]["name"]
    report = record["report"].get(quality, {})
    return SearchOutcome(
        run=run.path,
        search=record["search"],
        device=record["device"],
        evaluations=record["evaluations"],
        reused=reused,
        objectives=tuple(o["name"] for o in record["objectives"]),
        front=tuple(
            {key: point[key] for key in ("digest", "objectives", "parameters", "macs",
                                         "size_bytes", "within_limits")}
            for point in record["points"] if point["on_front"]
        ),
        hypervolume=record["hypervolume"]["verified"],
        predictor_tau=report.get("tau"),
    )  # fmt: skip
