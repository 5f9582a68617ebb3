"""Train a MatLM on a text file and report the loss of every uniform granularity.

    python benchmarks/matlm_text.py --text shakespeare.txt
    python benchmarks/matlm_text.py --text shakespeare.txt --recipe text+sandwich+adamw

Losses are in nats per character on the validation and test parts of the file. ``seconds`` and
``cpu_seconds`` cover the training alone; the evaluation of all members follows.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from supernet.data import DataSource, open_data
from supernet.families import matlm
from supernet.quality.evaluate import evaluate
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import Progress, find_recipe, train


def unigram_loss(data: DataSource) -> float:
    """Nats per token of a model that knows the training part's frequencies alone."""
    counts = torch.bincount(data.train.inputs[:, 0], minlength=data.shape.classes) + 1
    probabilities = counts.double() / counts.sum()
    return float(-probabilities.log()[data.val.targets].mean())


def member(supernet: Supernet, architecture: Architecture, data: DataSource) -> dict[str, Any]:
    """Size and losses of one architecture with inherited weights."""
    val = evaluate(supernet, architecture, data, "val")
    return {
        "architecture": architecture.to_dict(),
        "parameters": supernet.parameter_count(architecture),
        "val_loss": round(val.value, 4),
        "val_low": round(val.low, 4),
        "val_high": round(val.high, 4),
        "test_loss": round(evaluate(supernet, architecture, data, "test").value, 4),
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train, then evaluate every uniform member at full depth, and the smallest of all."""
    torch.set_num_threads(options.threads)
    context = matlm.PRESETS[options.preset].context
    data = open_data(f"text:{options.text}", context=context)
    supernet = matlm.build(matlm.configure(options.preset, data.shape))
    changes: dict[str, Any] = {"seed": options.seed}
    recipe = find_recipe(options.recipe, base="text")
    if options.steps is not None:
        recipe = recipe.resize(options.steps)
    if options.learning_rate is not None:
        changes["learning_rate"] = options.learning_rate
    recipe = recipe.replace(changes)

    def show(progress: Progress) -> None:
        print(progress, file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        train(supernet, data, recipe, Path(folder), progress=show if options.verbose else None)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    sizes = matlm.list_granularities(supernet.space)
    return {
        "text": Path(options.text).name,
        "preset": options.preset,
        "recipe": recipe.to_json(),
        "threads": options.threads,
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "loss_of_guessing": round(math.log(data.shape.classes), 4),
        "loss_of_frequencies": round(unigram_loss(data), 4),
        "uniform": {
            str(size): member(supernet, matlm.make_uniform(supernet.space, i), data)
            for i, size in enumerate(sizes)
        },
        "smallest": member(supernet, supernet.space.smallest, data),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--text", required=True, help="a UTF-8 text file")
    parser.add_argument("--preset", default=matlm.DEFAULT_PRESET, choices=list(matlm.PRESETS))
    parser.add_argument("--steps", type=int, help="optimiser steps; the recipe's by default")
    parser.add_argument("--learning-rate", type=float, help="the recipe's by default")
    parser.add_argument("--recipe", default="text", help="at as many passes as text has")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="print progress to stderr")
    print(json.dumps(run(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
