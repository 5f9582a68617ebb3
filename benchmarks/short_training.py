"""Whether the epoch that a few pilots settle ranks other candidates as full training does.

    python benchmarks/short_training.py --candidates 24

Architectures and recipes of examples/joint_recipe.py on digits. Every candidate is trained to the
end; some of them are the pilots of the search for a sufficient epoch, the others tell what the rank
correlation with the end is there, over many draws of the pilots.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

from _options import read_options
from joint_recipe import RECIPE, curve

from predictors.research.epochs import find_sufficient_epoch
from predictors.scores import spearman
from supernet.data import open_data
from supernet.families import resnet
from supernet.training import Recipe
from supernet.training.joint_space import make_joint_space, split_member


def train_candidates(candidates: int, epochs: int, seed: int) -> NDArray[np.float64]:
    """Validation accuracy after each epoch, ``(candidates, epochs)``."""
    data = open_data("digits")
    supernet = resnet.build(resnet.configure("tiny", data.shape))
    joint = make_joint_space(supernet.space, RECIPE)
    base = Recipe(epochs=epochs, batch_size=64, warmup_steps=10, seed=seed)
    found = []
    for member in joint.decode(joint.sample(np.random.default_rng(seed), candidates)):
        architecture, changes = split_member(joint, member)
        recipe = base.replace(changes)
        found.append(curve(supernet, architecture, recipe, data, epochs, "val", each=True))
    return np.array(found)


def judge(curves: NDArray[np.float64], pilots: int, draws: int) -> dict[str, float]:
    """Epochs that pilots settle on, and how well the others are ranked there; means over draws."""
    epochs, agreements = [], []
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(curves))
        enough = find_sufficient_epoch(curves[order[:pilots]])
        others = curves[order[pilots:]]
        epochs.append(enough)
        agreements.append(spearman(others[:, enough - 1], others[:, -1]))
    return {
        "epochs": round(float(np.mean(epochs)), 2),
        "spearman_of_others": round(float(np.nanmean(agreements)), 3),
        "lowest": round(float(np.nanmin(agreements)), 3),
    }


def main() -> int:
    """Print one JSON object."""
    asked = read_options(__doc__, candidates=24, epochs=12, draws=50, seed=0)
    start = time.process_time()
    curves = train_candidates(asked.candidates, asked.epochs, asked.seed)
    by_epoch = [round(spearman(column, curves[:, -1]), 3) for column in curves.T]
    output = {
        "candidates": asked.candidates,
        "epochs": asked.epochs,
        "spearman_with_the_end_by_epoch": by_epoch,
        "pilots": {str(n): judge(curves, n, asked.draws) for n in (4, 6, 8)},
        "cpu_seconds": round(time.process_time() - start, 1),
    }
    print(json.dumps(output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
