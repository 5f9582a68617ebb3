"""Accuracies are shown beside what always answering with the largest class would give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from app.records.class_balance import LargestClass
from app.records.evaluation import EvaluationRecord
from app.reporting.class_balance import describe_balance, warn_of_largest_class
from app.runs.class_balance import describe_largest_class
from supernet.data import open_data
from supernet.quality.class_balance import compute_balanced_accuracy, find_largest_class
from supernet.quality.evaluate import evaluate
from supernet.testing.toy_supernets import build_toy_supernet, make_toy_data
from tests.app.conftest import QUICK_SEARCH, Command


def _largest(share: float, classes: int) -> LargestClass:
    return LargestClass(name="a", share=share, classes=classes, split="val")


def test_balanced_accuracy_counts_every_class_the_same() -> None:
    targets = torch.tensor([0, 0, 0, 0, 2, 2, 3])
    assert find_largest_class(targets) == (0, pytest.approx(4 / 7))
    always = np.array([1.0, 1, 1, 1, 0, 0, 0])
    assert compute_balanced_accuracy(always, targets) == pytest.approx(1 / 3), (
        "no sample of class 1"
    )
    some = np.array([1.0, 0, 1, 1, 1, 0, 1])
    assert compute_balanced_accuracy(some, targets) == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert np.isnan(compute_balanced_accuracy(np.array([np.nan] * 7), targets))


def test_evaluation_gives_it_and_keeps_its_value() -> None:
    supernet, data = build_toy_supernet().eval(), make_toy_data()
    found = evaluate(supernet, supernet.space.largest, data)
    # Classes are equally frequent but for one sample, so that both are nearly the same.
    assert found.balanced == pytest.approx(found.value, abs=0.05)


@pytest.mark.parametrize(
    ("share", "classes", "dominates"),
    [(0.5, 2, False), (0.59, 2, False), (0.61, 2, True), (0.14, 10, False), (0.15, 10, True)],
)
def test_balanced_classes_are_not_worth_a_word(share: float, classes: int, dominates: bool) -> None:
    largest = _largest(share, classes)
    assert largest.dominates is dominates
    assert bool(describe_balance(largest, 0.4)) is dominates


def test_the_clause_and_the_warning() -> None:
    largest = _largest(0.95, 2)
    assert describe_balance(largest, 0.5) == "balanced 50.00 %, largest class 'a' 95.00 %"
    assert describe_balance(largest) == "largest class 'a' 95.00 %"
    assert describe_balance(None) == ""
    assert warn_of_largest_class(largest, [0.95, None, 0.9], "no point is") == (
        "warning: no point is better than always answering 'a', which is right for 95.00 % of the "
        "val split."
    )
    assert warn_of_largest_class(largest, [0.9, 0.951], "no point is") == ""
    assert warn_of_largest_class(largest, [None], "no point is") == "", "nothing was evaluated"
    assert warn_of_largest_class(None, [0.1], "no point is") == ""


def test_older_logs_and_texts_have_no_classes(tmp_path: Path) -> None:
    line = {
        "architecture": {},
        "digest": "0123456789ab",
        "objective": "loss",
        "value": 1.0,
        "unit": "n",
        "split": "val",
    }
    assert EvaluationRecord.model_validate(line).balanced is None
    digits = describe_largest_class(open_data("digits"), "val")
    assert digits is not None
    assert not digits.dominates
    (tmp_path / "t.txt").write_text("a quick brown fox " * 200)
    assert describe_largest_class(open_data(f"text:{tmp_path / 't.txt'}", context=8), "val") is None


@pytest.fixture(scope="module")
def unbalanced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise, 95 of 100 of one class."""
    root = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for name, count in (("many", 190), ("rare", 10)):
        (root / name).mkdir()
        for number in range(count):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def test_every_command_says_that_nothing_beats_the_largest_class(
    command: Command, unbalanced: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    always = "always answering 'many'"
    share = "right for 95.00 % of the val split"
    trained = command("train", "--out", run, "--data", f"folder:{unbalanced}", "--preset", "tiny",
                      "--image-size", "8", "--steps", "2", "--batch-size", "16")  # fmt: skip
    assert f"warning: {always} is {share}" in trained.out
    found = command("evaluate", "--run", run, "--arch", "smallest")
    assert "balanced 50.00 %, largest class 'many' 95.00 %" in found.out
    assert f"warning: this is no better than {always}, which is {share}." in found.out
    stored = json.loads(command("evaluate", "--run", run, "--arch", "smallest", "--json").out)
    assert stored["balanced"] == 0.5
    assert stored["largest_class"] == {"name": "many", "share": 0.95, "classes": 2, "split": "val"}
    searched = command("search", "--run", run, "--objectives", "accuracy,macs", *QUICK_SEARCH)
    assert f"warning: no point of the front is better than {always}, which is {share}." in (
        searched.out
    )
    picked = command("pick", "--run", run, "--knee")
    assert "on test (balanced 50.00 %, largest class 'many' 95.00 %)" in picked.out
    assert f"warning: this is no better than {always}" in picked.out
    command("export", "--run", run, "--arch", "smallest", "--out", tmp_path / "out")
    card = (tmp_path / "out/card.md").read_text()
    assert "; balanced 50.00 %, largest class 'many' 95.00 % |" in card
    assert f"**Warning:** this network is no better than {always}, which is {share}." in card
