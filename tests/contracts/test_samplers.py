"""What every module in ``supernet/training/samplers`` has to do."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import Progress, Recipe, train
from supernet.training.samplers import names
from supernet.training.strategy import Learns, Remembers
from tests.supernet.choice_toys import choice_supernet
from tests.supernet.toys import toy_data

STEPS = 20


def recipe_for(name: str) -> Recipe:
    return Recipe(
        steps=STEPS,
        batch_size=12,
        warmup_steps=2,
        ema_decay=0.9,
        augment="none",
        distill="none",
        sampler=name,
        random_architectures=2,
        checkpoint_every=10,
        log_every=1,
        seed=5,
    )


@pytest.fixture(params=names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def module(name: str) -> ModuleType:
    return importlib.import_module(f"supernet.training.samplers.{name}")


def score(architectures: Sequence[Architecture]) -> list[float]:
    """A loss that is a function of the architecture."""
    return [int(a.digest, 16) / 16**12 for a in architectures]


def with_gradients(supernet: Supernet, step: int, drawn: Sequence[Architecture]) -> None:
    """What samplers that look at gradients find after the backward passes."""
    inputs, targets = toy_data().train.batch(slice(12 * step % 48, 12 * step % 48 + 12), "cpu")
    supernet.zero_grad(set_to_none=True)
    for architecture in drawn:
        torch.nn.functional.cross_entropy(supernet(inputs, architecture), targets).backward()


def feed(supernet: Supernet, sampler: Any, steps: range) -> list[tuple[Architecture, ...]]:
    drawn = []
    for step in steps:
        architectures = sampler.draw(step, score)
        drawn.append(architectures)
        if isinstance(sampler, Learns):
            with_gradients(supernet, step, architectures)
            losses = score(architectures)
            known = dict(zip(architectures, [(1 + x) / (1 + step) for x in losses], strict=True))
            sampler.learn(step, known)
    return drawn


def test_there_is_something_to_test() -> None:
    expected = {"best_up", "budget", "fair", "panda", "sandwich", "shift", "uniform", "worst_up"}
    assert expected <= set(names())


def test_it_says_what_it_is(module: ModuleType) -> None:
    assert isinstance(module.SUMMARY, str)
    assert "\n" not in module.SUMMARY
    assert isinstance(module.LARGEST_FIRST, bool)
    assert list(inspect.signature(module.build).parameters) == ["supernet", "recipe", "steps"]


def test_draws_are_members_without_repeats_and_a_function_of_seed_and_step(
    module: ModuleType, name: str
) -> None:
    supernet = choice_supernet()
    space, recipe = supernet.space, recipe_for(name)
    sampler = module.build(supernet, recipe, STEPS)
    other = module.build(supernet, replace(recipe, seed=6), STEPS)
    drawn = [sampler.draw(step, score) for step in range(STEPS)]
    # Any order, as often as one likes, from another object: no hidden generator moves on.
    again = module.build(choice_supernet(1), recipe, STEPS)
    for step in reversed(range(STEPS)):
        assert sampler.draw(step, score) == drawn[step] == again.draw(step, score)
    assert [other.draw(step, score) for step in range(STEPS)] != drawn
    for architectures in drawn:
        assert len(set(architectures)) == len(architectures) >= 1
        positions = space.encode(architectures)  # refuses members of another space
        assert np.array_equal(space.canonical(positions), positions)
        if module.LARGEST_FIRST:
            assert architectures[0] == space.largest
    assert len(set(drawn)) > STEPS // 2


def test_the_global_generators_are_left_alone(module: ModuleType, name: str) -> None:
    supernet = choice_supernet()
    torch.manual_seed(3)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    sampler = module.build(supernet, recipe_for(name), STEPS)
    sampler.draw(0, score)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_a_resumed_sampler_draws_the_same(module: ModuleType, name: str) -> None:
    supernet = choice_supernet()
    whole = module.build(supernet, recipe_for(name), STEPS)
    first = module.build(supernet, recipe_for(name), STEPS)
    expected = feed(supernet, whole, range(STEPS))
    assert feed(supernet, first, range(10)) == expected[:10]
    second = module.build(supernet, recipe_for(name), STEPS)
    if isinstance(first, Remembers):
        state = {key: tensor.clone() for key, tensor in first.state_dict().items()}
        feed(supernet, first, range(10, 12))  # must not reach into what was saved
        second.load_state_dict(state)
    assert feed(supernet, second, range(10, STEPS)) == expected[10:]
    assert isinstance(first, Remembers) == isinstance(first, Learns)


@pytest.mark.exactness
def test_ten_steps_and_ten_more_are_twenty_bit_for_bit(tmp_path: Path, name: str) -> None:
    def run(folder: Path, recipe: Recipe, seed: int, stop: int | None = None) -> dict[str, Any]:
        def progress(report: Progress) -> None:
            if report.step == stop:
                raise KeyboardInterrupt

        supernet = choice_supernet(seed)
        train(supernet, toy_data(), recipe, folder, progress=progress)
        return supernet.state_dict()

    recipe = replace(recipe_for(name), rows="importance")
    whole = run(tmp_path / "whole", recipe, 0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", recipe, 0, stop=13)
    parts = run(tmp_path / "parts", recipe, 1)
    assert all(torch.equal(tensor, parts[key]) for key, tensor in whole.items())
