"""Networks of an audit trained alone, from fresh weights: the truth that others are held to."""

from __future__ import annotations

import shutil
from pathlib import Path

from app.auditing.work import Work
from app.records.audit_pieces import AlonePiece
from app.runs.alone import train_alone
from app.runs.diverged import explain_part
from supernet.errors import DivergedError
from supernet.space import Architecture
from supernet.training import Recipe


def record_alone(work: Work, recipe: Recipe, number: int, architecture: Architecture) -> None:
    """Train one network from fresh weights, evaluate it, and drop its checkpoints.

    Args:
        work: The audit.
        recipe: How.
        number: Of the network, from 1 on.
        architecture: The network.

    Raises:
        DivergedError: The training diverged.
    """
    folder = work.folder / "training" / architecture.digest
    title = f"audit: network {number}/{work.request.networks} ({architecture.digest})"
    piece = work.once(
        work.pieces.alone,
        f"alone/{architecture.digest}",
        lambda: _train(work, recipe, architecture, folder, title),
    )
    work.say(f"{title}: {piece.objective} {piece.value:.4f} alone")
    shutil.rmtree(folder, ignore_errors=True)


def _train(
    work: Work, recipe: Recipe, architecture: Architecture, folder: Path, title: str
) -> AlonePiece:
    try:
        alone = train_alone(
            work.trained, architecture, recipe, work.request.seed, folder, title, work.say
        )
    except DivergedError as error:
        title = f"network {architecture.digest} alone"
        raise explain_part(error, title, recipe.learning_rate) from error
    numbers = work.evaluate(alone.supernet, alone.supernet.space.smallest)
    return AlonePiece(steps=alone.steps, resumed_from=alone.resumed_from, **numbers)
