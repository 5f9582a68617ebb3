"""Train one elastic supernet and look at what it contains: the largest and smallest network.

Run it: python examples/train_supernet.py --out runs/example
"""

from __future__ import annotations

import argparse
from pathlib import Path

from supernet import checkpoints
from supernet.data import open_data
from supernet.families import ofa_mobilenetv3 as family
from supernet.quality.evaluate import evaluate
from supernet.training import find_recipe, train


def main() -> None:
    """Train on the built-in digits and evaluate both ends of the space."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=Path("runs/example-training"))
    arguments.add_argument("--steps", type=int, default=find_recipe("digits").steps)
    asked = arguments.parse_args()

    data = open_data("digits")
    supernet = family.build(family.configure("tiny", data.shape))
    weights = sum(parameter.numel() for parameter in supernet.parameters())
    print(f"{supernet.space.size:,} subnetworks share {weights:,} weights")

    recipe = find_recipe("digits").resize(asked.steps)
    result = train(supernet, data, recipe, asked.out, progress=print)
    print("checkpoint", checkpoints.read(result.checkpoint.path).digest)

    for architecture in (supernet.space.smallest, supernet.space.largest):
        found = evaluate(supernet, architecture, data, "test")
        print(
            f"{architecture.digest}: {supernet.parameter_count(architecture):,} parameters, "
            f"{found.objective} {found.value:.4f} ({found.low:.3f} to {found.high:.3f})"
        )


if __name__ == "__main__":
    main()
