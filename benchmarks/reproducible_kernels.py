"""What the reproducible mode of the matrix library costs, and what it changes.

Every mode runs in processes of its own, in turn, several times over; times are CPU time on one
thread, the least of all. ``moves`` counts products, of 40 in float32 and float64, whose bits change
with the place in memory or the strides of their operands.

    python benchmarks/reproducible_kernels.py --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from supernet.reproducible import VARIABLE, use_reproducible_kernels

PRODUCTS = ((64, 64, 64), (256, 512, 512), (2048, 64, 256), (17, 33, 31))
SHAPES = ((3, 5, 7), (17, 33, 31), (64, 64, 64), (60, 100, 35), (256, 512, 512))


def least_us(call: Callable[[], object], seconds: float = 0.5) -> float:
    """Microseconds of processor time of a call, the least of as many as fit in some seconds."""
    call()
    found, end = float("inf"), time.process_time() + seconds
    while time.process_time() < end:
        start = time.process_time()
        call()
        found = min(found, time.process_time() - start)
    return round(found * 1e6, 1)


def measure() -> dict[str, float]:
    """Times of products, convolutions and training steps in this process, and what moves."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    found: dict[str, float] = {"moves": moving_products(), "moves elsewhere": moving_others()}
    for m, k, n in PRODUCTS:
        a, b = torch.rand(m, k, generator=generator), torch.rand(n, k, generator=generator)
        found[f"product {m}x{k}x{n}"] = least_us(lambda a=a, b=b: F.linear(a, b))
    images = torch.rand(16, 32, 16, 16, generator=generator)
    for name, groups, kernel in (("3x3", 1, 3), ("1x1", 1, 1), ("depthwise 5x5", 32, 5)):
        weight = torch.rand(32, 32 // groups, kernel, kernel, generator=generator)
        found[f"convolution {name}"] = least_us(
            lambda w=weight, g=groups, p=kernel // 2: F.conv2d(images, w, padding=p, groups=g)
        )
    return found | training_steps()


def placed(values: Tensor, offset: int) -> Tensor:
    """A copy that starts so many elements after a multiple of 64 bytes."""
    room = values.new_empty(values.numel() + 32)
    start = -room.data_ptr() % 64 // values.element_size() + offset
    place = room[start : start + values.numel()].view(values.shape)
    return place.copy_(values)


def moving_others() -> int:
    """Other layers whose outputs or gradients depend on where their operands lie."""
    import torch
    import torch.nn.functional as F

    layers = (
        (lambda x, w: F.conv2d(x, w, padding=1), (24, 16, 3, 3)),
        (F.conv2d, (24, 16, 1, 1)),
        (lambda x, w: F.conv2d(x, w, padding=2, groups=16), (16, 1, 5, 5)),
        (lambda x, w: F.batch_norm(x, None, None, w, w, True), (16,)),
        (lambda x, w: F.layer_norm(x, (11,), w, w), (11,)),
        (lambda x, w: F.softmax(x * w, -1), (11,)),
    )
    generator, count = torch.Generator().manual_seed(0), 0
    for dtype in (torch.float32, torch.float64):
        for layer, shape in layers:
            x = torch.randn(8, 16, 11, 11, generator=generator, dtype=dtype)
            w = torch.randn(shape, generator=generator, dtype=dtype)
            results = []
            for first, second in ((0, 0), (1, 0), (0, 5), (3, 1)):
                leaves = [placed(x, first).requires_grad_(), placed(w, second).requires_grad_()]
                y = layer(*leaves)
                pull = torch.linspace(-1, 1, y.numel(), dtype=dtype).view(y.shape)
                results.append((y, *torch.autograd.grad(y, leaves, pull)))
            for result in results[1:]:
                count += not all(map(torch.equal, result, results[0]))
    return count


def moving_products() -> int:
    """Products whose bits depend on where their operands lie."""
    import torch
    import torch.nn.functional as F

    def strided(values: Tensor) -> Tensor:
        whole = torch.zeros(values.shape[0], values.shape[1] + 3, dtype=values.dtype)
        return whole[:, : values.shape[1]].copy_(values)

    generator, count = torch.Generator().manual_seed(0), 0
    for dtype in (torch.float32, torch.float64):
        for m, k, n in SHAPES:
            a = torch.randn(m, k, generator=generator, dtype=torch.float64).to(dtype)
            b = torch.randn(n, k, generator=generator, dtype=torch.float64).to(dtype)
            expected = F.linear(placed(a, 0), placed(b, 0))
            others = (
                F.linear(placed(a, 1), placed(b, 0)),
                F.linear(placed(a, 0), placed(b, 5)),
                F.linear(placed(a, 2), placed(b, 1)),
                F.linear(a, strided(b)),
            )
            count += sum(not torch.equal(other, expected) for other in others)
    return count


def training_steps() -> dict[str, float]:
    """One step of the sandwich rule on digits and on text, on the processor."""
    import torch

    from supernet.families import matlm, ofa_mobilenetv3
    from supernet.training.guides import InPlace
    from supernet.training.method import TrainingMethod
    from supernet.training.samplers.sandwich import Sandwich

    generator, found = torch.Generator().manual_seed(0), {}
    for name, family in (("digits", ofa_mobilenetv3), ("MatLM", matlm)):
        supernet = family.build(family.PRESETS["tiny"]).train()
        shape = (64, *supernet.inputs.shape)
        if name == "digits":
            inputs = torch.rand(shape, generator=generator)
            targets = torch.randint(0, 10, (64,), generator=generator)
        else:
            inputs = targets = torch.randint(0, 20, shape, generator=generator)
        strategy = TrainingMethod(supernet, Sandwich(supernet.space, seed=0), InPlace())

        def step(strategy: TrainingMethod = strategy, data: tuple = (inputs, targets)) -> None:
            strategy.backward(0, *data)

        found[f"training step, {name}"] = least_us(step, 3.0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(measure()))
        return
    os.environ.pop(VARIABLE, None)
    chosen = use_reproducible_kernels() or "AUTO"
    modes = {"off": "", f"the commands' ({chosen})": chosen, "COMPATIBLE": "COMPATIBLE"}
    results: dict[str, dict[str, float]] = {}
    for _ in range(args.rounds):
        for name, value in modes.items():
            environment = {**os.environ, VARIABLE: value, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, "--inside"]
            run = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            )
            new, old = json.loads(run.stdout), results.get(name, {})
            results[name] = {key: min(value, old.get(key, value)) for key, value in new.items()}
    print(json.dumps({"unit": "microseconds", "modes": results}, indent=2))


if __name__ == "__main__":
    main()
