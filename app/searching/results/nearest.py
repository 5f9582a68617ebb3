"""Of a search without a front: what came nearest to its limits."""

from __future__ import annotations

import numpy as np

from app.evaluation.log import EvaluationLog
from app.evaluation.scheduler import SPLIT
from app.records.numbers import format_items
from search import History, SearchProblem
from supernet.errors import InputError


def describe_nearest(problem: SearchProblem, history: History, log: EvaluationLog) -> str:
    """What came nearest to the limits, or why nothing did, as half a sentence."""
    usable = np.flatnonzero(~history.failed)
    if not len(usable):
        records = (log.find(a, SPLIT) for a in problem.space.decode(history.positions))
        reasons = {r.failure for r in records if r is not None and r.failure}
        failed = f"all {format_items(len(history), 'evaluation')} failed"
        if len(reasons) == 1:
            return f"{failed}: {reasons.pop().removeprefix(f'{InputError.__name__}: ')}"
        return f"{failed}; the log of the run has the reasons"
    excess = problem.violations(history.values[usable]).max(axis=1)
    row = usable[int(np.argmin(excess))]
    limited = dict.fromkeys(constraint.objective for constraint in problem.constraints)
    values = (f"{name} {history.values[row, problem.column(name)]:.6g}" for name in limited)
    digest = problem.space.decode(history.positions[row][None])[0].digest
    return (
        f"none of {format_items(len(history), 'evaluation')} is within the limits; the nearest has "
        f"{', '.join(values)} ({digest}); loosen the limit or raise --evaluations"
    )
