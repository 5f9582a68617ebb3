"""Loss, bytes and latency of a MatLM in float, in 8 bits and with 4-bit weights, as exported.

    python benchmarks/matlm_precision.py --text shakespeare.txt --cache runs/matlm

Trains one supernet in float, then writes every uniform granularity (S, M, L, XL) in every format
as an ONNX model and runs that file. ``loss`` is in nats per token over the first windows of the
validation part under ONNX Runtime, one window at a time: with more, ``int8-dynamic`` takes one
range for all of them, where the simulation takes one for each. ``simulated`` is the loss of the
network in torch on the same windows. Latency is of one thread, for a full context and for a single
token. Weights take ``bytes``; the rest of the file is ``overhead``. A table is printed to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from scipy.special import logsumexp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.campaign import measure_networks
from hardware.device import Device
from supernet.data import DataSource, open_data
from supernet.export import Exported, export
from supernet.families import matlm
from supernet.graph.language import Graph
from supernet.graph.lowering import lower
from supernet.precision.elastic import make_precision_elastic
from supernet.quality.evaluate import score_samples
from supernet.quantization.formats import BLOCK, parse_policy
from supernet.space import PRECISION, Architecture, SearchSpace
from supernet.supernet import Supernet
from supernet.training import find_recipe, train

FORMATS = ("fp32", "int8", "int8-dynamic", "weights4")
GRANULARITIES = ("S", "M", "L", "XL")
CALIBRATION = 256
ROUNDS = 6


@dataclass(frozen=True)
class Member:
    """One granularity in one format."""

    granularity: str
    precision: str
    architecture: Architecture


def list_members(supernet: Supernet) -> Iterator[Member]:
    """Every uniform granularity at full depth, in every format."""
    space = supernet.space
    precisions = [choice for choice in space.choices if choice.kind == PRECISION]
    plain = SearchSpace(tuple(choice for choice in space.choices if choice.kind != PRECISION))
    for i, granularity in enumerate(GRANULARITIES):
        values = matlm.make_uniform(plain, i).to_dict()
        for precision in FORMATS:
            own = {choice.name: precision for choice in precisions}
            yield Member(granularity, precision, space.architecture(values | own))


def run_windows(model: bytes, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Loss of each window ``(n,)`` under ONNX Runtime, in nats per token, a window at a time.

    Args:
        model: Token ids ``(1, context)`` in, logits out.
        inputs: ``(n, context)`` token ids.
        targets: ``(n, context)`` the tokens that follow.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name, losses = session.get_inputs()[0].name, []
    for ids, wanted in zip(inputs, targets, strict=True):
        (logits,) = session.run(None, {name: ids[None]})
        chosen = np.take_along_axis(logits[0], wanted[:, None], axis=-1)[:, 0]
        losses.append(float((logsumexp(logits[0].astype(np.float64), axis=-1) - chosen).mean()))
    return np.array(losses)


def trace_token(exported: Exported) -> Graph:
    """The exported network for a single token."""
    return lower(exported.network, (torch.zeros((1, 1), dtype=torch.int64),), structure_only=True)[
        0
    ]


def measure(supernet: Supernet, data: DataSource, windows: int) -> list[dict[str, Any]]:
    """Export every member, run its file, and measure all of them in one campaign."""
    val = data.split("val")
    chosen = np.arange(min(windows, len(val)))
    inputs, targets = val.inputs[chosen].numpy(), val.targets[chosen].numpy()
    rows, graphs = [], []
    for member in list_members(supernet):
        exported = export(
            supernet, member.architecture, data,
            calibration_samples=CALIBRATION, estimator="minmax",
        )  # fmt: skip
        simulated = score_samples(
            exported.network, supernet, member.architecture, data, "val", rows=chosen
        )
        losses = run_windows(exported.onnx, inputs, targets)
        graphs += [exported.graph, trace_token(exported)]
        rows.append(
            {
                "granularity": member.granularity,
                "precision": member.precision,
                "loss": round(float(losses.mean()), 4),
                "simulated": round(float(simulated.mean()), 4),
                "largest_difference": float(np.abs(losses - simulated).max()),
                "bytes": exported.size_bytes,
                "overhead": exported.overhead_bytes,
            }
        )
    found = measure_networks(graphs, Device(), rounds=ROUNDS)
    for row, context, token in zip(rows, found[::2], found[1::2], strict=True):
        row |= {
            "context_us": round(1e3 * context.latency_ms, 1),
            "token_us": round(1e3 * token.latency_ms, 1),
        }
    return rows


def write_table(rows: Sequence[dict[str, Any]]) -> str:
    """Write the rows as a table in Markdown."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns)]
    for row in rows:
        lines.append([f"{v:.1e}" if c == "largest_difference" else str(v) for c, v in row.items()])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def prepare(
    preset: str, text: Path, cache: Path, seed: int, steps: int | None
) -> tuple[Supernet, DataSource]:
    """Train a supernet, or take it from the cache, and make it elastic in precision."""
    context = matlm.PRESETS[preset].context
    data = open_data(f"text:{text}", context=context)
    config = replace(matlm.configure(preset, data.shape), seed=seed)
    for name, sizes in (("widths", config.widths), ("ffn", config.ffn)):
        if any(size % BLOCK for size in sizes):
            raise SystemExit(f"{name} = {list(sizes)}: blocks of weights need multiples of {BLOCK}")
    supernet = matlm.build(config)
    recipe = replace(find_recipe("text+sandwich+adamw"), seed=seed)
    if steps is not None:
        recipe = replace(recipe, steps=steps, warmup_steps=min(recipe.warmup_steps, steps // 4))
    train(supernet, data, recipe, cache)
    return make_precision_elastic(supernet, parse_policy(",".join(FORMATS))), data


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one JSON object, and the table to stderr."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--text", type=Path, required=True, help="a UTF-8 text file")
    parser.add_argument("--preset", default="classic", choices=list(matlm.PRESETS))
    parser.add_argument("--steps", type=int, default=600, help="of training")
    parser.add_argument("--windows", type=int, default=400, help="of validation, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="keeps the trained supernet")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        cache = options.cache or Path(scratch)
        supernet, data = prepare(options.preset, options.text, cache, options.seed, options.steps)
        rows = measure(supernet, data, options.windows)
    print(write_table(rows), file=sys.stderr)
    print(json.dumps({"preset": options.preset, "steps": options.steps, "rows": rows}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
