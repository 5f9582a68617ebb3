"""Granularities of one supernet beside networks of the same sizes alone, and the mixtures between.

    python benchmarks/granularities.py --data text:BOOK --keep FOLDER --jobs 2 --markdown
    python benchmarks/granularities.py --data text:BOOK --space shells,widths --keep FOLDER
    python benchmarks/granularities.py --data clutter --space matvit --recipes clutter --keep FOLDER

For each of ``--seeds``, every space is trained by every recipe for as many passes as ``--steps``
steps of all its granularities take, and each granularity is trained alone for ``--steps`` steps of
``--alone-recipe``. Test losses of the granularities (or accuracies) stand beside those alone.

``--space ffn`` is a decoder with four FFN sizes, whose layers may differ once it is trained
(Mix'n'Match). Three ways choose them within the parameters halfway between two sizes: scores of one
layer at a time, added up and maximised by an integer program (Puzzle), of whose best the validation
split takes one; the published rule that sizes rise with depth as slowly as possible (MatFormer);
and uniform sizes. ``below`` is how far their test loss lies below the straight line between the
two sizes, as a share of the gap between these.

``--space shells`` scores all widths by one pass, ``--space widths`` is a MatLM of the same
widths, heads and FFN sizes. ``--time`` measures a step of all granularities beside steps of each
alone, interleaved; leave the machine alone for that.

Trainings are kept in FOLDER and go on where they were interrupted; after a change of how networks
train, take a new folder. Prints one JSON object, or with ``--markdown`` its tables.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from _kept_run import run_kept
from truth import read_count, read_recipe

from search.arrays.additive import AdditiveTerms
from search.integer.exact import Program
from supernet import files
from supernet.data import IMAGES, DataSource, open_data
from supernet.quality.evaluate import BatchCache, evaluate
from supernet.space import Architecture, nearest
from supernet.supernet import Supernet
from supernet.training import Recipe, train
from supernet.training.compose import compose
from supernet.training.equal_passes import fit_to_passes
from supernet.training.loop import take_step
from supernet.training.samplers.granularities import Granularities
from supernet.training.standalone import make_standalone, make_standalone_recipe
from supernet.training.state import TrainingState

GRANULARITIES = 4
NOBODY = "none"
# Of the best mixtures by added scores, how many the validation split chooses from.
CANDIDATES = 5
TIMED_STEPS = 12


@dataclass(frozen=True)
class Space:
    """A family, and what its preset is changed by."""

    family: str
    preset: str
    changes: Mapping[str, Any]
    mixed: bool = False


SPACES = {
    "ffn": Space(
        "matlm",
        "tiny",
        MappingProxyType({"heads": (4,), "ffn": (32, 64, 128, 256), "depths": (4,)}),
        mixed=True,
    ),
    "shells": Space("shell_elastic", "tiny", MappingProxyType({})),
    "widths": Space(
        "matlm",
        "tiny",
        MappingProxyType(
            {
                "widths": (32, 48, 64, 96),
                "heads": (2, 4, 6),
                "ffn": (96, 144, 192, 288),
                "depths": (4,),
            }
        ),
    ),
    "matvit": Space("matvit", "tiny", MappingProxyType({"depths": (4,)}), mixed=True),
    "autoformer": Space("autoformer", "tiny", MappingProxyType({})),
}


@dataclass(frozen=True)
class Training:
    """One training: of a supernet, or of one of its granularities alone.

    Args:
        data: What :func:`supernet.data.open_data` opens.
        space: A key of :data:`SPACES`.
        recipe: As :func:`truth.read_recipe` reads it.
        base: The base of the recipe.
        steps: Of all granularities together, or of one alone.
        seed: Of everything.
        alone: Position of the granularity, from the largest; ``None`` for the supernet.
    """

    data: str
    space: str
    recipe: str
    base: str
    steps: int
    seed: int
    alone: int | None = None

    @property
    def folder(self) -> str:
        """Name of the folder that keeps it."""
        what = "supernet" if self.alone is None else f"alone{self.alone}"
        data = Path(self.data.partition(":")[2] or self.data).stem
        return f"{data}-{self.space}-{self.recipe}-{self.steps}-{what}-{self.seed}"


@cache
def open_task(spec: str, space: str) -> DataSource:
    """Open the data with the context that a space has, once in a process."""
    chosen = SPACES[space]
    module = importlib.import_module(f"supernet.families.{chosen.family}")
    context = getattr(module.PRESETS[chosen.preset], "context", None)
    return open_data(spec) if context is None else open_data(spec, context=context)


def build(data: str, space: str, seed: int) -> Supernet:
    """Build the supernet with initial weights of a seed."""
    chosen = SPACES[space]
    module = importlib.import_module(f"supernet.families.{chosen.family}")
    config = module.configure(chosen.preset, open_task(data, space).shape)
    built: Supernet = module.build(replace(config, seed=seed, **chosen.changes))
    return built


def list_granularities(supernet: Supernet) -> tuple[Architecture, ...]:
    """The granularities of a supernet, the largest first."""
    return Granularities(supernet.space, GRANULARITIES).draw(0, lambda _: [])


def make_recipe(training: Training, supernet: Supernet, data: DataSource) -> Recipe:
    """Fit a recipe to a training."""
    recipe = read_recipe(training.recipe, training.base).replace({"seed": training.seed})
    if training.alone is not None:
        changes = {"epochs": None, "steps": training.steps, "seed": training.seed}
        return make_standalone_recipe(recipe, changes, data.epoch)
    count = len(list_granularities(supernet))
    return fit_to_passes(recipe, supernet, data, training.steps * count)


def prepare(training: Training) -> tuple[Supernet, Recipe]:
    """Build what is trained, with fresh weights."""
    supernet = build(training.data, training.space, training.seed)
    recipe = make_recipe(training, supernet, open_task(training.data, training.space))
    if training.alone is not None:
        supernet = make_standalone(supernet, list_granularities(supernet)[training.alone])
    return supernet, recipe


def carry_out(training: Training, keep: Path) -> dict[str, Any]:
    """Train, unless it is kept, and measure every granularity and mixture on the test split."""
    torch.set_num_threads(1)
    folder = keep / training.folder
    answers = folder / "answers.json"
    if answers.exists():
        found: dict[str, Any] = json.loads(answers.read_text())
        return found
    data = open_task(training.data, training.space)
    supernet, recipe = prepare(training)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    train(supernet, data, recipe, folder)
    seconds = time.process_time() - began
    supernet.eval()
    if training.alone is not None:
        networks: tuple[Architecture, ...] = (supernet.space.largest,)
    else:
        networks = list_granularities(supernet)
    cache = BatchCache()
    result = {
        "cpu_seconds": round(seconds, 1),
        "steps": recipe.steps,
        "granularities": [measure_member(supernet, one, data, cache) for one in networks],
    }
    if training.alone is None and SPACES[training.space].mixed:
        result["mixtures"] = mix(supernet, data, networks)
    files.write_text(answers, json.dumps(result))
    return result


def measure_member(
    supernet: Supernet, architecture: Architecture, data: DataSource, cache: BatchCache
) -> dict[str, float]:
    """Parameters, and the quality on the validation and the test split."""
    return {
        "parameters": float(supernet.parameter_count(architecture)),
        "val": evaluate(supernet, architecture, data, "val", cache=cache).value,
        "test": evaluate(supernet, architecture, data, "test", cache=cache).value,
    }


# -- Mix'n'Match ---------------------------------------------------------------------------------


def mix(
    supernet: Supernet, data: DataSource, sizes: Sequence[Architecture]
) -> list[dict[str, Any]]:
    """Mixtures halfway between neighbouring granularities and between both ends."""
    cache, space = BatchCache(), supernet.space
    sign = 1.0 if data.shape.task == IMAGES else -1.0

    def score(architecture: Architecture) -> float:
        return sign * evaluate(supernet, architecture, data, "val", cache=cache).value

    known: dict[str, float] = {}

    def score_once(architecture: Architecture) -> float:
        if architecture.digest not in known:
            known[architecture.digest] = score(architecture)
        return known[architecture.digest]

    gains, costs = score_blocks(supernet, score_once)
    program = Program(space, gains, (costs,))
    ordered = list(reversed(sizes))
    spans = [(i, i + 1) for i in range(len(ordered) - 1)] + [(0, len(ordered) - 1)]
    found = []
    for low, high in spans:
        small, large = ordered[low], ordered[high]
        ends = [float(supernet.parameter_count(one)) for one in (small, large)]
        limit = sum(ends) / 2
        began = time.perf_counter()
        rows: list[Any] = []
        for _ in range(CANDIDATES):
            row = program.best([limit], rows)
            if row is None:
                break
            rows.append(row)
        solved = time.perf_counter() - began
        chosen = {
            "searched": max(space.decode(np.stack(rows)), key=score_once),
            "least_slope": choose_least_slope(supernet, ordered, limit),
            "uniform": max(
                (one for one in ordered if supernet.parameter_count(one) <= limit),
                key=supernet.parameter_count,
            ),
        }
        found.append(
            {
                "between": [low, high],
                "solved_seconds": round(solved, 3),
                "ends": [measure_member(supernet, one, data, cache) for one in (small, large)],
                "chosen": {
                    name: measure_member(supernet, one, data, cache) | {"network": one.to_dict()}
                    for name, one in chosen.items()
                },
            }
        )
    return found


def score_blocks(
    supernet: Supernet, score: Callable[[Architecture], float]
) -> tuple[AdditiveTerms, AdditiveTerms]:
    """Scores and parameters of one layer's sizes at a time, the others as in the largest network.

    Both are added up over layers, as Puzzle adds its scores (Bercovich et al. 2024, section 3);
    parameters of nested FFNs add up exactly.
    """
    space = supernet.space
    largest = space.largest
    choices = [c for c in space.choices if len(c.values) > 1]
    groups = tuple((space.choices.index(choice),) for choice in choices)
    whole = {"score": score(largest), "parameters": float(supernet.parameter_count(largest))}
    tables: dict[str, list[Any]] = {"score": [], "parameters": []}
    for choice in choices:
        members = [
            space.architecture({**largest.to_dict(), choice.name: value}) for value in choice.values
        ]
        tables["score"].append(np.array([score(one) - whole["score"] for one in members]))
        counts = [supernet.parameter_count(one) - whole["parameters"] for one in members]
        tables["parameters"].append(np.array(counts))
    gains, costs = (
        AdditiveTerms(groups, tuple(tables[name]), whole[name]) for name in ("score", "parameters")
    )
    return gains, costs


def choose_least_slope(
    supernet: Supernet, sizes: Sequence[Architecture], limit: float
) -> Architecture:
    """Two neighbouring sizes, the larger in the last layers (Devvrit et al. 2023, section 3.3).

    Args:
        supernet: Where from.
        sizes: Uniform networks, rising.
        limit: Most parameters.
    """
    fitting = [i for i, one in enumerate(sizes) if supernet.parameter_count(one) <= limit]
    small, large = sizes[fitting[-1]], sizes[min(fitting[-1] + 1, len(sizes) - 1)]
    names = [c.name for c in supernet.space.choices if len(c.values) > 1]
    best = small
    for count in range(1, len(names) + 1):
        values = small.to_dict() | {name: large.to_dict()[name] for name in names[-count:]}
        network = supernet.space.architecture(values)
        if supernet.parameter_count(network) <= limit:
            best = network
    return best


def place_below(mixture: Mapping[str, Any], name: str, sign: float) -> float:
    """How far a mixture lies on the good side of the line, as a share of the gap of the ends."""
    small, large = mixture["ends"]
    one = mixture["chosen"][name]
    share = (one["parameters"] - small["parameters"]) / (large["parameters"] - small["parameters"])
    line = small["test"] + share * (large["test"] - small["test"])
    return float(sign * (one["test"] - line) / abs(large["test"] - small["test"]))


# -- time ----------------------------------------------------------------------------------------


def measure_steps(data: str, space: str, recipe: str, base: str) -> dict[str, float]:
    """Seconds of a step of all granularities, and of one step of each alone, interleaved."""
    torch.set_num_threads(1)
    source = open_task(data, space)
    kinds = [None, *range(len(list_granularities(build(data, space, 0))))]
    times: list[list[float]] = [[] for _ in kinds]
    with tempfile.TemporaryDirectory() as folder:
        steps = []
        for kind in kinds:
            training = Training(data, space, recipe, base, TIMED_STEPS, 0, kind)
            steps.append(make_step(*prepare(training), source, Path(folder, str(kind))))
        for repetition in range(TIMED_STEPS):
            for step, kept in zip(steps, times, strict=True):
                began = time.process_time()
                step(repetition)
                kept.append(time.process_time() - began)
    joint, *alone = (statistics.median(kept[2:]) for kept in times)
    return {"step": joint, "sum": sum(alone), "widest": alone[0], "ratio": joint / sum(alone)}


def make_step(
    supernet: Supernet, recipe: Recipe, data: DataSource, folder: Path
) -> Callable[[int], None]:
    """What takes one training step of a number, as training does."""
    supernet.train()
    steps, device = recipe.total_steps(data.epoch), torch.device("cpu")
    method = compose(supernet, data, recipe, steps, None)
    state = TrainingState.begin(method, data, recipe, folder / "checkpoints")

    def step(number: int) -> None:
        take_step(state, data, recipe, number, steps, device)

    return step


# -- tables --------------------------------------------------------------------------------------


def compare(options: argparse.Namespace, found: Mapping[Training, Any]) -> list[dict[str, Any]]:
    """One entry for each space and recipe: its granularities beside those alone, over the seeds."""
    rows = []
    for space in options.space:
        images = open_task(options.data, space).shape.task == IMAGES
        for recipe in options.recipes:
            supernets = [
                found[plan(options, space, recipe, seed, None)] for seed in range(options.seeds)
            ]
            sizes = []
            for place, first in enumerate(supernets[0]["granularities"]):
                ours = [one["granularities"][place]["test"] for one in supernets]
                size: dict[str, Any] = {
                    "parameters": first["parameters"],
                    "test": statistics.mean(ours),
                }
                sizes.append(size)
                if options.alone_recipe == NOBODY:
                    continue
                alone = [
                    found[plan(options, space, options.alone_recipe, seed, place)]
                    for seed in range(options.seeds)
                ]
                theirs = [one["granularities"][0]["test"] for one in alone]
                ratios = [
                    100 * (a - b) if images else 100 * (a / b - 1)
                    for a, b in zip(ours, theirs, strict=True)
                ]
                size |= {
                    "alone": statistics.mean(theirs),
                    "difference_percent": statistics.mean(ratios),
                    "differences_percent": [round(ratio, 2) for ratio in ratios],
                }
            row = {
                "space": space,
                "recipe": recipe,
                "steps": supernets[0]["steps"],
                "cpu_seconds": statistics.mean(one["cpu_seconds"] for one in supernets),
                "sizes": sizes,
            }
            if "mixtures" in supernets[0]:
                row["below"] = summarise_mixtures(supernets, 1.0 if images else -1.0)
            rows.append(row)
    return rows


def summarise_mixtures(supernets: Sequence[Mapping[str, Any]], sign: float) -> list[dict[str, Any]]:
    """How far mixtures lie on the good side of the line, over the seeds."""
    rows = []
    for place, first in enumerate(supernets[0]["mixtures"]):
        mixtures = [one["mixtures"][place] for one in supernets]
        rows.append(
            {
                "between": first["between"],
                "solved_seconds": max(one["solved_seconds"] for one in mixtures),
                **{
                    name: [round(place_below(one, name, sign), 3) for one in mixtures]
                    for name in first["chosen"]
                },
            }
        )
    return rows


def write_tables(found: dict[str, Any]) -> str:
    """Write the comparison as tables in Markdown."""
    lines = []
    for row in found["rows"]:
        lines += [
            f"{row['space']}, {row['recipe']}, {row['steps']} steps, "
            f"{row['cpu_seconds']:.0f} CPU s:",
            "",
            "| parameters | test | alone | difference, % | by seed |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {one['parameters']:,.0f} | {one['test']:.4f} | "
            + (
                f"{one['alone']:.4f} | {one['difference_percent']:+.2f} | "
                f"{one['differences_percent']} |"
                if "alone" in one
                else "| | |"
            )
            for one in row["sizes"]
        ]
        if "below" in row:
            lines += ["", "| between | searched | least slope | uniform |", "|---|---|---|---|"]
            lines += [
                f"| {one['between']} | {one['searched']} | {one['least_slope']} | "
                f"{one['uniform']} |"
                for one in row["below"]
            ]
        lines.append("")
    if found["time"]:
        lines += ["| space | joint step, ms | sum of its parts | ratio | beside the widest |"]
        lines += ["|---|---|---|---|---|"]
        lines += [
            f"| {name} | {1000 * one['step']:.0f} | {1000 * one['sum']:.0f} | "
            f"{one['ratio']:.3f} | {one['step'] / one['widest']:.3f} |"
            for name, one in found["time"].items()
        ]
    return "\n".join(lines)


# -- the command ---------------------------------------------------------------------------------


def plan(
    options: argparse.Namespace, space: str, recipe: str, seed: int, alone: int | None
) -> Training:
    """Name one training."""
    steps = round(options.steps * options.scale) if alone is None else options.steps
    return Training(options.data, space, recipe, options.base, steps, seed, alone)


def plan_all(options: argparse.Namespace) -> list[Training]:
    """Name all trainings, supernets first, and refuse what cannot be."""
    supernets, alone = [], []
    for space in options.space:
        count = len(list_granularities(build(options.data, space, 0)))
        for seed in range(options.seeds):
            supernets += [plan(options, space, one, seed, None) for one in options.recipes]
            if options.alone_recipe != NOBODY:
                alone += [
                    plan(options, space, options.alone_recipe, seed, place)
                    for place in range(count)
                ]
    for training in (*supernets[:1], *alone[:1]):
        prepare(training)
    return supernets + alone


def measure(options: argparse.Namespace, trainings: Sequence[Training]) -> dict[str, Any]:
    """Carry out what is not kept, and compare."""
    times = {}
    if options.time:
        for space in options.space:
            times[space] = measure_steps(options.data, space, options.recipes[0], options.base)
        return {"rows": [], "time": times}
    found = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        futures = {one: pool.submit(carry_out, one, options.keep) for one in trainings}
        for done, (training, future) in enumerate(futures.items(), start=1):
            found[training] = future.result()
            print(f"{done}/{len(futures)} {training.folder}", file=sys.stderr, flush=True)
    return {"rows": compare(options, found), "time": times}


def read_names(text: str) -> tuple[str, ...]:
    """Read several names, divided by commas."""
    return tuple(dict.fromkeys(text.split(",")))


def read_spaces(text: str) -> tuple[str, ...]:
    """Read names of spaces."""
    names = read_names(text)
    for name in names:
        if name not in SPACES:
            raise argparse.ArgumentTypeError(
                f"{name!r} must be one of {', '.join(SPACES)}{nearest(name, list(SPACES))}"
            )
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not kept, and print the comparison; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", required=True, help="text:FILE, or images")
    parser.add_argument("--space", type=read_spaces, default=("ffn",), help=", ".join(SPACES))
    parser.add_argument("--recipes", type=read_names, default=("matformer",))
    parser.add_argument(
        "--alone-recipe", default="spos", help=f"of a network alone; {NOBODY} for none"
    )
    parser.add_argument("--base", default="text", help="of all recipes")
    parser.add_argument("--steps", type=read_count, default=1500, help="of a network alone")
    parser.add_argument("--scale", type=float, default=1.0, help="passes of a supernet, relative")
    parser.add_argument("--seeds", type=read_count, default=3)
    parser.add_argument("--jobs", type=read_count, default=1, help="processes of one thread each")
    parser.add_argument("--keep", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--time", action="store_true", help="measure steps, and nothing else")
    parser.add_argument("--markdown", action="store_true", help="print tables instead of JSON")
    options = parser.parse_args(arguments)
    write = write_tables if options.markdown else None
    return run_kept(
        options.keep, lambda: plan_all(options), lambda found: measure(options, found), write
    )


if __name__ == "__main__":
    sys.exit(main())
