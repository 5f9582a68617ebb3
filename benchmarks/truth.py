"""What networks of a supernet are worth beside the same networks trained alone, by recipe.

    python benchmarks/truth.py --recipes clutter,spos+sgd --seeds 3 --networks 64 --keep FOLDER
    python benchmarks/truth.py --recipes clutter --budgets 1,2,4 --keep FOLDER --markdown
    python benchmarks/truth.py --recipes spos,spos@learning_rate=0.1@momentum=0.95 --keep FOLDER
    python benchmarks/truth.py --task text --data text:BOOK --keep FOLDER

The truth: networks from the smallest to the largest, each trained alone from scratch
``--truth-seeds`` times for ``--alone-steps`` steps of ``--alone-recipe``, by default one by SGD
(AdamW for text). Beside it, every recipe trains a supernet ``--seeds`` times at equal passes:
``--budget`` single forward and backward passes, times each of ``--budgets``; a step that runs four
networks counts four, and one on half of the task's batch counts half. With ``--equal seconds`` they
have as many passes as fit the processor time of the first recipe, by what trainings at equal passes
took, which come first. Fields of a recipe are changed after its name, each as ``@field=value``: one
factor at a time. All answer the test split, their
statistics recalibrated. Answers are kept in FOLDER one training at a time: an interrupted run goes
on where it was, and later ones train only what is new. What is kept knows data, family and recipe,
and not the code: after a change of how networks train, take a new folder.

Intervals are of 90 %, by drawing base images and seeds anew; the networks stay. Prints one JSON
object, or with ``--markdown`` its table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from _answers import group_samples
from _kept_run import run_kept
from _truth_records import Record, Records
from _truth_statistics import Truth, measure_macs, measure_recipe, measure_truth, round_all
from _truth_table import write_table
from _truth_training import ALONE, TASKS, Task, Training, carry_out, carry_out_all, seed_alone

from supernet.errors import InputError
from supernet.quality.audit import sample_across_costs
from supernet.space import nearest
from supernet.training import Recipe, find_recipe
from supernet.training.equal_passes import fit_to_passes, needs_teacher
from supernet.training.standalone import make_standalone_recipe

FEWEST = 4
EQUAL = ("passes", "seconds")


@dataclass(frozen=True)
class Plan:
    """Everything that one table needs.

    Args:
        task: What for.
        macs: Multiply-accumulates of each network.
        alone_recipe: Name of the recipe of networks alone.
        alone: A training for each network and seed, network by network.
        supernets: Trainings of each recipe and number of passes, one for each seed.
    """

    task: Task
    macs: tuple[float, ...]
    alone_recipe: str
    alone: tuple[Training, ...]
    supernets: dict[tuple[str, int], tuple[Training, ...]]

    def list_trainings(self) -> list[Training]:
        """All trainings, the longest first, so that no process waits for another at the end."""
        supernets = [one for group in self.supernets.values() for one in group]
        return sorted(supernets, key=lambda one: -one.recipe.steps) + list(self.alone)


def make_plan(
    task: Task, options: argparse.Namespace, shares: Mapping[str, float] | None = None
) -> Plan:
    """Choose networks and recipes.

    Args:
        task: What for.
        options: The command line.
        shares: What share of the passes a recipe has; by default all have all.

    Raises:
        InputError: A recipe is unknown, does not suit the family or needs a teacher from outside;
            or the space has not so many networks.
    """
    data, first = task.open(), task.build(0)
    space, costs = first.space, first.cost_model()
    chosen = sample_across_costs(space, costs.macs, options.networks, np.random.default_rng(0))
    positions = space.encode(chosen)
    rows = tuple(tuple(int(position) for position in row) for row in positions)
    networks = tuple(architecture.digest for architecture in chosen)
    alone_recipe = options.alone_recipe or task.alone
    base, usual = read_recipe(alone_recipe, task.base), find_recipe(task.base)
    alone = []
    for network, row in zip(networks, rows, strict=True):
        for seed in range(options.truth_seeds):
            changes = {
                "epochs": None,
                "steps": options.alone_steps,
                "checkpoint_every": options.alone_steps,
                "seed": seed_alone(seed, network),
            }
            recipe = make_standalone_recipe(base, changes, data.epoch)
            alone.append(Training(task, ALONE, seed, recipe, (network,), (row,)))
    supernets = {}
    for name in dict.fromkeys(options.recipes.split(",")):
        for budget in options.budgets:
            passes = round(options.budget * budget * (shares or {}).get(name, 1.0))
            trainings = []
            for seed in range(options.seeds):
                recipe = read_recipe(name, task.base).replace({"seed": seed})
                if needs_teacher(recipe):
                    raise InputError(
                        f"recipe {name!r} needs a teacher from outside, which would have to be "
                        "trained, too; choose one that makes its own"
                    )
                own = max(1, round(passes * usual.batch_size / recipe.batch_size))
                fitted = fit_to_passes(recipe, task.build(seed), data, own)
                trainings.append(Training(task, name, seed, fitted, networks, rows))
            supernets[name, passes] = tuple(trainings)
    macs = tuple(float(value) for value in costs.macs(positions))
    return Plan(task, macs, alone_recipe, tuple(alone), supernets)


def find_shares(plan: Plan, kept: Kept) -> dict[str, float]:
    """What share of passes lets each recipe take the processor time of the first."""
    seconds: dict[str, float] = {}
    for (name, passes), trainings in plan.supernets.items():
        took = sum(kept.take(one).cpu_seconds for one in trainings) / len(trainings)
        seconds.setdefault(name, took / passes)
    first = next(iter(seconds.values()))
    return {name: first / found for name, found in seconds.items()}


def read_recipe(text: str, base: str) -> Recipe:
    """Read the name of a recipe, and fields that shall differ: ``spos@momentum=0.95``.

    Args:
        text: The name as ``supernet train --recipe`` takes it, each change after an ``@``.
        base: The base when the name has methods only.

    Raises:
        InputError: The name or a field is unknown, or a value is impossible.
    """
    name, *changes = text.split("@")
    fields: dict[str, Any] = {}
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals:
            raise InputError(
                f"recipe {text!r}: {change!r} must be a field and its value, as in a=1"
            )
        try:
            fields[field] = json.loads(value)
        except ValueError:
            fields[field] = value
    return find_recipe(name, base=base).replace(fields)


class Kept:
    """Everything that trainings left in a folder.

    Raises:
        InputError: A file in it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._alone, self._supernets = (
            Records(folder / f"{name}.jsonl") for name in ("alone", "supernets")
        )

    def _choose(self, training: Training) -> Records:
        return self._alone if training.name == ALONE else self._supernets

    def find(self, training: Training) -> Record | None:
        """Find what a training left, if it was carried out."""
        return self._choose(training).find(training.settings, training.networks)

    def keep(self, training: Training, record: Record) -> None:
        """Write down what a training left."""
        self._choose(training).append(record)

    def take(self, training: Training) -> Record:
        """Take what a training left that was carried out."""
        found = self.find(training)
        assert found is not None
        return found


def list_missing(plan: Plan, kept: Kept) -> list[Training]:
    """The trainings that are not kept yet; recipes of two names that are the same train once."""
    missing = [one for one in plan.list_trainings() if kept.find(one) is None]
    return list({one.settings: one for one in missing}.values())


def measure(plan: Plan, kept: Kept) -> dict[str, Any]:
    """Compare everything that a plan needs and that is kept."""
    groups = group_samples(plan.task.open(), plan.task.split)
    alone = [kept.take(one) for one in plan.alone]
    answers = np.concatenate([record.unpack(record.networks) for record in alone])
    truth = Truth(np.array(plan.macs), answers.reshape(len(plan.macs), -1, len(groups)), groups)
    recipes = []
    for (name, passes), trainings in plan.supernets.items():
        records = [kept.take(one) for one in trainings]
        row: dict[str, Any] = {
            "recipe": name,
            "passes": passes,
            "steps": trainings[0].recipe.steps,
            "seeds": len(records),
            "diverged": sum(bool(record.diverged) for record in records),
            "cpu_seconds": float(np.mean([record.cpu_seconds for record in records])),
        }
        inherited = [
            record.unpack(one.networks)
            for record, one in zip(records, trainings, strict=True)
            if not record.diverged
        ]
        if inherited:
            row |= measure_recipe(truth, np.array(inherited))
        recipes.append(row)
    found: dict[str, Any] = {
        "task": plan.task.name,
        "networks": len(plan.macs),
        "samples": len(groups),
        "bases": len(truth.sizes),
        "alone": {
            "recipe": plan.alone_recipe,
            "steps": plan.alone[0].recipe.steps,
            "cpu_seconds": float(np.mean([record.cpu_seconds for record in alone])),
            **measure_truth(truth),
        },
        "macs": measure_macs(truth),
        "recipes": recipes,
    }
    rounded: dict[str, Any] = round_all(found)
    return rounded


def read_count(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return int(text)


def read_counts(text: str) -> tuple[int, ...]:
    """Read several, divided by commas."""
    return tuple(dict.fromkeys(read_count(part) for part in text.split(",")))


def read_task(text: str) -> Task:
    """Find a task by its name."""
    names = [task.name for task in TASKS]
    if text not in names:
        hint = nearest(text, names)
        raise argparse.ArgumentTypeError(f"{text!r} must be one of {', '.join(names)}{hint}")
    return TASKS[names.index(text)]


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what networks are trained for."""
    names = ", ".join(task.name for task in TASKS)
    parser.add_argument("--task", type=read_task, default=TASKS[0], help=names)
    parser.add_argument("--data", help="instead of the task's own; needed for text (text:PATH)")


def settle_task(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Give the task the data that were asked for; a task without any is an error."""
    if options.data is not None:
        options.task = replace(options.task, data=options.data)
    if not options.task.data:
        parser.error(f"the task {options.task.name} has no data of its own; give them with --data")


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_task_options(parser)
    usual = "clutter,spos+sgd,inplace+sgd"
    parser.add_argument("--recipes", default=usual, help="divided by commas")
    parser.add_argument("--seeds", type=read_count, default=3, help="supernets of a recipe")
    parser.add_argument("--budget", type=read_count, default=2800, help="single passes")
    parser.add_argument("--budgets", type=read_counts, default=(1,), help="multiples of --budget")
    parser.add_argument("--equal", choices=EQUAL, default=EQUAL[0], help="between recipes")
    parser.add_argument("--networks", type=read_count, default=64, help="at least 4")
    parser.add_argument("--truth-seeds", type=read_count, default=2, help="of a network alone")
    parser.add_argument("--alone-steps", type=read_count, default=700, help="of a network alone")
    parser.add_argument("--alone-recipe", help="of a network alone, instead of the task's")
    parser.add_argument("--jobs", type=read_count, default=1, help="processes of one thread each")
    parser.add_argument("--keep", type=Path, required=True, help="folder of what is trained")
    parser.add_argument("--markdown", action="store_true", help="print the table instead of JSON")
    options = parser.parse_args(arguments)
    if options.networks < FEWEST:
        parser.error(f"--networks {options.networks} are too few; it must be at least {FEWEST}")
    settle_task(options, parser)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not kept, and print the comparison; returns the exit code."""
    options = read_arguments(arguments)

    def train_and_measure(plan: Plan) -> dict[str, Any]:
        kept = Kept(options.keep)
        carry_out_all(carry_out, list_missing(plan, kept), options.jobs, kept.keep)
        if options.equal == "seconds":
            plan = make_plan(options.task, options, find_shares(plan, kept))
            carry_out_all(carry_out, list_missing(plan, kept), options.jobs, kept.keep)
        return measure(plan, kept)

    write = write_table if options.markdown else None
    return run_kept(
        options.keep, lambda: make_plan(options.task, options), train_and_measure, write
    )


if __name__ == "__main__":
    sys.exit(main())
