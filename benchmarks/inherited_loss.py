"""Whether inherited loss ranks networks better than inherited accuracy does.

    python benchmarks/truth.py --recipes clutter --keep FOLDER
    python benchmarks/inherited_loss.py --recipes clutter --seeds 2 --keep FOLDER

The truth is taken from the FOLDER of ``truth.py``, whose options this takes, too. Supernets are
trained once more, since nothing but their right answers was kept, and all networks answer the test
split. Prints a line of JSON for each supernet: Kendall's tau with the mean truth of accuracy and of
loss (mean cross-entropy, less is better), of all networks and of the best quarter; and the same
once costs are weighed, and once ``--count`` networks were calibrated by, as in ``calibration.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import truth as laboratory
from _truth_statistics import round_all
from _truth_training import Training
from calibration import Truth, read_truth
from numpy.typing import NDArray
from scipy.special import logit

from predictors.alone import Networks, Trainings, choose_trainings, infer_alone
from predictors.scores import kendall_tau
from supernet.data import lay_channels_last
from supernet.errors import DivergedError, InputError
from supernet.quality.evaluate import BatchCache, recalibrate_extracted
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import train

Floats = NDArray[np.float64]
BATCH = 256


def score(training: Training) -> tuple[Floats, Floats]:
    """Train a supernet, and evaluate accuracy and cross-entropy of its networks, ``(n,)`` each.

    Raises:
        DivergedError: Training diverged.
    """
    task = training.task
    data, supernet = task.open(), task.build(training.recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        train(supernet, data, training.recipe, Path(folder))
    cache = BatchCache()
    found = [
        _score_one(supernet, network, training, cache)
        for network in supernet.space.decode(np.array(training.rows, dtype=np.int16))
    ]
    accuracy, loss = np.array(found).T
    return accuracy, loss


@torch.no_grad()
def _score_one(
    supernet: Supernet, network: Architecture, training: Training, cache: BatchCache
) -> tuple[float, float]:
    data = training.task.open()
    split = data.split(training.task.split)
    model = supernet.extract(network)
    recalibrate_extracted(model, supernet, network, data, cache=cache)
    right, losses = 0, 0.0
    for start in range(0, len(split), BATCH):
        part = slice(start, min(start + BATCH, len(split)))
        inputs, targets = split.batch(part, torch.device("cpu"))
        outputs = model(lay_channels_last(supernet.prepare(inputs, network))).float()
        right += int((outputs.argmax(-1) == targets).sum())
        losses += float(F.cross_entropy(outputs, targets, reduction="sum"))
    return right / len(split), losses / len(split)


def compare(truth: Truth, estimates: Floats, count: int) -> dict[str, float]:
    """Rank by estimates alone, with costs, and calibrated.

    Args:
        truth: Of all networks.
        estimates: Inherited ones on the scale of logits, larger is better, ``(n,)``.
        count: Networks trained alone; each of the truth's seeds in turn.
    """
    networks = Networks(truth.space, truth.positions, estimates, np.log(truth.macs), maximize=True)
    samples = truth.right.shape[2]
    shares = np.clip(truth.of_seeds, 0.5 / samples, 1 - 0.5 / samples)
    errors = 1 / np.sqrt(samples * shares * (1 - shares))
    every = np.arange(len(estimates))
    none = Trainings(every[:0], np.zeros(0), np.zeros(0))
    rows = choose_trainings(networks, every, count, float(np.median(errors)))
    ranked = {
        "alone": [estimates],
        "with_costs": [infer_alone(networks, none).posterior.mean],
        "calibrated": [
            infer_alone(
                networks, Trainings(rows, logit(shares[rows, seed]), errors[rows, seed])
            ).posterior.mean
            for seed in range(shares.shape[1])
        ],
    }
    top = np.argsort(-truth.mean, kind="stable")[: -(-len(estimates) // 4)]
    found = {}
    for name, scores in ranked.items():
        found[name] = float(np.mean([kendall_tau(one, truth.mean) for one in scores]))
        tops = [kendall_tau(one[top], truth.mean[top]) for one in scores]
        found[f"{name}_top_quarter"] = float(np.mean(tops))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, compare and print."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="All options of benchmarks/truth.py are taken, too.",
    )
    parser.add_argument("--count", type=laboratory.read_count, default=16, help="trained alone")
    own, others = parser.parse_known_args(arguments)
    options = laboratory.read_arguments(others)
    try:
        truth, _ = read_truth(options)
        for (name, _), trainings in laboratory.make_plan(options.task, options).supernets.items():
            for training in trainings:
                accuracy, loss = score(training)
                least = 0.5 / truth.right.shape[2]
                found = {
                    "recipe": name,
                    "seed": training.seed,
                    "accuracy": compare(
                        truth, logit(np.clip(accuracy, least, 1 - least)), own.count
                    ),
                    "loss": compare(truth, -np.log(np.maximum(loss, 1e-6)), own.count),
                }
                print(json.dumps(round_all(found), allow_nan=False), flush=True)
    except (InputError, DivergedError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
