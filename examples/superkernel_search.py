"""One differentiable search against the latency table of a run (Single-Path NAS).

The run holds a supernet of the family ``superkernel`` and a profiled device:

    supernet train --data digits --family superkernel --out runs/kernels
    supernet profile --run runs/kernels
    python examples/superkernel_search.py --run runs/kernels --strength 1
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from app.runs.directory import open_run
from app.runs.latency_table import open_table
from app.runs.trained import open_trained
from hardware.compiled_table import CompiledTable
from supernet.costs.cost_model import CostModel
from supernet.families import superkernel
from supernet.training import find_recipe
from supernet.training.single_path import (
    Pressure,
    SinglePathSearch,
    UnitTable,
    search_single_path,
)


def tables_of(cost_model: CostModel, compiled: CompiledTable) -> list[UnitTable]:
    """A latency table as the search wants it: milliseconds per unit, and the fixed part."""
    tables = [UnitTable((), np.array(compiled.fixed_ms))]
    for unit, values in zip(cost_model.units, compiled.tables, strict=True):
        shape = tuple(len(cost_model.space.choice(name).values) for name in unit.choices)
        tables.append(UnitTable(unit.choices, values.reshape(shape)))
    return tables


def main() -> None:
    """Search from fresh weights and print what came out."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--run", type=Path, required=True)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--strength", type=float, default=1.0, help="weight of log(latency)")
    arguments.add_argument("--steps", type=int, default=400)
    asked = arguments.parse_args()

    def say(line: object) -> None:
        print(line, file=sys.stderr)

    run = open_run(asked.run)
    trained = open_trained(run, say)
    cost_model = trained.cost_model
    compiled = open_table(run, asked.device, cost_model, say).compiled
    # The weights of the run are not used: kernels and thresholds are learnt together.
    config = superkernel.configure(superkernel.DEFAULT_PRESET, trained.shape)
    supernet = superkernel.build(config)
    if supernet.space.digest != cost_model.space.digest:
        raise SystemExit(f"{asked.run} holds another space than the preset of this example")
    found = search_single_path(
        SinglePathSearch(
            supernet, superkernel.list_superkernels(config), tables_of(cost_model, compiled)
        ),
        trained.data,
        find_recipe("digits+sgd").resize(asked.steps),
        Pressure(strength=asked.strength, warmup_steps=asked.steps // 4),
    )
    largest = compiled.predict(supernet.space.encode([supernet.space.largest]))[0]
    print(
        json.dumps(
            {
                "architecture": found.architecture.to_dict(),
                "latency_ms": round(found.cost, 5),
                "largest_latency_ms": round(float(largest), 5),
                "loss": round(found.history[-1]["loss"], 4),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
