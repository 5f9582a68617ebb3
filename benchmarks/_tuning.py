"""Networks that take what they inherit from a supernet, and may train on from there."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _answers import answer
from _truth_records import Record, pack_answers
from _truth_training import Training

from app.runs.teacher import make_teacher
from supernet.supernet import Supernet
from supernet.training import Recipe, train
from supernet.training.standalone import make_finetuning_recipe, make_standalone

INHERITED = "inherited"


@dataclass(frozen=True)
class Way:
    """One way to go on from inherited weights.

    Args:
        rate_share: Peak rate, as a share of the supernet's.
        label_share: Weight of the labels beside the teacher; ``None`` without a teacher.
    """

    rate_share: float
    label_share: float | None

    def __str__(self) -> str:
        share = "none" if self.label_share is None else f"{self.label_share:g}"
        return f"{self.rate_share:g}:{share}"

    def describe(self) -> str:
        """What a table calls it."""
        if self.label_share is None:
            taught = "labels alone"
        else:
            taught = f"teacher, labels at {self.label_share:g}"
        return f"fine-tuned at {self.rate_share:g} of the rate, {taught}"

    def make_recipe(self, supernets: Recipe, steps: int, epoch: int) -> Recipe:
        """Make the recipe of a fine-tuning from that of the supernet."""
        changes: dict[str, Any] = {
            "epochs": None,
            "steps": steps,
            "checkpoint_every": steps,
            "learning_rate": self.rate_share * supernets.learning_rate,
        }
        taught = self.label_share is not None
        if taught:
            changes["label_share"] = self.label_share
        return make_finetuning_recipe(supernets, changes, epoch, taught=taught)


@dataclass(frozen=True)
class Tuning:
    """Networks of one supernet that answer with inherited weights, or one that is fine-tuned first.

    Args:
        supernet: How the supernet is trained.
        folder: Where trained supernets are kept.
        split: The split that networks answer.
        networks: Digests of the networks that answer.
        rows: Their positions in the space.
        way: How the only one of them is fine-tuned; ``None`` for inherited weights.
        recipe: The recipe of that way.
    """

    supernet: Training
    folder: Path
    split: str
    networks: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    way: Way | None = None
    recipe: Recipe | None = None

    @property
    def settings(self) -> str:
        """Hash of all that decides the answers, but the code."""
        content = [self.supernet.settings, self.split]
        if self.recipe is not None:
            taught = self.way is not None and self.way.label_share is not None
            content += [self.networks, self.recipe.to_json(), taught]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        which = f"{self.networks[0]}, {self.way.describe()}" if self.way else INHERITED
        return f"{self.supernet.task.name}: {which}, seed {self.supernet.seed}"


def open_supernet(supernet: Training, folder: Path) -> tuple[Supernet, float]:
    """Train a supernet, or take the one that is kept; also the processor time that took.

    Raises:
        DivergedError: Its training diverged.
    """
    task, built = supernet.task, supernet.task.build(supernet.recipe.seed)
    began = time.process_time()
    train(built, task.open(), supernet.recipe, folder / supernet.settings)
    return built, time.process_time() - began


def tune(tuning: Tuning) -> Record:
    """Take inherited weights, train on where that is asked for, and answer, in this process.

    Raises:
        DivergedError: A training diverged.
    """
    data = tuning.supernet.task.open()
    supernet, seconds = open_supernet(tuning.supernet, tuning.folder)
    networks = supernet.space.decode(np.array(tuning.rows, dtype=np.int16))
    steps = tuning.supernet.recipe.steps
    if tuning.way is not None and tuning.recipe is not None:
        taught, steps = tuning.way.label_share is not None, tuning.recipe.steps
        began = time.process_time()
        teacher = make_teacher(supernet, data) if taught else None
        supernet = make_standalone(supernet, networks[0])
        networks = [supernet.space.smallest]
        with tempfile.TemporaryDirectory() as folder:
            train(supernet, data, tuning.recipe, Path(folder), teacher=teacher)
        seconds = time.process_time() - began
    answers = answer(supernet, networks, data, [tuning.split])[:, 0]
    return Record(
        task=tuning.supernet.task.name,
        recipe=INHERITED if tuning.way is None else str(tuning.way),
        settings=tuning.settings,
        seed=tuning.supernet.seed,
        steps=steps,
        networks=tuning.networks,
        samples=answers.shape[1],
        answers=tuple(pack_answers(row) for row in answers),
        cpu_seconds=round(seconds, 2),
    )
