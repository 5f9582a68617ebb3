"""What a language model of many sizes does when it generates: drafts, switches, shared files.

    python benchmarks/generation.py --text tinyshakespeare.txt --cache runs/generation
    python benchmarks/generation.py --text tinyshakespeare.txt --cache runs/generation --steps 2000

Trains one MatLM, and its smallest network alone for as many passes. Then, on prompts from the test
part: tokens a second of the largest network alone and with a draft, under torch and ONNX Runtime;
whether the tokens are the same; how many drafted tokens were right, for the nested draft that reads
the model's keys and values, for the one with its own, and for the one that was trained alone; how
often each agrees with the model on given text, and its divergence. Then the time to switch sizes
and the memory of all of them, and the bytes of sizes that share a file of weights.

Prints one JSON object. Trainings are kept in ``--cache``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from supernet.data import DataSource, open_data
from supernet.families import matlm
from supernet.generation.consistency import measure_consistency
from supernet.generation.decoding import generate
from supernet.generation.language_model import LanguageModel, require_decoder
from supernet.generation.onnx_decoder import open_decoder, write_decoder
from supernet.generation.serving import serve
from supernet.generation.speculative import speculate
from supernet.nested_export import share_weights
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import find_recipe, train

CONFIG = matlm.Config(
    context=128,
    widths=(192,),
    heads=(3, 6),
    groups=3,
    head_size=32,
    ffn=(64, 128, 256, 512),
    depths=(2, 4, 8),
    tied=True,
)
CONTEXT, PROMPT, TOKENS = 128, 32, 64
SWITCHES = 200


def train_one(
    config: matlm.Config, data: DataSource, recipe: str, steps: int | None, folder: Path
) -> Supernet:
    """Train a supernet, or take it from its folder."""
    supernet = matlm.build(replace(config, vocabulary=data.shape.classes))
    chosen = find_recipe(recipe, base="text")
    train(supernet, data, chosen if steps is None else chosen.resize(steps), folder)
    return supernet.eval()


def restrict(config: matlm.Config) -> matlm.Config:
    """The smallest network of a configuration as the only one."""
    names = ("widths", "heads", "ffn", "depths")
    changes: dict[str, Any] = {name: (min(getattr(config, name)),) for name in names}
    return replace(config, **changes)


def draw_prompts(data: DataSource, count: int) -> list[Tensor]:
    """Beginnings of windows of the test part, evenly spread, each ``(1, PROMPT)``."""
    windows = data.split("test").inputs
    places = torch.linspace(0, len(windows) - 1, count).long()
    return [windows[place : place + 1, :PROMPT] for place in places.tolist()]


def compare_drafts(
    model: LanguageModel, drafts: dict[str, tuple[LanguageModel, bool]], prompts: list[Tensor]
) -> dict[str, Any]:
    """Generate from every prompt alone and with every draft."""
    begin = time.perf_counter()
    alone = [generate(model, prompt, TOKENS)[0] for prompt in prompts]
    seconds = time.perf_counter() - begin
    found: dict[str, Any] = {"alone": {"ms_per_token": 1000 * seconds / len(prompts) / TOKENS}}
    for name, (draft, shared) in drafts.items():
        begin = time.perf_counter()
        texts = [speculate(model, draft, prompt, TOKENS, shared=shared) for prompt in prompts]
        took = time.perf_counter() - begin
        same = [torch.equal(ours.ids, theirs) for ours, theirs in zip(texts, alone, strict=True)]
        found[name] = {
            "ms_per_token": 1000 * took / len(prompts) / TOKENS,
            "speed_up": seconds / took,
            "identical_texts": sum(same),
            "acceptance": sum(t.accepted for t in texts) / sum(t.drafted for t in texts),
        }
    return found


def measure_switching(supernet: Supernet) -> dict[str, Any]:
    """Time to serve a size that was not served before, and one that was; bytes of their own."""
    members = [matlm.make_uniform(supernet.space, i) for i in range(4)]
    own = {p.untyped_storage().data_ptr() for p in supernet.parameters()}
    new, known, others = [], [], 0
    for i in range(SWITCHES):
        supernet.forget_shells()
        begin = time.perf_counter()
        served = serve(supernet, members[i % 4])
        new.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        serve(supernet, members[i % 4])
        known.append(time.perf_counter() - begin)
        others = sum(
            p.untyped_storage().nbytes()
            for p in served.network.parameters()
            if p.untyped_storage().data_ptr() not in own
        )
    return {
        "first_ms": 1000 * statistics.median(new),
        "again_ms": 1000 * statistics.median(known),
        "bytes_of_their_own": others,
    }


def measure_files(supernet: Supernet) -> dict[str, Any]:
    """Bytes of the four uniform sizes with one file of weights, beside the largest alone."""
    members = [matlm.make_uniform(supernet.space, i) for i in range(4)]
    models = {a.digest: write_decoder(extract(supernet, a)) for a in members}
    state = supernet.model.state_dict()
    shared, weights = share_weights(models, {f"network.{n}": t.numpy() for n, t in state.items()})
    whole = len(weights) + sum(map(len, shared.values()))
    largest = max(map(len, models.values()))
    return {"together": whole, "largest_alone": largest, "ratio": whole / largest}


def extract(supernet: Supernet, architecture: Architecture) -> Any:
    """A subnetwork with weights of its own."""
    return require_decoder(supernet.extract(architecture).eval(), architecture.digest)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--text", required=True, help="a UTF-8 text file")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--recipe", default="text")
    parser.add_argument("--steps", type=int, help="optimiser steps; the recipe's by default")
    parser.add_argument("--prompts", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = open_data(f"text:{options.text}", context=CONTEXT)
    supernet = train_one(CONFIG, data, options.recipe, options.steps, options.cache / "supernet")
    single = train_one(
        restrict(CONFIG), data, options.recipe, options.steps, options.cache / "alone"
    )
    space = supernet.space
    model, small = serve(supernet, space.largest), serve(supernet, space.smallest)
    alone = serve(single, single.space.largest)
    prompts, windows = draw_prompts(data, options.prompts), data.split("test").inputs[:64]
    engines: dict[str, tuple[LanguageModel, LanguageModel, LanguageModel]] = {
        "torch": (model, small, alone),
        "onnxruntime": (
            open_decoder(model.network),
            open_decoder(small.network),
            open_decoder(alone.network),
        ),
    }
    result: dict[str, Any] = {
        "parameters": {
            "model": supernet.parameter_count(space.largest),
            "draft": supernet.parameter_count(space.smallest),
        },
        "consistency": {
            name: asdict(measure_consistency(model, draft, windows))
            for name, draft in (("nested", small), ("independent", alone))
        },
        "switching": measure_switching(supernet),
        "files": measure_files(supernet),
    }
    for engine, (large, nested, other) in engines.items():
        result[engine] = compare_drafts(
            large,
            {"shared": (nested, True), "own": (nested, False), "independent": (other, False)},
            prompts,
        )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
