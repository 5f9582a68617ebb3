"""Read the verified front of a run, and open it in the browser.

Run it: python examples/explore.py runs/quickstart
"""

from __future__ import annotations

import argparse
from pathlib import Path

from app.commands.serve_explorer import explore_job, prepare
from app.runs.run_view import load_run


def main() -> None:
    """Print every front of a run; then serve the explorer, unless told not to."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("run", type=Path, nargs="?", default=Path("runs/quickstart"))
    arguments.add_argument("--port", type=int)
    arguments.add_argument("--print-only", action="store_true")
    asked = arguments.parse_args()

    for name, front in load_run(asked.run).fronts.items():
        print(f"search {name} on {front.device}: {front.quality.name} against {front.cost.name}")
        for point in front.list_front():
            quality, cost = (point.estimate(o.name) for o in (front.quality, front.cost))
            print(f"  {point.digest}  {quality.value:.4f}  {cost.value:.4g} {front.cost.unit}")
    if not asked.print_only:
        explore_job(prepare([asked.run], asked.port, headless=False))


if __name__ == "__main__":
    main()
