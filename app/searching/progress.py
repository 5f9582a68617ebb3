"""What a running search says: every evaluation, the front after each round, the report card."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from app.progress import Say, Step
from app.records.numbers import format_items
from app.searching.results.report_cards import make_report_cards
from predictors import summarise_card
from predictors.predictor import Fit
from search import Progress, SearchProblem, Strategy


@dataclass
class Narrator:
    """Told about every round of a search; says how it stands.

    Args:
        name: Name of the search.
        problem: What is searched for.
        strategy: Whose predictors are judged once, before the first round that trusts them.
        seed: Seed of the search.
        fit: How its predictors are fitted.
        say: Told the lines.
    """

    name: str
    problem: SearchProblem
    strategy: Strategy
    seed: int
    fit: Fit
    say: Say
    _judged: bool = field(default=False, init=False)
    _count: int = field(default=0, init=False)

    def count_evaluation(self, total: int) -> None:
        """Count an evaluation; of the last one the line of its round says more."""
        self._count += 1
        if self._count < total:
            self.say(Step(f"search {self.name}", self._count, total, "evaluation"))

    def __call__(self, progress: Progress) -> None:
        """Say how the search stands after a round."""
        self.say(f"search {self.name}: {write_progress_line(progress)}")
        if self._judged:
            return
        self.say(Step(f"search {self.name}: judging predictors", passing=True))
        models = self.strategy.models(self.problem, progress.history, self.seed)
        cards = make_report_cards(
            self.problem, progress.history, models, seed=self.seed, fit=self.fit
        )
        for quantity, card in cards.items():
            self._judged = True
            unit = self.problem.quantities[self.problem.column(quantity)].unit
            self.say(f"search {self.name}: {summarise_card(quantity, unit, card)}")


def write_progress_line(progress: Progress) -> str:
    """Write one line: evaluations, failures, the front and the best value of each objective."""
    parts = [f"{progress.done}/{format_items(progress.total, 'evaluation')}"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    parts.append(f"{format_items(len(progress.front), 'point')} on the front")
    if math.isfinite(progress.hypervolume):
        parts.append(f"hypervolume {progress.hypervolume:.4g}")
    parts += [f"best {name} {value:.4g}" for name, value in progress.best.items()]
    return ", ".join(parts)
