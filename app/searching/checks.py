"""What is checked before a search spends anything: the space, and that limits can be met."""

from __future__ import annotations

from collections.abc import Mapping

from app.runs.directory import Run
from app.runs.trained import Trained
from search import InfeasibleError, SearchProblem, check_feasible
from search.sampling.feasibility import least_violation
from supernet import files
from supernet.space import Architecture

_MOST_SHOWN = 4


def check_space(run: Run, trained: Trained) -> None:
    """Make sure that the run's space is the one its evaluations were made in.

    Raises:
        ValueError: ``space.json`` or ``evaluations.jsonl`` belongs to another space.
    """
    space = trained.supernet.space
    stored = run.space.digest
    if stored != space.digest:
        raise ValueError(
            f"{run.path / 'space.json'} holds space {stored}, but the network has {space.digest}; "
            "restore the file, or train a new run"
        )
    for record in files.read_records(run.evaluations):
        if not isinstance(record, dict) or record.get("checkpoint") != trained.checkpoint.digest:
            continue
        digest, values = record.get("digest"), record.get("architecture")
        if not isinstance(values, Mapping) or digest is None:
            continue
        if _digest(trained, values) != digest:
            raise ValueError(
                f"{run.evaluations} holds evaluations of another space (architecture {digest} is "
                f"not one of space {space.digest}); move the file away to evaluate anew"
            )


def _digest(trained: Trained, values: Mapping[str, object]) -> str:
    try:
        return trained.supernet.space.architecture(values).digest  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return ""


def require_feasible(problem: SearchProblem) -> None:
    """Make sure that limits on cheap quantities can be met.

    Raises:
        InfeasibleError: They cannot; the nearest architecture is named with its values.
    """
    try:
        check_feasible(problem)
    except InfeasibleError as error:
        row, _ = least_violation(problem)
        nearest = problem.space.decode(row[None])[0]
        values = problem.cheap_values(row[None])[0]
        shown = ", ".join(
            f"{quantity.name} {value:.4g} {quantity.unit}"
            for quantity, value in zip(problem.quantities, values, strict=True)
            if not quantity.expensive
        )
        raise InfeasibleError(
            f"{error}; the nearest architecture is {nearest.digest} "
            f"({short_form(problem, nearest)}) with {shown}",
            error.objective,
            error.nearest,
        ) from None


def short_form(problem: SearchProblem, architecture: Architecture) -> str:
    """An architecture in a few words: how it differs from the smallest one."""
    changes = {
        name: ours for name, (ours, _) in architecture.diff(problem.space.smallest).items()
        if ours is not None
    }  # fmt: skip
    if not changes:
        return "the smallest"
    shown = [f"{name}={value}" for name, value in list(changes.items())[:_MOST_SHOWN]]
    more = len(changes) - len(shown)
    return f"the smallest with {', '.join(shown)}{f' and {more} more' if more else ''}"
