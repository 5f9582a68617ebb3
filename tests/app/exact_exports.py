"""Which runs' exports prove themselves on this processor."""

from __future__ import annotations

from pathlib import Path

from app.runs.directory import open_run
from app.runs.trained import open_trained
from supernet.export import export
from tests.toys.saturating_processors import pairs_saturate, skip_unless_exact


def skip_unless_smallest_is_exact(run: Path) -> None:
    """Skip if this processor may compute a layer of a run's smallest network wrong."""
    if pairs_saturate():
        trained = open_trained(open_run(run), print)
        supernet = trained.supernet
        exported = export(
            supernet, supernet.space.smallest, trained.data, estimator=trained.estimator
        )
        skip_unless_exact(exported.graph, exported.weights)
