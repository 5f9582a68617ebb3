"""How long every command is silent: before its first line, and at most between two signs of life.

python benchmarks/first_sign_of_life.py
python benchmarks/first_sign_of_life.py --images 60000 --pixels 64 --commands train,evaluate

Every command runs as a process of its own with pipes for its output, on the built-in digits or on
a folder of as many made-up images. A sign of life is anything that it writes; the last silence ends
with the process.
"""

from __future__ import annotations

import argparse
import json
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=0, help="of the folder; 0: the digits")
    parser.add_argument("--pixels", type=int, default=64, help="side of an image")
    parser.add_argument("--steps", type=int, default=60, help="of training")
    parser.add_argument("--evaluations", type=int, default=60, help="of the search")
    parser.add_argument("--commands", default="", help="some only, after those they need")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = ["--data", "digits"]
        if args.images:
            make_images(Path(folder, "images"), args.images, args.pixels)
            data = ["--data", f"folder:{folder}/images", "--image-size", "32"]
        lines = list_commands(Path(folder), data, args.steps, args.evaluations)
        chosen = set(args.commands.split(",") if args.commands else lines)
        for name, line in lines.items():
            if name in chosen:
                print(json.dumps({"command": name, **watch(line)}), flush=True)


def list_commands(
    folder: Path, data: Sequence[str], steps: int, evaluations: int
) -> Mapping[str, Sequence[str]]:
    """What is typed after ``supernet``, by command, in the order in which they need each other."""
    run = str(folder / "run")
    here = ["--run", run]
    return {
        "describe": ["describe", "ofa_mobilenetv3"],
        "train": ["train", *data, "--out", run, "--steps", str(steps)],
        "profile": ["profile", *here, "--passes", "4"],
        "search": ["search", *here, "--evaluations", str(evaluations)],
        "pick": ["pick", *here, "--knee"],
        "evaluate": ["evaluate", *here, "--arch", "largest", "--split", "train"],
        "audit": ["audit", *here, "--networks", "4", "--epochs", "1"],
        "export": ["export", *here, "--arch", "smallest"],
        "report": ["report", *here],
        "quantize": ["quantize", *here, "--precision", "fp32,int8", "--out", f"{run}-int8"],
        "quickstart": ["quickstart", "--out", f"{run}-quick", "--steps", str(steps)],
    }


def watch(line: Sequence[str]) -> dict[str, object]:
    """Run a command; returns its longest silences, in seconds, and what it said before the longest.

    Args:
        line: What is typed after ``supernet``.

    Raises:
        RuntimeError: The command failed.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "supernet", *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    signs = [(0.0, b""), *read_signs(began, (process.stdout, process.stderr))]
    code = process.wait()
    signs.append((time.monotonic() - began, b""))
    if code:
        raise RuntimeError(f"supernet {' '.join(line)} failed: {signs[-2][1].decode()}")
    gap, before = max((after - at, text) for (at, text), (after, _) in pairwise(signs))
    return {
        "first": round(signs[1][0], 2),
        "longest_gap": round(gap, 2),
        "after": before.decode(errors="replace").strip().rpartition("\n")[2][:100],
        "seconds": round(signs[-1][0], 1),
        "signs": len(signs) - 2,
    }


def read_signs(began: float, streams: Sequence[IO[bytes]]) -> list[tuple[float, bytes]]:
    """Read both streams to their ends: what came, and how many seconds after the beginning."""
    found = []
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                text = key.fileobj.read1(1 << 16)  # type: ignore[union-attr]
                if not text:
                    selector.unregister(key.fileobj)
                elif text.strip():
                    found.append((time.monotonic() - began, text))
    return found


def make_images(folder: Path, count: int, pixels: int) -> None:
    """Write smooth random pictures in ten classes, as JPEG."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        image = coarse.resize((pixels, pixels), Image.Resampling.BILINEAR)
        image.save(folder / f"class{number % CLASSES}" / f"{number:06d}.jpg", quality=90)


if __name__ == "__main__":
    main()
