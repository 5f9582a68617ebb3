"""Checks of the contract of a sampler, for this project's samplers and for your own.

In a test of your package::

    import pytest
    from supernet.testing.sampler_contract import CHECKS
    from my_package import my_sampler

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_sampler(check):
        check(my_sampler)

Every check takes the sampler's module, which has to be importable by its name, and raises
``AssertionError`` where the contract of :class:`supernet.training.method.Sampler` is broken. They
run on a toy supernet of choice blocks and an elastic width.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.toy_supernets import build_choice_supernet, make_toy_data
from supernet.training import Progress, Recipe, train
from supernet.training.method import Learns, Remembers

STEPS = 20
FOLDER = "supernet.training.samplers"


def make_recipe(sampler: ModuleType) -> Recipe:
    """Make a short recipe that uses a sampler."""
    package, _, name = sampler.__name__.rpartition(".")
    return Recipe(
        steps=STEPS,
        batch_size=12,
        warmup_steps=2,
        ema_decay=0.9,
        augment="none",
        distill="none",
        sampler=name if package == FOLDER else sampler.__name__,
        random_architectures=2,
        checkpoint_every=10,
        log_every=1,
        seed=5,
    )


def score(architectures: Sequence[Architecture]) -> list[float]:
    """Score architectures by a loss that is a function of each alone."""
    return [int(a.digest, 16) / 16**12 for a in architectures]


def draw_and_teach(
    supernet: Supernet, sampler: Any, steps: range
) -> list[tuple[Architecture, ...]]:
    """Draw for some steps; a sampler that learns sees gradients and losses after each."""
    drawn = []
    for step in steps:
        architectures = sampler.draw(step, score)
        drawn.append(architectures)
        if isinstance(sampler, Learns):
            _run_backward(supernet, step, architectures)
            losses = [(1 + loss) / (1 + step) for loss in score(architectures)]
            sampler.learn(step, dict(zip(architectures, losses, strict=True)))
    return drawn


def check_parts(sampler: ModuleType) -> None:
    """The module says in a line what it is, whether the largest comes first, and can build."""
    assert isinstance(sampler.SUMMARY, str), "SUMMARY is no text"
    assert "\n" not in sampler.SUMMARY, "SUMMARY has several lines"
    assert isinstance(sampler.LARGEST_FIRST, bool), "LARGEST_FIRST is neither True nor False"
    assert list(inspect.signature(sampler.build).parameters) == ["supernet", "recipe", "steps"]


def check_draws(sampler: ModuleType) -> None:
    """Draws are distinct members of the space, and a function of seed and step alone."""
    supernet, recipe = build_choice_supernet(), make_recipe(sampler)
    space = supernet.space
    built = sampler.build(supernet, recipe, STEPS)
    drawn = [built.draw(step, score) for step in range(STEPS)]
    # Any order, as often as one likes, from another object: no hidden generator moves on.
    again = sampler.build(build_choice_supernet(1), recipe, STEPS)
    for step in reversed(range(STEPS)):
        assert built.draw(step, score) == drawn[step], f"step {step} drawn again differs"
        assert again.draw(step, score) == drawn[step], f"step {step} differs in another object"
    if hasattr(sampler, "count"):
        most = max(len(architectures) for architectures in drawn)
        assert most == sampler.count(recipe), "count says another number than most steps draw"
    for architectures in drawn:
        assert len(set(architectures)) == len(architectures) >= 1
        positions = space.encode(architectures)  # refuses members of another space
        assert np.array_equal(space.canonical(positions), positions)
        if sampler.LARGEST_FIRST:
            assert architectures[0] == space.largest, "the largest architecture is not the first"


def check_seeds(sampler: ModuleType) -> None:
    """Another seed draws otherwise, unless every step draws the same."""
    supernet, recipe = build_choice_supernet(), make_recipe(sampler)
    built = sampler.build(supernet, recipe, STEPS)
    other = sampler.build(supernet, replace(recipe, seed=6), STEPS)
    drawn = [built.draw(step, score) for step in range(STEPS)]
    if len(set(drawn)) > 1:
        assert [other.draw(step, score) for step in range(STEPS)] != drawn
        assert len(set(drawn)) > STEPS // 2, "most steps draw what others drew"


def check_global_generators(sampler: ModuleType) -> None:
    """Torch's and numpy's global generators are left alone."""
    supernet = build_choice_supernet()
    torch.manual_seed(3)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    sampler.build(supernet, make_recipe(sampler), STEPS).draw(0, score)
    assert torch.equal(torch.get_rng_state(), torch_state), "torch's generator has moved on"
    assert all(map(np.array_equal, np.random.get_state(), numpy_state)), "numpy's has moved on"


def check_resume(sampler: ModuleType) -> None:
    """A sampler that is restored from its state draws what an undisturbed one draws."""
    supernet, recipe = build_choice_supernet(), make_recipe(sampler)
    whole, first = (sampler.build(supernet, recipe, STEPS) for _ in range(2))
    expected = draw_and_teach(supernet, whole, range(STEPS))
    assert draw_and_teach(supernet, first, range(10)) == expected[:10]
    second = sampler.build(supernet, recipe, STEPS)
    if isinstance(first, Remembers):
        state = {key: tensor.clone() for key, tensor in first.state_dict().items()}
        draw_and_teach(supernet, first, range(10, 12))  # must not reach into what was saved
        second.load_state_dict(state)
    assert draw_and_teach(supernet, second, range(10, STEPS)) == expected[10:]
    assert isinstance(first, Remembers) == isinstance(first, Learns), (
        "a sampler that learns has to remember, and one that does not has nothing to remember"
    )


def check_interrupted_training(sampler: ModuleType) -> None:
    """A training that is stopped and continued ends with the weights of one that was not."""

    def train_once(folder: Path, seed: int, stop: int | None = None) -> dict[str, Any]:
        def stop_here(report: Progress) -> None:
            if report.step == stop:
                raise KeyboardInterrupt

        supernet = build_choice_supernet(seed)
        train(supernet, make_toy_data(), recipe, folder, progress=stop_here)
        return dict(supernet.state_dict())

    recipe = replace(make_recipe(sampler), rows="importance")
    with tempfile.TemporaryDirectory() as scratch:
        whole = train_once(Path(scratch) / "whole", seed=0)
        stopped = False
        try:
            train_once(Path(scratch) / "parts", seed=0, stop=13)
        except KeyboardInterrupt:
            stopped = True
        assert stopped, "the training ended before it was stopped"
        parts = train_once(Path(scratch) / "parts", seed=1)
    for key, tensor in whole.items():
        assert torch.equal(tensor, parts[key]), f"{key} differs after the interruption"


def check_sampler(sampler: ModuleType) -> None:
    """Make every check."""
    for check in CHECKS:
        check(sampler)


def _run_backward(supernet: Supernet, step: int, drawn: Sequence[Architecture]) -> None:
    """Leave the gradients that samplers find after the backward passes of a step."""
    rows = slice(12 * step % 48, 12 * step % 48 + 12)
    inputs, targets = make_toy_data().train.batch(rows, torch.device("cpu"))
    supernet.zero_grad(set_to_none=True)
    for architecture in drawn:
        torch.nn.functional.cross_entropy(supernet(inputs, architecture), targets).backward()


# Those that must hold to the bit on every processor in its reproducible mode.
EXACTNESS_CHECKS = (check_interrupted_training,)
CHECKS = (
    check_parts,
    check_draws,
    check_seeds,
    check_global_generators,
    check_resume,
    *EXACTNESS_CHECKS,
)
