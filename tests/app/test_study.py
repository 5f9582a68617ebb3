"""The Optuna study beside a search: what Optuna itself reads from it, and what survives a kill."""

from __future__ import annotations

import errno
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, download_artifact, get_all_artifact_meta
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from app.evaluation.log import EvaluationLog
from app.evaluation.worker import Finding
from app.records.searches.front import Front, parse_front
from app.runs.directory import Run, writing
from app.runs.trained import Trained
from app.searching.optuna_mirror import Study, is_mirrored, open_study
from search import Constraint, Evaluation, History, Objective, SearchProblem, pareto_front
from supernet.checkpoints import Checkpoint
from supernet.data import open_data
from supernet.families import ofa_mobilenetv3

IDENTITY = {"strategy": "random_search", "seed": 0, "evaluations": 30}


@pytest.fixture(scope="module")
def supernet() -> Any:
    built = ofa_mobilenetv3.build(ofa_mobilenetv3.configure("tiny", open_data("digits").shape))
    built.counted = built.cost_model()
    return built


@pytest.fixture
def log(supernet: Any, tmp_path: Path) -> EvaluationLog:
    return log_in(tmp_path, supernet)


def log_in(path: Path, supernet: Any) -> EvaluationLog:
    """An empty log of a run that consists of nothing else."""
    trained = Trained(Run(path), supernet, Checkpoint(path, 0, "0123456789abcdef", {}))
    # Counting every variant takes a second, and all tests have the same network.
    trained.__dict__["cost_model"] = supernet.counted
    return EvaluationLog(trained, print)


@pytest.fixture
def problem(log: EvaluationLog) -> SearchProblem:
    costs = log.trained.cost_model

    def never(rows: np.ndarray) -> np.ndarray:
        raise AssertionError("nothing is evaluated here")

    limit = float(np.median(costs.macs(rows_of(log))))
    return SearchProblem(
        log.trained.supernet.space,
        (
            Objective("accuracy", "fraction", "maximize", never, "evaluated"),
            Objective("macs", "macs", "minimize", costs.macs, "analytic"),
        ),
        (Constraint("macs", at_most=limit),),
    )


def rows_of(log: EvaluationLog, count: int = 30) -> np.ndarray:
    return log.trained.supernet.space.sample(np.random.default_rng(4), count)


def evaluations(log: EvaluationLog, problem: SearchProblem) -> list[Evaluation]:
    """Stored evaluations with made-up accuracies; one failed, one was stopped early."""
    rows = rows_of(log)
    values = problem.cheap_values(rows)
    # More multiply-adds help, up to chance: a front of several points.
    noise = np.random.default_rng(0).normal(0, 0.03, len(rows))
    values[:, 0] = 0.5 + 0.3 * values[:, 1] / values[:, 1].max() + noise
    values[3, 0] = np.nan
    values[5, 0] = 0.1
    found = []
    for i, architecture in enumerate(problem.space.decode(rows)):
        value = float(values[i, 0])
        reason = "RuntimeError: no" if np.isnan(value) else None
        seen = 40 if i == 5 else 200
        finding = Finding("accuracy", "fraction", value, value - 0.05, value + 0.05, seen, 200,
                          64, 0.5, failure=reason)  # fmt: skip
        log.store(architecture, "val", finding)
        named = dict(zip(problem.names, map(float, values[i]), strict=True))
        found.append(Evaluation(rows[i], named, i // 10))
    return found


def history_of(problem: SearchProblem, found: list[Evaluation]) -> History:
    return History.from_rows(problem.names, len(problem.space), found)


def opened(log: EvaluationLog, problem: SearchProblem, **options: Any) -> Study:
    folder = log.trained.run.search("default")
    return open_study(folder, "default", problem, log, print, identity=IDENTITY, **options)


def loaded(log: EvaluationLog, name: str = "default") -> optuna.Study:
    """As a user, or optuna-dashboard, opens it: from the path alone."""
    path = log.trained.run.search("default") / "optuna.log"
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(path))))


def digests(problem: SearchProblem, rows: np.ndarray) -> set[str]:
    return {architecture.digest for architecture in problem.space.decode(rows)}


def front_json(problem: SearchProblem, found: list[Evaluation]) -> dict[str, Any]:
    """The content of ``front.json``, as far as it is mirrored."""
    history = history_of(problem, found)
    front = set(map(int, pareto_front(problem, history).rows))
    points = []
    for i in np.flatnonzero(~history.failed):
        architecture = problem.space.decode(history.positions[i : i + 1])[0]
        accuracy, macs = map(float, history.values[i])
        points.append(
            {
                "digest": architecture.digest,
                "architecture": architecture.to_dict(),
                "on_front": int(i) in front,
                "objectives": {
                    "accuracy": {"value": accuracy, "test": accuracy - 0.01, "predicted": None},
                    "macs": {"value": macs, "predicted": macs},
                },
                "parameters": 1000,
                "macs": int(macs),
                "size_bytes": 4000,
            }
        )
    return {
        "format": 1,
        "objectives": [
            {"name": "accuracy", "unit": "fraction", "direction": "maximize"},
            {"name": "macs", "unit": "macs", "direction": "minimize"},
        ],
        "points": points,
        "hypervolume": {"searched": 1.5, "verified": 1.4},
    }


def front_of(payload: dict[str, Any]) -> Front:
    return parse_front(payload, "front.json", "default")


def test_optuna_reads_every_evaluation(log: EvaluationLog, problem: SearchProblem) -> None:
    found = evaluations(log, problem)
    study = opened(log, problem)
    for evaluation in found:
        study.add(evaluation)
    seen = loaded(log)
    assert seen.directions == [
        optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE,
    ]  # fmt: skip
    assert seen.metric_names == ["accuracy [fraction]", "macs [macs]"]
    assert seen.user_attrs["settings"]["strategy"] == "random_search"
    states = [trial.state for trial in seen.trials]
    assert states.count(TrialState.FAIL) == states.count(TrialState.PRUNED) == 1
    assert states.count(TrialState.COMPLETE) == 28
    rows = history_of(problem, found)
    for trial, row, values in zip(seen.trials, rows.positions, rows.values, strict=True):
        architecture = problem.space.decode(row[None])[0]
        assert trial.params == architecture.to_dict(), "the choices that matter, nothing else"
        assert trial.user_attrs["digest"] == architecture.digest
        assert trial.user_attrs["macs"] == values[1]
        assert trial.user_attrs["source"] == "evaluated"
        for name, distribution in trial.distributions.items():
            assert distribution.choices == problem.space.choice(name).values
        if trial.state == TrialState.COMPLETE:
            assert trial.values == values.tolist()
            assert trial.duration.total_seconds() == pytest.approx(0.5)
    failed = next(t for t in seen.trials if t.state == TrialState.FAIL)
    assert failed.user_attrs["failure"] == "RuntimeError: no"
    stopped = next(t for t in seen.trials if t.state == TrialState.PRUNED)
    assert stopped.user_attrs["estimate"]["accuracy"] == 0.1
    assert stopped.user_attrs["samples"] == 40


def test_best_trials_are_the_front(log: EvaluationLog, problem: SearchProblem) -> None:
    found = evaluations(log, problem)
    study = opened(log, problem)
    for evaluation in found:
        study.add(evaluation)
    front = pareto_front(problem, history_of(problem, found))
    best = loaded(log).best_trials
    assert len(front) > 2
    assert {t.user_attrs["digest"] for t in best} == digests(problem, front.positions)
    free = SearchProblem(problem.space, problem.objectives)
    without = pareto_front(free, history_of(free, found))
    assert set(without.rows) != set(front.rows), "the limit matters here"
    infeasible = [t for t in loaded(log).trials if t.system_attrs.get("constraints", [0])[0] > 0]
    assert infeasible, "feasibility shows"
    assert infeasible[0].user_attrs["constraints"][0].startswith("macs <= ")


def test_points_of_the_front_have_their_architecture_as_artifact(
    log: EvaluationLog, problem: SearchProblem, tmp_path: Path
) -> None:
    found = evaluations(log, problem)
    study = opened(log, problem)
    for evaluation in found:
        study.add(evaluation)
    seen = loaded(log)
    store = FileSystemArtifactStore(log.trained.run.search("default") / "artifacts")
    with_artifacts = 0
    for trial in seen.trials:
        metas = get_all_artifact_meta(trial, storage=seen._storage)
        with_artifacts += bool(metas)
        if trial in seen.best_trials:
            (meta,) = metas
            assert meta.filename == "architecture.json"
            path = tmp_path / f"{trial.number}.json"
            download_artifact(
                artifact_store=store, artifact_id=meta.artifact_id, file_path=str(path)
            )
            architecture = problem.space.architecture_from_json(json.loads(path.read_text()))
            assert architecture.digest == trial.user_attrs["digest"]
    assert with_artifacts < len(seen.trials) / 2, "dominated ones have none"


def test_nothing_is_doubled(log: EvaluationLog, problem: SearchProblem) -> None:
    found = evaluations(log, problem)
    record = front_json(problem, found)
    for _ in range(2):
        study = opened(log, problem)
        for evaluation in found[:20]:
            study.add(evaluation)
    for evaluation in found:
        study.add(evaluation)
    study.mirror_verified(front_of(record))
    path = log.trained.run.search("default") / "optuna.log"
    before = path.read_bytes()
    again = opened(log, problem)
    again.restore(front_of(record))
    again.mirror_verified(front_of(record))
    assert path.read_bytes() == before, "nothing new, nothing written"
    assert len(loaded(log).trials) == 30


def test_a_finished_search_gets_its_study_from_the_front(
    log: EvaluationLog, problem: SearchProblem
) -> None:
    found = evaluations(log, problem)
    study = opened(log, problem)
    study.restore(front_of(front_json(problem, found)))
    front = pareto_front(problem, history_of(problem, found))
    best = {t.user_attrs["digest"]: t.values for t in loaded(log).best_trials}
    assert set(best) == digests(problem, front.positions)
    assert sorted(best.values()) == sorted(front.values.tolist())


def test_the_verified_front_is_a_study_of_its_own(
    log: EvaluationLog, problem: SearchProblem
) -> None:
    found = evaluations(log, problem)
    record = front_json(problem, found)
    point = next(p for p in record["points"] if p["on_front"])
    export = log.trained.run.path / "exports" / point["digest"]
    export.mkdir(parents=True)
    (export / "model.onnx").write_bytes(b"onnx")
    study = opened(log, problem)
    study.mirror_verified(front_of(record))
    point["objectives"]["accuracy"]["test"] = 0.125
    study.mirror_verified(front_of(record))
    seen = loaded(log, "default verified")
    assert len(seen.trials) == sum(p["on_front"] for p in record["points"])
    trial = next(t for t in seen.trials if t.user_attrs["digest"] == point["digest"])
    assert trial.user_attrs["accuracy_test"] == 0.125, "replaced by what was verified last"
    assert trial.values == [point["objectives"][name]["value"] for name in ("accuracy", "macs")]
    names = {m.filename for m in get_all_artifact_meta(trial, storage=seen._storage)}
    assert names == {"architecture.json", "model.onnx"}
    assert loaded(log).user_attrs["hypervolume"] == record["hypervolume"]


def test_a_killed_process_leaves_a_study_that_can_be_continued(
    log: EvaluationLog, problem: SearchProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluations(log, problem)
    study = opened(log, problem)
    for evaluation in found[:4]:
        study.add(evaluation)
    path = log.trained.run.search("default") / "optuna.log"
    with path.open("a") as file:
        file.write('{"op_code": 4, "wor')
    lock = path.with_name("optuna.log.lock")
    lock.symlink_to(path)
    released = path.with_name(f"optuna.log.lock{uuid4()}.rename")
    released.symlink_to(path)
    with writing(path.parent):
        pass
    waited, clock = [0.0], time.monotonic
    monkeypatch.setattr("time.sleep", waited.append)
    monkeypatch.setattr("time.monotonic", lambda: clock() + sum(waited))
    study = opened(log, problem)
    for evaluation in found:
        study.add(evaluation)
    assert sum(waited) < 15, "a lock nobody holds is not waited for"
    assert len(loaded(log).trials) == 30
    assert not released.is_symlink()


def test_other_settings_begin_a_new_study(log: EvaluationLog, problem: SearchProblem) -> None:
    found = evaluations(log, problem)
    folder = log.trained.run.search("default")
    opened(log, problem).add(found[0])
    longer = {**IDENTITY, "evaluations": 99}
    open_study(folder, "default", problem, log, print, identity=longer)
    assert len(loaded(log).trials) == 1, "more evaluations continue it"
    open_study(folder, "default", problem, log, print, identity={**IDENTITY, "seed": 1})
    assert len(loaded(log).trials) == 0


def test_a_database_holds_the_studies_of_several_runs(
    log: EvaluationLog, problem: SearchProblem, supernet: Any, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    found = evaluations(log, problem)
    problem = SearchProblem(problem.space, problem.objectives)
    for _ in range(2):
        study = opened(log, problem, storage=url)
        for evaluation in found[:6]:
            study.add(evaluation)
    elsewhere = log_in(tmp_path / "other", supernet)
    opened(elsewhere, problem, storage=url).add(found[0])
    names = optuna.get_all_study_names(url)
    assert len(names) == 2
    assert all(name.endswith("/default") for name in names)
    study = optuna.load_study(study_name=next(n for n in names if "other" not in n), storage=url)
    assert len(study.trials) == 6
    assert study.best_trials
    assert not (log.trained.run.search("default") / "optuna.log").exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:////nonexistent/folder/a.db", "unable to open database file"),
        ("postgresql://me:secret@127.0.0.1:1/x", "psycopg|refused"),
        ("redis://localhost", "RedisStorage"),
    ],
)
def test_storages_that_cannot_be_used_are_refused(
    log: EvaluationLog, problem: SearchProblem, url: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=rf"storage .* cannot be used \(.*({reason})") as error:
        opened(log, problem, storage=url)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_full_disk_is_no_fault_of_the_storage(
    log: EvaluationLog, problem: SearchProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(JournalFileBackend, "append_logs", refuse)
    with pytest.raises(OSError, match=r"no space left on the disk while writing .*optuna\.log"):
        opened(log, problem)


def test_a_journal_with_an_unknown_operation_is_no_mirror(
    log: EvaluationLog, problem: SearchProblem
) -> None:
    found = evaluations(log, problem)
    front = front_of(front_json(problem, found))
    study = opened(log, problem)
    for evaluation in found:
        study.add(evaluation)
    study.mirror_verified(front)
    folder = log.trained.run.search("default")
    assert is_mirrored(folder, "default", front, log, IDENTITY)
    with (folder / "optuna.log").open("a") as file:
        file.write('{"op_code": 99, "worker_id": "x"}\n')
    assert not is_mirrored(folder, "default", front, log, IDENTITY)


def damage_journal(kind: str, path: Path) -> None:
    text = path.read_text()
    match kind:
        case "noise":
            path.write_bytes(b"\xff\xfe\0 not json\n" + path.read_bytes())
        case "middle":
            path.write_text(text[:300] + "\0\0" + text[302:])
        case "digit":
            # Still JSON: only the log of evaluations knows that it was another value.
            line = next(line for line in text.splitlines() if '"values":[0.' in line)
            place = line.index('"values":[0.') + 12
            changed = f"{line[:place]}{'1' if line[place] != '1' else '2'}{line[place + 1 :]}"
            path.write_text(text.replace(line, changed))
        case "only noise":
            path.write_text("junk\n")
        case "type":
            path.write_text("[[]]\n" + text)
        case "folder":
            path.unlink()
            path.mkdir()


@pytest.mark.parametrize("kind", ["noise", "only noise", "middle", "digit", "type", "folder"])
def test_a_damaged_journal_is_moved_aside_and_made_again(
    log: EvaluationLog, problem: SearchProblem, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluations(log, problem)
    study = opened(log, problem)
    for evaluation in found:
        study.add(evaluation)
    whole = [(t.params, t.values, t.state) for t in loaded(log).trials]
    path = log.trained.run.search("default") / "optuna.log"
    damage_journal(kind, path)
    aside = path.with_name("optuna.log.damaged-1")
    before = path.read_bytes() if path.is_file() else None
    again = opened(log, problem)
    said = capsys.readouterr().out
    assert said.startswith(f"warning: {path} was damaged (")
    assert "made again from the evaluations" in said
    assert before == (aside.read_bytes() if aside.is_file() else None), "nothing is thrown away"
    for evaluation in found:
        again.add(evaluation)
    assert [(t.params, t.values, t.state) for t in loaded(log).trials] == whole
    opened(log, problem)
    assert capsys.readouterr().out == ""


def test_optuna_says_nothing(
    log: EvaluationLog, problem: SearchProblem, capfd: pytest.CaptureFixture[str]
) -> None:
    found = evaluations(log, problem)
    before = optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study = opened(log, problem)
        study.add(found[0])
        study.mirror_verified(front_of(front_json(problem, found)))
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before, "a user's own setting stays"
