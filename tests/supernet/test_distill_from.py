"""Distillation that begins after a share of the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from supernet.errors import InputError
from supernet.supernet import Supernet
from supernet.testing.toy_supernets import build_toy_supernet, make_toy_data
from supernet.training import Recipe, compose, train
from supernet.training.loop import take_step
from supernet.training.state import TrainingState

STEPS = 8
RECIPE = Recipe(steps=STEPS, batch_size=16, warmup_steps=0, label_smoothing=0.1, ema_decay=0.0)


def list_weights(recipe: Recipe, folder: Path, count: int) -> list[torch.Tensor]:
    """Weights of a toy supernet after ``count`` of the recipe's steps."""
    supernet, data = build_toy_supernet(0), make_toy_data()
    supernet.train()
    method = compose(supernet, data, recipe, STEPS)
    state = TrainingState.begin(method, data, recipe, folder)
    for step in range(count):
        take_step(state, data, recipe, step, STEPS, torch.device("cpu"))
    return [parameter.detach().clone() for parameter in supernet.parameters()]


def are_equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("distill", ["inplace", "guidance"])
def test_labels_alone_teach_until_then(distill: str, tmp_path: Path) -> None:
    labels = RECIPE.replace({"distill": "none"})
    late = RECIPE.replace({"distill": distill, "distill_from": 0.5})
    first = list_weights(labels, tmp_path / "a", STEPS // 2)
    assert are_equal(list_weights(late, tmp_path / "b", STEPS // 2), first)
    after = list_weights(labels, tmp_path / "c", STEPS // 2 + 1)
    assert not are_equal(list_weights(late, tmp_path / "d", STEPS // 2 + 1), after)


def test_a_continued_training_distils_from_the_same_step(tmp_path: Path) -> None:
    recipe = RECIPE.replace({"distill_from": 0.5, "checkpoint_every": 2})
    data = make_toy_data()

    class StopError(Exception):
        pass

    def stop(done: int, _: int) -> None:
        if done == 5:
            raise StopError

    def build() -> Supernet:
        return build_toy_supernet(0)

    whole = build()
    train(whole, data, recipe, tmp_path / "whole")
    with pytest.raises(StopError):
        train(build(), data, recipe, tmp_path / "broken", stepped=stop)
    continued = build()
    result = train(continued, data, recipe, tmp_path / "broken")
    assert result.resumed_from == 4
    assert are_equal(list(continued.parameters()), list(whole.parameters()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distill": "none", "distill_from": 0.5}, "nothing would be distilled"),
        ({"distill_from": 1.0}, "at least 0 and below 1"),
    ],
)
def test_impossible_starts_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RECIPE.replace(changes)


def test_phases_have_their_own_start() -> None:
    recipe = Recipe(
        phases="progressive",
        sampler="uniform",
        distill="teacher",
        label_share=1.0,
        distill_from=0.5,
    )
    with pytest.raises(InputError, match=r"cannot go with distill_from = 0\.5"):
        compose(build_toy_supernet(0), make_toy_data(), recipe, 8)


def test_recipes_of_earlier_releases_are_written_as_they_were() -> None:
    assert "distill_from" not in RECIPE.to_json()
    assert RECIPE.replace({"distill_from": 0.25}).to_json()["distill_from"] == 0.25
