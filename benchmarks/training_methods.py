"""What every training method makes of one supernet at equal cost.

    python benchmarks/training_methods.py --seeds 3 --passes 1200

Each method gets the same number of forward and backward passes over batches of the same size (so
fewer steps when a step runs several architectures), the same learning rate and the same initial
weights. Accuracies are inherited ones with recalibrated statistics, on images that no training
saw (the validation and test splits together).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from supernet.data import DataSource, open_data
from supernet.families import ofa_mobilenetv3
from supernet.quality.evaluate import evaluate
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import METHODS, Recipe, find_recipe, train
from supernet.training.equal_passes import fit_to_passes, needs_teacher

ARCHITECTURES = 24


def build(data: DataSource, family: str, seed: int) -> Supernet:
    """A fresh supernet of a family's tiny preset."""
    module = ofa_mobilenetv3
    if family != "ofa_mobilenetv3":
        module = __import__(f"supernet.families.{family}", fromlist=["build"])
    return module.build(replace(module.configure("tiny", data.shape), seed=seed))


def find_named(method: str) -> Recipe:
    """A method over the optimisation by SGD that all are compared with; some have their own."""
    own = "optimizer" in METHODS[method]
    return find_recipe(f"digits+{method}" if own else f"digits+{method}+sgd")


def recipe_of(method: str, data: DataSource, family: str, passes: int, seed: int) -> Recipe:
    """The method's recipe with as many steps as the passes allow."""
    recipe = find_named(method).replace({"seed": seed})
    return fit_to_passes(recipe, build(data, family, seed), data, passes)


def accuracy(supernet: Supernet, architecture: Architecture, data: DataSource) -> float:
    """Share of right answers over both held-out splits."""
    runs = [evaluate(supernet, architecture, data, split) for split in ("val", "test")]
    return sum(r.value * r.samples for r in runs) / sum(r.samples for r in runs)


def run(
    method: str, data: DataSource, family: str, passes: int, seed: int, teacher: nn.Module | None
) -> dict[str, Any]:
    """Train once and evaluate both ends and random architectures."""
    supernet = build(data, family, seed)
    recipe = recipe_of(method, data, family, passes, seed)
    cpu = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train(supernet, data, recipe, Path(folder), teacher=teacher)
    cpu = time.process_time() - cpu
    space = supernet.space
    others = space.decode(space.sample(np.random.default_rng(0), ARCHITECTURES))
    values = [accuracy(supernet, a, data) for a in others]
    return {
        "method": method,
        "seed": seed,
        "steps": recipe.steps,
        "cpu_seconds": round(cpu, 1),
        "smallest": accuracy(supernet, space.smallest, data),
        "random_mean": float(np.mean(values)),
        "random_lowest": min(values),
        "largest": accuracy(supernet, space.largest, data),
    }


def teacher_of(data: DataSource, family: str, passes: int, seed: int) -> nn.Module:
    """The largest network of another supernet, trained with the sandwich rule."""
    supernet = build(data, family, seed + 1000)
    with tempfile.TemporaryDirectory() as folder:
        train(supernet, data, recipe_of("sandwich", data, family, passes, seed), Path(folder))
    from supernet.quality.evaluate import recalibrate_extracted

    network = supernet.extract(supernet.space.largest)
    recalibrate_extracted(network, supernet, supernet.space.largest, data)
    return network


def main() -> int:
    """One JSON line per training as it ends, then a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", default="ofa_mobilenetv3", help="one with a tiny preset")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=1200)
    parser.add_argument("--out", type=Path, help="JSON lines; those already there are not repeated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = open_data("digits")
    rows: list[dict[str, Any]] = []
    if options.out is not None and options.out.exists():
        rows = [json.loads(line) for line in options.out.read_text().splitlines()]
    for seed in range(options.seeds):
        for method in options.methods.split(","):
            if any(r["method"] == method and r["seed"] == seed for r in rows):
                continue
            teacher = None
            if needs_teacher(find_named(method)):
                teacher = teacher_of(data, options.family, options.passes, seed)
            row = run(method, data, options.family, options.passes, seed, teacher)
            rows.append(row)
            print(json.dumps(row), file=sys.stderr)
            if options.out is not None:
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(table(rows))
    return 0


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: mean (and standard deviation over seeds) in per cent."""
    lines = [
        "| method | steps | smallest | random, mean | random, lowest | largest | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        cells = [method, str(mine[0]["steps"])]
        for key in ("smallest", "random_mean", "random_lowest", "largest"):
            values = [100 * row[key] for row in mine]
            cells.append(f"{np.mean(values):.1f} ({np.std(values):.1f})")
        cells.append(f"{np.mean([row['cpu_seconds'] for row in mine]):.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
