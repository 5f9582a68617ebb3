"""Run directories: created, reopened, compared and locked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from app.records.run import RunIdentity
from app.records.typed_json.record_files import parse_record
from app.runs.directory import Difference, check_free, create_run, find_differences, open_run
from supernet.space import Choice, SearchSpace

SPACE = SearchSpace((Choice("depth", (1, 2), "depth"),))


SHAPE = {
    "task": "image-classification",
    "input": [1, 8, 8],
    "classes": 2,
    "labels": ["a", "b"],
    "mean": [0.5],
    "std": [0.3],
}


def identity(**changes: object) -> RunIdentity:
    """What defines a run, with changes."""
    plain: dict[str, object] = {
        "family": "f",
        "preset": "tiny",
        "family_config": {"classes": 10},
        "data": {"spec": "digits", "fingerprint": "aa", "shape": SHAPE},
        "recipe": {"steps": 10, "checkpoint_every": 5},
        "seed": 0,
        "space": SPACE.digest,
    }
    return parse_record({**plain, **changes}, RunIdentity, "identity", "mend the test")


def test_a_run_is_created_once_and_reopened(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    run = create_run(path, identity(), SPACE)
    created = run.record.created
    assert create_run(path, identity(), SPACE).record.created == created
    assert open_run(path).space == SPACE
    assert set(run.record.versions) >= {"python", "torch", "onnxruntime", "supernet"}


def test_stages_keep_their_facts(tmp_path: Path) -> None:
    run = create_run(tmp_path, identity(), SPACE)
    assert run.stage("train") is None
    run.set_stage("train", "running", config={"steps": 3})
    run.set_stage("train", "complete", checkpoint="abc")
    stage = run.stage("train")
    assert stage is not None
    assert (stage.complete, stage.config, stage.checkpoint) == (True, {"steps": 3}, "abc")


def test_another_run_in_the_folder_is_refused_with_what_differs(tmp_path: Path) -> None:
    create_run(tmp_path, identity(), SPACE)
    before = (tmp_path / "run.json").read_bytes()
    said = r"another run \(recipe.steps: 10 -> 20, seed: 0 -> 1\)"
    with pytest.raises(ValueError, match=said) as e:
        create_run(tmp_path, identity(recipe={"steps": 20}, seed=1), SPACE)
    assert "checkpoint_every" not in str(e.value), "how often to save makes no other run"
    assert (tmp_path / "run.json").read_bytes() == before


def test_other_data_is_named_by_its_specification() -> None:
    other = {"spec": "folder:/x", "fingerprint": "bb", "shape": {**SHAPE, "input": [3, 8, 8]}}
    found = find_differences(identity(), identity(data=other, family_config={"classes": 2}))
    assert found == [Difference("data", "digits", "folder:/x")]


def test_moved_data_with_the_same_content_is_the_same_run() -> None:
    moved = {"spec": "folder:/moved", "fingerprint": "aa", "shape": SHAPE}
    assert find_differences(identity(), identity(data=moved)) == []


def test_statistics_summed_in_another_order_are_the_same_run() -> None:
    def describe(mean: float) -> RunIdentity:
        shape = {**SHAPE, "mean": [mean], "std": [0.3]}
        data = {"spec": "digits", "fingerprint": "aa", "shape": shape}
        return identity(data=data, family_config={"pixels": {"mean": [mean]}})

    assert find_differences(describe(0.5007419861999213), describe(0.5007419861999215)) == []
    assert find_differences(describe(0.5007419861), describe(0.5007419862)) != []


def test_a_folder_with_strangers_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".partial-run.json-1").touch()
    check_free(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"not empty and is not a run \(thesis.tex\)"):
        create_run(tmp_path, identity(), SPACE)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".partial-run.json-1", "thesis.tex"]


def test_a_damaged_or_newer_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a run directory"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text('{"version": 1, "fam')
    with pytest.raises(ValueError, match="not valid JSON"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"version": 2}))
    with pytest.raises(ValueError, match="version 2"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"version": 1, "family": "f"}))
    with pytest.raises(ValueError, match="lacks 'preset'"):
        open_run(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="locks are POSIX")
def test_two_writers_at_once_are_refused(tmp_path: Path) -> None:
    run = create_run(tmp_path, identity(), SPACE)
    with (
        run.writing(),
        pytest.raises(ValueError, match="another command is writing"),
        run.writing(),
    ):
        pass
    with run.writing():
        pass
