"""What post-training quantization of digits subnetworks costs, by estimator and by correction.

    python benchmarks/post_training.py --steps 700 --architectures 6

Trains the built-in float supernet with its own recipe (or reads its weights from ``--weights``),
then quantizes random architectures with calibration data only. Printed are, over all of them, the
accuracy on ``val``, the Kullback-Leibler divergence of the outputs from those in float (which tells
what so few images cannot), and the time of an evaluation beside that in float.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from supernet.data import DataSource, open_data
from supernet.families import ofa_mobilenetv3
from supernet.precision.elastic import list_precision_choices, make_precision_elastic
from supernet.quality.evaluate import BatchCache, evaluate, recalibrate_extracted
from supernet.quantization.calibration import DEFAULT_ESTIMATOR, ESTIMATORS
from supernet.quantization.formats import parse_policy
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import find_recipe, train

FORMATS = ("int8", "w4a8", "w3a8", "w2a8", "w4a4")


def make_supernet(data: DataSource, options: argparse.Namespace) -> Supernet:
    """Train the float supernet, or read one that was trained before."""
    net: Supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.configure("tiny", data.shape))
    kept = Path(options.weights) if options.weights else None
    if kept is not None and kept.exists():
        load_model(net, kept)
        return net.eval()
    recipe = replace(find_recipe("digits+inplace+sgd"), steps=options.steps)
    with tempfile.TemporaryDirectory() as folder:
        train(net, data, recipe, Path(folder))
    if kept is not None:
        save_model(net, str(kept))
    return net.eval()


def set_all(net: Supernet, architecture: Architecture, precision: str) -> Architecture:
    """Give every unit one number format."""
    kinds = {choice.name for choice in list_precision_choices(net.space)}
    values = architecture.to_dict()
    return net.space.architecture({n: precision if n in kinds else v for n, v in values.items()})


class Comparison:
    """Random architectures in one number format, beside themselves in float."""

    def __init__(self, net: Supernet, data: DataSource, name: str, count: int) -> None:
        self.net = make_precision_elastic(net, parse_policy(f"{name},fp32"))
        self.data, self.name, self.cache = data, name, BatchCache()
        drawn = self.net.space.decode(self.net.space.sample(np.random.default_rng(0), count))
        self.architectures = [set_all(self.net, a, name) for a in drawn]
        self.targets = torch.as_tensor(data.val.targets)
        exact = [set_all(self.net, a, "fp32") for a in drawn]
        self.float_outputs = [self.run(a, DEFAULT_ESTIMATOR, True) for a in exact]
        self.float_accuracy = self.measure_accuracy(self.float_outputs)

    @torch.inference_mode()
    def run(self, architecture: Architecture, estimator: str, corrections: bool) -> Tensor:
        """Outputs on ``val`` of an architecture, quantized after training."""
        network: nn.Module = self.net.extract(architecture)
        recalibrate_extracted(
            network,
            self.net,
            architecture,
            self.data,
            cache=self.cache,
            estimator=estimator,
            corrections=corrections,
        )
        inputs, _ = self.data.val.batch(torch.arange(len(self.data.val)), torch.device("cpu"))
        outputs: Tensor = network(self.net.prepare(inputs, architecture))
        return outputs

    def measure_accuracy(self, outputs: Sequence[Tensor]) -> float:
        """Mean accuracy, in percent."""
        right = [(out.argmax(-1) == self.targets).float().mean().item() for out in outputs]
        return round(100 * float(np.mean(right)), 2)

    def compare(self, estimator: str, corrections: bool = True) -> dict[str, Any]:
        """Quantize all architectures in one way."""
        outputs = [self.run(a, estimator, corrections) for a in self.architectures]
        apart = [
            F.kl_div(
                out.log_softmax(-1), exact.log_softmax(-1), reduction="batchmean", log_target=True
            ).item()
            for out, exact in zip(outputs, self.float_outputs, strict=True)
        ]
        return {
            "format": self.name,
            "estimator": estimator,
            "corrections": corrections,
            "accuracy": self.measure_accuracy(outputs),
            "float_accuracy": self.float_accuracy,
            "divergence": round(float(np.mean(apart)), 5),
        }


def compare_all(net: Supernet, data: DataSource, count: int) -> Iterator[dict[str, Any]]:
    """Every format with every estimator, and per-tensor ones without corrections, too."""
    for plain in FORMATS:
        for name in (plain, f"{'w8a8' if plain == 'int8' else plain}-tensor"):
            comparison = Comparison(net, data, name, count)
            for estimator in ESTIMATORS:
                yield comparison.compare(estimator)
            if name.endswith("-tensor"):
                yield comparison.compare(DEFAULT_ESTIMATOR, corrections=False)


def measure_times(net: Supernet, data: DataSource, rounds: int = 7) -> dict[str, float]:
    """Median seconds of processor time of one evaluation in float and in int8."""
    elastic = make_precision_elastic(net, parse_policy("int8"))
    drawn = elastic.space.decode(elastic.space.sample(np.random.default_rng(0), 1))[0]
    cache, seconds = BatchCache(), {}
    for name in ("fp32", "int8"):
        architecture, taken = set_all(elastic, drawn, name), []
        for _ in range(rounds):
            began = time.process_time()
            evaluate(elastic, architecture, data, "val", cache=cache)
            taken.append(time.process_time() - began)
        seconds[name] = float(np.median(taken))
    return seconds


def main() -> int:
    """Print one JSON object a line: comparisons, then the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--architectures", type=int, default=6)
    parser.add_argument("--weights", help="safetensors: read if there, else written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = open_data("digits")
    net = make_supernet(data, options)
    for found in compare_all(net, data, options.architectures):
        print(json.dumps(found), flush=True)
    print(json.dumps(measure_times(net, data)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
