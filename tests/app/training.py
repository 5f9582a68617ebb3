"""A run with a tiny trained supernet, without devices or searches."""

from __future__ import annotations

from pathlib import Path

from app.jobs.train import TrainRequest, train_job


def train_run(path: Path, steps: int) -> Path:
    """Train the smallest Once-for-All space on the digits for so many steps."""
    request = TrainRequest(
        out=path, family="ofa_mobilenetv3", preset="tiny", data="digits", seed=0, steps=steps
    )
    train_job(request, lambda _: None)
    return path
