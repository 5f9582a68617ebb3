"""`supernet cascade`: two networks of a search that answer together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from app.records.cascade import CascadeRecord
from app.records.typed_json.record_files import read_record
from app.runs.directory import open_run
from app.runs.trained import open_run_data, open_trained
from supernet.quality.confidence import answer_samples
from tests.app.conftest import Command, contents
from tests.toys.explored_runs import write_run


def test_a_cascade_is_chosen_on_val_and_judged_on_test(
    command: Command, finished_run: Path, tmp_path: Path
) -> None:
    before = contents(finished_run)
    flags = ("cascade", "--run", finished_run, "--latency-ms", 1e6)
    outcome = command(*flags, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    chosen, single = found["chosen"], found["single"]
    assert chosen["point"]["accuracy"] >= single["point"]["accuracy"]
    assert single["point"]["large"] is None
    times = [point["mean_ms"] for point in found["front"]]
    assert times == sorted(times)
    point = chosen["point"]
    trained = open_trained(open_run(finished_run), print)
    names = [name for name in (point["small"], point["large"]) if name is not None]
    front = json.loads((finished_run / "searches/default/front.json").read_text())
    choices = {one["digest"]: one["architecture"] for one in front["points"]}
    answers = [
        answer_samples(
            trained.supernet, trained.supernet.space.architecture(choices[name]), trained.data,
            "test",
        )
        for name in names
    ]  # fmt: skip
    asked = answers[0][1] < point["threshold"]
    hits = np.where(asked, answers[-1][0], answers[0][0])
    assert chosen["accuracy"] == pytest.approx(hits.mean())
    assert chosen["continued"] == pytest.approx(asked.mean())
    assert contents(finished_run) == before
    assert f"{len(found['front'])} points of the front" in command(*flags).out


def test_both_networks_are_exported_with_their_threshold(
    command: Command, a_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime and the threshold of ``cascade.json`` give the accuracy that is stated."""
    found = json.loads(command("cascade", "--run", a_run, "--latency-ms", 1e6, "--json").out)
    cascades = [point for point in found["front"] if point["large"] is not None]
    if not cascades:
        pytest.skip("no cascade of this run's networks beats them alone")
    budget = cascades[-1]["mean_ms"] * (1 + 1e-9)
    out = tmp_path / "out"
    outcome = command("cascade", "--run", a_run, "--latency-ms", budget, "--out", out)
    assert outcome.code == 0, outcome.err
    record = read_record(out / "cascade.json", CascadeRecord, "")
    assert (record.small, record.large) == (cascades[-1]["small"], cascades[-1]["large"])
    trained = open_trained(open_run(a_run), print)
    images = open_run_data(trained.run).split("test")
    pixels, targets = images.batch(slice(0, len(images)), torch.device("cpu"))
    models = json.loads((out / "nested.json").read_text())["models"]
    chances = []
    for name, model in zip((record.small, record.large), models, strict=True):
        session = onnxruntime.InferenceSession(
            str(out / f"{name}.onnx"), providers=["CPUExecutionProvider"]
        )
        (given,) = session.get_inputs()
        architecture = trained.supernet.space.architecture(model["choices"])
        ready = trained.supernet.prepare(pixels, architecture).numpy()
        logits = session.run(None, {given.name: ready})[0]
        powers = np.exp(logits - logits.max(1, keepdims=True))
        chances.append(powers / powers.sum(1, keepdims=True))
    asked = chances[0].max(1) < record.threshold
    answers = np.where(asked, chances[1].argmax(1), chances[0].argmax(1))
    assert (answers == targets.numpy()).mean() == pytest.approx(
        record.accuracy, abs=2 / len(targets)
    )
    assert asked.mean() == pytest.approx(record.continued, abs=2 / len(targets))


def test_bad_input(refused: Callable[..., str], finished_run: Path, tmp_path: Path) -> None:
    flags = ("cascade", "--run", finished_run)
    assert "no network answers within 1e-06 ms; the fastest takes" in refused(
        *flags, "--latency-ms", 1e-6
    )
    assert "a latency budget of -1 ms cannot work" in refused(*flags, "--latency-ms", -1)
    assert "percentile 101 is impossible; it must be above 0 and at most 100" in refused(
        *flags, "--latency-ms", 1, "--percentile", 101
    )
    assert "there is no front of a search 'other'" in refused(
        *flags, "--latency-ms", 1, "--search", "other"
    )
    found = refused(*flags, "--latency-ms", 1, "--device", "phone")
    assert "has no device 'phone'" in found


def test_only_classes_can_be_sure(refused: Callable[..., str], tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    text = path.read_text()
    assert '"image-classification"' in text
    path.write_text(text.replace('"image-classification"', '"language-modelling"'))
    said = refused("cascade", "--run", tmp_path / "run", "--latency-ms", 1)
    assert "a cascade needs classes to be sure of" in said
