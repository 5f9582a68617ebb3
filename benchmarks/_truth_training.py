"""Trainings whose networks' answers are kept: supernets, and single networks trained alone."""

from __future__ import annotations

import hashlib
import importlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from _answers import answer, count_samples
from _truth_records import Record, pack_answers

from supernet.data import DataSource, open_data
from supernet.errors import DivergedError, InputError
from supernet.family_config import encode_config
from supernet.supernet import Supernet
from supernet.training import Recipe, train
from supernet.training.standalone import make_standalone

ALONE = "alone"
_Asked = TypeVar("_Asked")


@dataclass(frozen=True)
class Task:
    """What networks are trained for, and which.

    Args:
        name: What records and tables call it.
        data: What :func:`supernet.data.open_data` opens; nothing where it has to be given.
        family: A module of ``supernet.families``.
        preset: A preset of the family.
        base: The base of all recipes.
        alone: The recipe of networks that train alone, as :func:`read_recipe` reads it.
        split: The split that networks answer.
    """

    name: str
    data: str
    family: str
    preset: str
    base: str
    alone: str
    split: str = "test"

    def open(self) -> DataSource:
        """Open the data, once in a process.

        Raises:
            InputError: They cannot be opened.
        """
        return _open(self.data, getattr(self.load().PRESETS[self.preset], "context", None))

    def load(self) -> ModuleType:
        """Load the family's module."""
        return importlib.import_module(f"supernet.families.{self.family}")

    def configure(self, seed: int) -> Any:
        """Make the family's configuration, fit to the data, with a seed of initial weights."""
        return replace(self.load().configure(self.preset, self.open().shape), seed=seed)

    def build(self, seed: int) -> Supernet:
        """Build the supernet with initial weights of a seed."""
        built: Supernet = self.load().build(self.configure(seed))
        return built


# Networks alone are trained in the ordinary way of their field, whatever is best for supernets.
_BY_SGD, _BY_ADAMW = "clutter+sgd", "text+adamw@warmup_steps=1000"
TASKS = (
    Task("clutter", "clutter", "ofa_mobilenetv3", "clutter", "clutter", _BY_SGD),
    Task("resnet", "clutter", "resnet", "tiny", "clutter", _BY_SGD),
    Task("cells", "clutter", "nas_bench_macro", "tiny", "clutter", _BY_SGD),
    Task("text", "", "matlm", "classic", "text", _BY_ADAMW),
)


@cache
def _open(spec: str, context: int | None) -> DataSource:
    return open_data(spec) if context is None else open_data(spec, context=context)


@dataclass(frozen=True)
class Training:
    """One training, and the networks that answer after it.

    Args:
        task: What for.
        name: The recipe's name, or :data:`ALONE`.
        seed: Number of the repetition.
        recipe: How; its seed is that of the initial weights, too.
        networks: Digests of the networks that answer.
        rows: Their positions in the space.
    """

    task: Task
    name: str
    seed: int
    recipe: Recipe
    networks: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]

    @property
    def settings(self) -> str:
        """Hash of all that decides the answers, but the code; of a network alone its digest, too.

        Trainings of one hash differ at most in which networks answer.
        """
        content = {
            "data": self.task.open().fingerprint,
            "split": self.task.split,
            "family": self.task.family,
            "config": encode_config(self.task.load(), self.task.configure(self.recipe.seed)),
            "recipe": self.recipe.to_json(neutral=False),
            "alone": self.networks if self.name == ALONE else None,
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        what = f" {self.networks[0]}" if self.name == ALONE else f" for {self.recipe.steps} steps"
        return f"{self.task.name}: {self.name}{what}, seed {self.seed}"


def seed_alone(seed: int, network: str) -> int:
    """The seed of one network alone, as ``supernet audit`` makes it of a number and a digest."""
    sequence = np.random.SeedSequence([seed, int(network, 16)])
    return int(sequence.generate_state(1)[0])


def carry_out(training: Training) -> Record:
    """Train in this process, and let the networks answer.

    A supernet that diverges has no answers, which is a result of its recipe.

    Raises:
        DivergedError: A network alone diverged.
        InputError: The recipe does not suit the supernet.
    """
    task, recipe = training.task, training.recipe
    data, supernet = task.open(), task.build(recipe.seed)
    networks = supernet.space.decode(np.array(training.rows, dtype=np.int16))
    if training.name == ALONE:
        supernet = make_standalone(supernet, networks[0])
        networks = [supernet.space.smallest]
    diverged, answers = "", np.zeros((0, count_samples(data, task.split)), dtype=bool)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        try:
            train(supernet, data, recipe, Path(folder))
        except DivergedError as error:
            if training.name == ALONE:
                raise DivergedError(f"{training}: {error}") from error
            diverged = str(error)
    seconds = time.process_time() - began
    if not diverged:
        answers = answer(supernet, networks, data, [task.split])[:, 0]
    return Record(
        task=task.name,
        recipe=training.name,
        settings=training.settings,
        seed=training.seed,
        steps=recipe.steps,
        networks=training.networks,
        samples=answers.shape[1],
        answers=tuple(pack_answers(row) for row in answers),
        cpu_seconds=round(seconds, 2),
        diverged=diverged,
    )


def carry_out_all(
    work: Callable[[_Asked], Record],
    trainings: Sequence[_Asked],
    jobs: int,
    keep: Callable[[_Asked, Record], None],
) -> None:
    """Train in processes of one thread each; every result is kept as soon as it is there.

    Args:
        work: Carries out one training, as :func:`carry_out` does.
        trainings: What to train, in this order.
        jobs: Processes at once.
        keep: Called in this process with each training and its record.

    Raises:
        InputError: A recipe does not suit its supernet, or a process was ended from outside.
        DivergedError: A network alone diverged.
    """
    if not trainings:
        return
    width = min(jobs, len(trainings))
    pool = ProcessPoolExecutor(width, mp_context=get_context("spawn"), initializer=_begin)
    try:
        futures = {pool.submit(work, training): training for training in trainings}
        for done, future in enumerate(as_completed(futures), start=1):
            keep(futures[future], future.result())
            print(f"{done}/{len(futures)} {futures[future]}", file=sys.stderr, flush=True)
    except BrokenProcessPool as error:
        raise InputError(
            "a process that trained was ended from outside, for want of memory perhaps; what is "
            "finished is kept: run the same command again, with fewer --jobs"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    torch.set_num_threads(1)
    # Ctrl-C ends a process at once; as an exception it would be one more result of a training.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
