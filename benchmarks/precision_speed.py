"""Latency of integer networks beside float ones and beside what a stock quantizer makes of them.

Every network is extracted with random weights, its ranges are calibrated on random images, and it
is loaded four times by plain ONNX Runtime with one thread: in float, in integers, and as
``onnxruntime.quantization.quantize_static`` writes it (``QDQ``) from the same float model, with its
defaults and with unsigned activations and weights per channel. They run in random order, turn by
turn; a latency is the 30th percentile of the thread's processor time.

OMP_NUM_THREADS=1 python benchmarks/precision_speed.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from supernet.graph.lowering import lower
from supernet.graph.onnx_model import to_onnx
from supernet.precision.elastic import make_precision_elastic
from supernet.quality.batch_statistics import recalibrate
from supernet.quantization.calibration import calibrate_ranges
from supernet.quantization.execution import find_execution
from supernet.quantization.folding import fold_normalization
from supernet.quantization.formats import parse_policy
from supernet.space import Architecture
from supernet.supernet import Supernet

STOCK = {
    "stock": {},
    "stock U8S8": {
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "per_channel": True,
    },
}
NETWORKS = (("ofa_mobilenetv3", "imagenet"), ("ofa_resnet50", "imagenet"), ("resnet", "cifar"))


class Images(CalibrationDataReader):  # type: ignore[misc]
    """A few random images for the stock quantizer, one at a time."""

    def __init__(self, name: str, images: np.ndarray) -> None:
        self._batches: Iterator[dict[str, np.ndarray]] = iter([{name: i[None]} for i in images])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, ``None`` after the last."""
        return next(self._batches, None)


def choose_values(
    supernet: Supernet, resolution: int | None, count: int
) -> dict[str, dict[str, object]]:
    """Values of the choices but for the precision: extremes, and ``count`` at random."""
    space = supernet.space
    chosen = {
        "smallest": dict(space.smallest.to_dict()),
        "largest": dict(space.largest.to_dict()),
    }
    kernels = [c.name for c in space.choices if c.kind == "kernel"]
    if kernels:
        chosen["largest, 3x3"] = chosen["largest"] | dict.fromkeys(kernels, 3)
    rng = np.random.default_rng(0)
    for number in range(count):
        chosen[f"random {number}"] = dict(space.sample_one(rng).to_dict())
    if resolution is not None:
        for values in chosen.values():
            values["resolution"] = resolution
    return chosen


def write_network(
    supernet: Supernet, architecture: Architecture, images: torch.Tensor
) -> tuple[bytes, float]:
    """Write a network as our export does, and count the seconds of the processor for that.

    They are those of folding, lowering and writing, without the network's runs on images.
    """
    network = supernet.extract(architecture).eval()
    execution = find_execution(network)
    with torch.no_grad():
        recalibrate(network, [images])
        network.eval()
        seconds = -time.process_time()
        if execution is not None:
            fold_normalization(network, execution, images[:1])
            seconds += time.process_time()
            calibrate_ranges(network, execution, [images], "minmax")
            seconds -= time.process_time()
        graph, values = lower(network, (images[:1],))
        known = {name: value for name, value in values.items() if value is not None}
        model = to_onnx(graph, known, batch=1).SerializeToString()
        seconds += time.process_time()
    return model, seconds


def quantize_stock(
    model: bytes, images: np.ndarray, options: dict[str, object]
) -> tuple[bytes, float]:
    """Quantize a float model with the stock quantizer, and count the seconds of the processor.

    The preprocessing that it recommends does not count; its runs on images do.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, folded, target = (Path(folder) / name for name in ("float", "folded", "int8"))
        source.write_bytes(model)
        quant_pre_process(source, folded, skip_symbolic_shape=True)
        start = time.process_time()
        quantize_static(folded, target, Images("input", images), **options)
        return target.read_bytes(), time.process_time() - start


def load(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def time_all(
    models: dict[str, bytes], image: np.ndarray, seconds: float, most: int
) -> dict[str, float]:
    """Milliseconds of each model, all run in random order, turn by turn, for some seconds."""
    sessions = {name: load(model) for name, model in models.items()}
    taken: dict[str, list[int]] = {name: [] for name in models}
    end, rng = time.monotonic() + seconds, np.random.default_rng(0)
    for turn in range(most):
        for name in rng.permutation(list(sessions)):
            # The first run fills the caches again that the other models have emptied.
            sessions[name].run(None, {"input": image})
            start = time.thread_time_ns()
            sessions[name].run(None, {"input": image})
            taken[name].append(time.thread_time_ns() - start)
        if turn >= 10 and time.monotonic() > end:
            break
    return {name: float(np.percentile(t, 30)) / 1e6 for name, t in taken.items()}


def measure(
    supernet: Supernet, values: dict[str, object], seconds: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds and processor seconds of writing of one architecture, by way of writing it."""
    plain = supernet.space.architecture(values)
    elastic = make_precision_elastic(supernet, parse_policy("int8"))
    formats = {c.name: "int8" for c in elastic.space.choices if c.kind == "precision"}
    integers = elastic.space.architecture(values | formats)
    images = torch.rand(
        (4, *supernet.input_shape(plain)), generator=torch.Generator().manual_seed(0)
    )
    models, writing = {}, {}
    models["float"], writing["float"] = write_network(supernet, plain, images)
    models["integers"], writing["integers"] = write_network(elastic, integers, images)
    for name, options in STOCK.items():
        models[name], writing[name] = quantize_stock(models["float"], images.numpy(), options)
    return time_all(models, images[:1].numpy(), seconds, 60), writing


def compare(times: dict[str, float]) -> dict[str, float]:
    """Times as fast as each of the others our integers are."""
    return {name: t / times["integers"] for name, t in times.items() if name != "integers"}


def average(ratios: list[dict[str, float]]) -> dict[str, float]:
    """Geometric means by name."""
    return {name: statistics.geometric_mean(r[name] for r in ratios) for name in ratios[0]}


def main() -> int:
    """Measure every family and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resolutions", default="160,224")
    parser.add_argument("--random", type=int, default=2, help="architectures beside the extremes")
    parser.add_argument("--seconds", type=float, default=1.0, help="of running per architecture")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    output = {}
    for name, preset in NETWORKS:
        family = import_module(f"supernet.families.{name}")
        supernet = family.build(family.PRESETS[preset]).eval()
        elastic = any(c.name == "resolution" for c in supernet.space.choices)
        mobile = name == "ofa_mobilenetv3"
        for side in [int(r) for r in arguments.resolutions.split(",")] if mobile else [160]:
            number = arguments.random if mobile else 0
            chosen = choose_values(supernet, side if elastic else None, number)
            found, seconds = {}, []
            for label, values in chosen.items():
                times, writing = measure(supernet, values, arguments.seconds)
                found[label] = {
                    "milliseconds": {k: round(v, 3) for k, v in times.items()},
                    "times_as_fast_as": {k: round(v, 2) for k, v in compare(times).items()},
                }
                seconds.append(writing)
                print(json.dumps({f"{name} {side} {label}": found[label]}), file=sys.stderr)
            ratios = [f["times_as_fast_as"] for f in found.values()]
            output[f"{name} at {side} pixels" if elastic else name] = found | {
                "geometric_mean": {k: round(v, 2) for k, v in average(ratios).items()},
                "seconds_of_writing": {
                    k: round(max(s[k] for s in seconds), 2) for k in seconds[0] if k != "float"
                },
            }
    print(json.dumps(output, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
