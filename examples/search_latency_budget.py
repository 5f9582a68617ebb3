"""From nothing to the best subnetwork within a latency budget on this machine, as Python calls.

Run it: python examples/search_latency_budget.py --out runs/example --latency-ms 0.2
"""

from __future__ import annotations

import argparse
from pathlib import Path

from app.commands.progress.showing import showing
from app.jobs.export import export_job
from app.jobs.pick import pick_job
from app.jobs.profile import ProfileRequest, profile_job
from app.jobs.search import SearchRequest, search_job
from app.jobs.train import TrainRequest, train_job


def main() -> None:
    """Train, profile, search, pick and export; what is already done is not done again."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=Path("runs/example"))
    arguments.add_argument("--latency-ms", type=float, default=1.0)
    arguments.add_argument("--steps", type=int)
    arguments.add_argument("--evaluations", type=int, default=100)
    arguments.add_argument("--passes", type=int)
    asked = arguments.parse_args()

    # A bar on a terminal; a function of your own is told the same, lines and steps.
    with showing(quiet=False) as say:
        train_job(TrainRequest(out=asked.out, data="digits", steps=asked.steps), say)
        table = profile_job(ProfileRequest(run=asked.out, passes=asked.passes), say)
        search = search_job(
            SearchRequest(
                run=asked.out, latency_ms=asked.latency_ms, evaluations=asked.evaluations
            ),
            say,
        )
        best = pick_job(asked.out, asked.latency_ms)
        exported = export_job(asked.out, best.digest, None, say)
    print(table.verdict)
    print(f"{len(search.front)} verified points after {search.evaluations} evaluations")
    print(
        f"within {asked.latency_ms:g} ms: {best.digest}, measured {best.latency_ms:.4g} ms, "
        f"{best.objective} {best.value:.4f} on val and {best.test:.4f} on test"
    )
    print("exported to", exported.folder)


if __name__ == "__main__":
    main()
