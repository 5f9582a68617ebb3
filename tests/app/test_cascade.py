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
from supernet.cascades import serve_cascade
from supernet.quality.confidence import answer_samples
from tests.app.conftest import QUICK_SEARCH, Command, contents
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
    assert f"the front on val has {len(found['front'])} point" in command(*flags).out


def test_both_networks_are_exported_with_their_threshold(
    command: Command, refused: Callable[..., str], a_run: Path, tmp_path: Path
) -> None:
    """ONNX Runtime and the threshold of ``cascade.json`` give the accuracy that is stated."""
    front = json.loads((a_run / "searches/default/front.json").read_text())
    small, large = [point["digest"] for point in front["points"] if point["verified"]][:2]
    out = tmp_path / "out"
    pair = ("--small", small, "--large", large, "--threshold", 0.5, "--out", out)
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert "holds other files (mine.txt)" in refused("cascade", "--run", a_run, *pair)
    (out / "mine.txt").unlink()
    outcome = command("cascade", "--run", a_run, *pair)
    assert outcome.code == 0, outcome.err
    record = read_record(out / "cascade.json", CascadeRecord, "")
    assert (record.small, record.large, record.threshold) == (small, large, 0.5)
    assert 0 < record.continued < 1
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


def test_an_operating_point_of_ones_own(command: Command, finished_run: Path) -> None:
    front = json.loads((finished_run / "searches/default/front.json").read_text())
    points = [one for one in front["points"] if one["verified"]]
    small, large = points[0], points[-1]
    names = (small["digest"], large["digest"])
    trained = open_trained(open_run(finished_run), print)
    space = trained.supernet.space
    first, second = (
        answer_samples(
            trained.supernet, space.architecture(one["architecture"]), trained.data, "test"
        )
        for one in (small, large)
    )
    threshold = float(np.median(first[1]))
    flags = ("--small", names[0][:8], "--large", names[1], "--threshold", threshold)
    outcome = command("cascade", "--run", finished_run, *flags, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    asked = first[1] < threshold
    hits = np.where(asked, second[0], first[0])
    chosen = found["chosen"]
    assert (chosen["point"]["small"], chosen["point"]["large"]) == names
    assert chosen["accuracy"] == pytest.approx(hits.mean())
    assert chosen["continued"] == pytest.approx(asked.mean())
    took = [one["objectives"]["latency_ms"]["value"] for one in (small, large)]
    assert chosen["mean_ms"] == pytest.approx(took[0] + asked.mean() * took[1])
    tail = took[0] + took[1] if asked.mean() > 0.05 else took[0]
    assert chosen["percentiles_ms"]["95"] == pytest.approx(tail)
    single = found["single"]
    assert single["point"]["mean_ms"] <= chosen["point"]["mean_ms"]
    assert found["difference"] == pytest.approx(chosen["accuracy"] - single["accuracy"])
    low, high = found["difference_interval"]
    assert low < found["difference"] < high
    said = command("cascade", "--run", finished_run, *flags).out
    assert said.startswith("As asked for, on cpu:")
    assert "points on test (" in said


@pytest.fixture(scope="module")
def layered_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision transformer that has learnt a little; never write to it."""
    from app.commands.main import run

    path = tmp_path_factory.mktemp("layered") / "run"
    for arguments in (
        ["train", "--out", path, "--family", "matvit", "--data", "digits", "--steps", 60],
        ["profile", "--run", path, "--passes", 2, "--networks", 4],
        ["search", "--run", path, *QUICK_SEARCH],
    ):
        assert run([str(argument) for argument in (*arguments, "--quiet")]) == 0
    return path


def test_early_exits_go_on_for_the_rest_of_the_latency(command: Command, layered_run: Path) -> None:
    """What is stated is what a cascade does that runs on the supernet's own weights."""
    flags = ("cascade", "--run", layered_run, "--early-exit", "--latency-ms", 1e6)
    everything = command(*flags, "--json")
    assert everything.code == 0, everything.err
    front = json.loads(everything.out)["front"]
    exits = [point for point in front if point["shared"]]
    assert exits, "the first layers of a network answer in no time of their own"
    budget = exits[0]["mean_ms"] * (1 + 1e-9)
    outcome = command(*flags[:-1], budget, "--json")
    assert outcome.code == 0, outcome.err
    chosen = json.loads(outcome.out)["chosen"]
    point = chosen["point"]
    assert point == exits[0]
    search = json.loads((layered_run / "searches/default/front.json").read_text())
    known = {one["digest"]: one for one in search["points"]}
    trained = open_trained(open_run(layered_run), print)
    space = trained.supernet.space
    large = space.architecture(known[point["large"]]["architecture"])
    small = space.architecture(large.to_dict() | {"depth": point["shared"]})
    assert small.digest == point["small"]
    cascade = serve_cascade(trained.supernet, small, large, point["threshold"])
    assert cascade.shared == point["shared"]
    split = trained.data.split("test")
    pixels, targets = split.batch(slice(0, len(split)), torch.device("cpu"))
    answers = cascade.answer(pixels)
    few = 2 / len(targets)
    right = answers.logits.argmax(-1) == targets
    assert float(right.double().mean()) == pytest.approx(chosen["accuracy"], abs=few)
    assert float(answers.asked.double().mean()) == pytest.approx(chosen["continued"], abs=few)
    # Both parts take more than the large network alone, and less than both networks.
    alone = known[point["large"]]["objectives"]["latency_ms"]["value"]
    first, both = (point["percentiles_ms"][name] for name in ("50", "99"))
    if point["continued"] > 0.01:
        assert alone <= both * (1 + 1e-9)
        assert both < alone + first
    assert "goes on where it is less than" in command(*flags[:-1], budget).out


def test_the_least_latency_that_is_named_is_enough(
    command: Command, refused: Callable[..., str], layered_run: Path
) -> None:
    """An early exit alone is faster than what is left of it as a cascade, and is no answer."""
    flags = ("cascade", "--run", layered_run, "--early-exit", "--latency-ms")
    said = refused(*flags, 1e-6)
    least = float(said.partition("the fastest takes ")[2].split(" ms")[0])
    # It is said with four digits.
    outcome = command(*flags, least * 1.001, "--json")
    assert outcome.code == 0, outcome.err


def test_early_exits_need_layers(refused: Callable[..., str], finished_run: Path) -> None:
    found = refused("cascade", "--run", finished_run, "--latency-ms", 1, "--early-exit")
    assert "no network of search 'default' has early exits" in found
    flags = ("cascade", "--run", finished_run, "--latency-ms", 1, "--early-exit", "--out", "x")
    assert "leave out --early-exit or --out" in refused(*flags)


def test_impossible_operating_points(refused: Callable[..., str], finished_run: Path) -> None:
    flags = ("cascade", "--run", finished_run)
    front = json.loads((finished_run / "searches/default/front.json").read_text())
    digest = next(one["digest"] for one in front["points"] if one["verified"])
    twice = ("--small", digest, "--large", digest)
    assert "a threshold of 1.5 is impossible" in refused(*flags, *twice, "--threshold", 1.5)
    assert f"{digest} is both --small and --large" in refused(*flags, *twice, "--threshold", 0.5)
    assert "needs all of --small, --large and --threshold" in refused(*flags, *twice)
    assert "exactly one of a budget" in refused(*flags)
    both = (*flags, *twice, "--threshold", 0.5, "--latency-ms", 1)
    assert "exactly one of a budget" in refused(*both)
    other = ("--small", "largest", "--large", digest, "--threshold", 0.5)
    assert "is no verified network of search 'default'" in refused(*flags, *other)


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
