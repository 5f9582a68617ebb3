"""What is checked before a search spends anything: the space, and that limits can be met."""

from __future__ import annotations

from app.progress import Say
from app.records.evaluation import EvaluationRecord
from app.records.typed_json.record import Choices
from app.records.typed_json.record_files import read_log
from app.runs.directory import Run, keep_space
from app.runs.trained import Trained
from search import InfeasibleError, SearchProblem, check_feasible
from search.sampling.feasibility import least_violation
from supernet.errors import InputError
from supernet.space import Architecture

_MOST_SHOWN = 4


def check_space(run: Run, trained: Trained, say: Say) -> None:
    """Make sure that the run's space is the one its evaluations were made in.

    A damaged ``space.json`` is written again: the network was built from ``run.json``, which holds
    the digest of its space.

    Raises:
        InputError: ``evaluations.jsonl`` belongs to another space.
    """
    space = trained.supernet.space
    problem = keep_space(run.path, space)
    if problem:
        say(f"warning: {problem}; it was moved aside and written again")
    # Damaged lines are said when the log is opened.
    for record in read_log(run.evaluations, EvaluationRecord, lambda _: None):
        ours = record.checkpoint == trained.checkpoint.digest
        if ours and _digest(trained, record.architecture) != record.digest:
            raise InputError(
                f"{run.evaluations} holds evaluations of another space (architecture "
                f"{record.digest} is not one of space {space.digest}); move the file away to "
                "evaluate anew"
            )


def _digest(trained: Trained, choices: Choices) -> str:
    try:
        return trained.supernet.space.architecture(choices).digest
    except InputError:
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
            f"({abbreviate(problem, nearest)}) with {shown}",
            error.objective,
            error.nearest,
        ) from None


def abbreviate(problem: SearchProblem, architecture: Architecture) -> str:
    """An architecture in a few words: how it differs from the smallest one."""
    differences = architecture.diff(problem.space.smallest)
    changes = {name: ours for name, (ours, _) in differences.items() if ours is not None}
    if not changes:
        return "the smallest"
    shown = [f"{name}={value}" for name, value in list(changes.items())[:_MOST_SHOWN]]
    more = len(changes) - len(shown)
    return f"the smallest with {', '.join(shown)}{f' and {more} more' if more else ''}"
