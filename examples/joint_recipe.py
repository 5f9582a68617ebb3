"""Search network and training recipe together: every candidate is trained alone, for a short time.

Run it: python examples/joint_recipe.py --evaluations 40

On digits, choices of a small residual network and of how it is trained (learning rate, weight
decay, label smoothing, averaged weights, augmentation) make one space. A few pilots tell how many
epochs are enough to rank; the search then stops every training there, and the front is trained to
the end. A few minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import predictors
from predictors.research.epochs import find_sufficient_epoch
from search import Objective, SearchProblem, search
from search.strategies import predictor_guided
from supernet.data import DataSource, open_data
from supernet.families import resnet
from supernet.joint_space import architecture_positions, joint_space, split
from supernet.quality.evaluate import evaluate
from supernet.space import Architecture, Value
from supernet.supernet import Supernet
from supernet.training import Recipe, cross_entropy
from supernet.training.batches import shuffled_rows, training_batch
from supernet.training.optimizer import Average, build_optimizer, learning_rate
from supernet.training.standalone import standalone

RECIPE: dict[str, tuple[Value, ...]] = {
    "learning_rate": (0.01, 0.03, 0.1, 0.3),
    "weight_decay": (1e-5, 1e-4, 1e-3, 1e-2),
    "label_smoothing": (0.0, 0.1, 0.2),
    "ema_decay": (0.0, 0.9, 0.97),
    "augment": ("none", "shift", "affine"),
}
DEFAULT: dict[str, Value] = {
    "learning_rate": 0.1,
    "weight_decay": 1e-4,
    "label_smoothing": 0.0,
    "ema_decay": 0.0,
    "augment": "none",
}


def main() -> None:
    """Pilots, search, and the front trained to the end; one line for each point."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--evaluations", type=int, default=40)
    arguments.add_argument("--epochs", type=int, default=12)
    arguments.add_argument("--pilots", type=int, default=6)
    arguments.add_argument("--seed", type=int, default=0)
    asked = arguments.parse_args()
    began, data = time.perf_counter(), open_data("digits")
    supernet = resnet.build(resnet.configure("tiny", data.shape))
    joint = joint_space(supernet.space, RECIPE)
    base = Recipe(epochs=asked.epochs, batch_size=64, warmup_steps=10, seed=asked.seed)
    print(f"{supernet.space.size:,} architectures x recipes = {joint.size:,} candidates")

    def trained(row: NDArray[np.int16], epochs: int, each: bool = False) -> list[float]:
        architecture, changes = split(joint, joint.decode(row[None])[0])
        return curve(supernet, architecture, base.but(changes), data, epochs, "val", each)

    pilots = joint.sample(np.random.default_rng(asked.seed), asked.pilots)
    enough = find_sufficient_epoch(np.array([trained(row, asked.epochs, True) for row in pilots]))
    print(f"{enough} of {asked.epochs} epochs rank {asked.pilots} pilots as all of them do")
    costs = supernet.cost_model()

    def accuracy(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        return np.array([trained(row, enough)[-1] for row in rows])

    def macs(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        return costs.macs(architecture_positions(joint, rows))

    objectives = (
        Objective("accuracy", "fraction", "maximize", accuracy, "evaluated"),
        Objective("macs", "operations", "minimize", macs, "analytic"),
    )
    result = search(
        SearchProblem(joint, objectives),
        predictor_guided.build(predictors.fit),
        evaluations=asked.evaluations,
        seed=asked.seed,
    )
    front = result.front
    print(f"{len(front)} points after {asked.evaluations} evaluations of {enough} epochs")
    for member, values in zip(joint.decode(front.positions), front.values, strict=True):
        print(json.dumps(finished(supernet, *split(joint, member), base, data, values)))
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)


def finished(
    supernet: Supernet,
    architecture: Architecture,
    changes: Mapping[str, Value],
    base: Recipe,
    data: DataSource,
    values: NDArray[np.float64],
) -> dict[str, Any]:
    """A point of the front after all epochs, on test, beside the same network's default recipe."""

    def test(recipe: Mapping[str, Value]) -> float:
        epochs = base.epochs or 1
        found = curve(supernet, architecture, base.but(recipe), data, epochs, "test")
        return round(found[-1], 4)

    return {
        "macs": int(values[1]),
        "val_short": round(float(values[0]), 4),
        "test": test(changes),
        "test_default_recipe": test(DEFAULT),
        "recipe": changes,
        "architecture": architecture.to_dict(),
    }


def curve(
    supernet: Supernet,
    architecture: Architecture,
    recipe: Recipe,
    data: DataSource,
    epochs: int,
    where: str,
    each: bool = False,
) -> list[float]:
    """Train one network alone and stop early, within the schedule of the whole training.

    Args:
        supernet: Where the network and its initial weights come from.
        architecture: Which network.
        recipe: How it is trained; its learning rate falls over all of its epochs.
        data: What it is trained on.
        epochs: After how many to stop.
        where: Split to measure on: ``"val"`` while choosing, ``"test"`` at the end.
        each: Measure after every epoch, not only after the last.

    Returns:
        Accuracy after each epoch, or after the last one alone.
    """
    net = standalone(supernet, architecture).train()
    only, cpu = net.space.smallest, torch.device("cpu")
    optimizer, average = build_optimizer(net, recipe), Average(net, recipe.ema_decay)
    steps = recipe.total_steps(data.epoch)
    ends = [math.ceil(steps * (i + 1) / (recipe.epochs or 1)) for i in range(epochs)]
    found: list[float] = []
    for step in range(ends[-1]):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, steps)
        rows = shuffled_rows(len(data.train), recipe.batch_size, step, recipe.seed)
        inputs, targets = training_batch(data, recipe, step, rows, cpu)
        optimizer.zero_grad()
        cross_entropy(net(inputs, only), targets, recipe.label_smoothing).backward()
        optimizer.step()
        average.update(step)
        if step + 1 in (ends if each else ends[-1:]):
            twin = standalone(net, only)
            twin.load_state_dict(average.weights, strict=False)
            # Averaged weights need normalisation statistics of their own.
            found.append(evaluate(twin, only, data, where, calibration_samples=512).value)
            net.train()
    return found


if __name__ == "__main__":
    main()
