"""BOSHNAS: gradient descent on a surrogate's input, with an uncertainty that is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.arrays.neighbourhood import unique_rows
from search.arrays.pareto import nondominated
from search.engines.gradient_descent import Relaxation, TeacherStudent, private_generator, train
from search.engines.rounds import fit_models, start_with_initial
from search.engines.surrogates import LEAST_ROWS, fill_round, front_neighbours
from search.history import History
from search.problem import SearchProblem
from search.sampling.first_sample import admissible_sample, initial_rows
from search.strategy import FitPredictor, Strategy

if TYPE_CHECKING:
    from torch import Tensor

SUMMARY = "gradient descent on a surrogate's input (BOSHNAS, Tuli et al. 2022)"
Rows = NDArray[np.int16]
Values = NDArray[np.float64]
_FREE_ROWS = 256
_POOL = 512
# Weight of the plain sum beside the worst objective: ties in the worst are broken by the rest.
_REST = 0.05
_PENALTY = 10.0


@dataclass(frozen=True)
class Boshnas:
    """BOSHNAS of FlexiBERT (Tuli et al. 2022, arXiv 2205.11656, section 3.4) on relaxed choices.

    Departures: the descent moves probabilities of the choices' values instead of an embedding of a
    library of architectures, and ends at the most probable ones instead of the nearest library
    entry; several queries are made per round, each for a random weighting of the objectives (the
    paper has one objective); Adam stands for AdaHessian; the network for aleatoric uncertainty,
    which the paper uses to tune training recipes, is left out.

    Args:
        fit: For the predictors that are reported in the end; ``None`` for none.
        initial: Size of the first sample, spread over the cheap objective.
        batch: Queries per round.
        starts: Points from which the descent starts for each query; as published.
        steps: Steps of the descent.
        step: Their length in logits.
        caution: Standard deviations by which predictions are improved; as published.
        uncertain: Share of queries where the surrogate is least sure; as published.
        diverse: Share of queries far from everything evaluated; as published.
        epochs: Steps of each network's training.
        rate: Learning rate of both networks.
        dropout: Dropout of the teacher. The published 0.3 is for an embedding of few dimensions.
    """

    has_first_sample = True
    batch_size = start_with_initial
    models = fit_models

    fit: FitPredictor | None = None
    initial: int = 30
    batch: int = 25
    starts: int = 10
    steps: int = 60
    step: float = 0.1
    caution: float = 0.5
    uncertain: float = 0.1
    diverse: float = 0.1
    epochs: int = 200
    rate: float = 1e-2
    dropout: float = 0.1

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        if (~history.failed).sum() < LEAST_ROWS:
            return fill_round(problem, history, initial_rows(problem, count, rng), count, rng)
        with private_generator(int(rng.integers(2**31))):
            rows = self._queries(problem, history, count, rng)
        return fill_round(problem, history, rows, count, rng)

    def _queries(
        self, problem: SearchProblem, history: History, count: int, rng: Generator
    ) -> Rows:
        view = _Scaled.of(problem, history)
        relaxation = Relaxation(problem.space)
        pair = self._surrogate(problem, history, view, relaxation, rng)
        unsure = round(self.uncertain * count)
        apart = round(self.diverse * count)
        best = self._descended(
            problem, history, view, relaxation, pair, count - unsure - apart, rng
        )
        pool = history.new(problem.project(admissible_sample(problem, rng, _POOL)))
        pool = pool[problem.admits(pool)]
        if not len(pool):
            return best
        spread = pair.student(relaxation.corners(pool)).sum(1).numpy()
        doubtful = pool[np.argsort(-spread, kind="stable")[:unsure]]
        known = np.concatenate((history.positions, best, doubtful))
        far = _farthest(pool, known, apart)
        near = front_neighbours(problem, history, rng)
        return unique_rows(np.concatenate((best, doubtful, far, near)))

    def _surrogate(
        self,
        problem: SearchProblem,
        history: History,
        view: _Scaled,
        relaxation: Relaxation,
        rng: Generator,
    ) -> TeacherStudent:
        """Both networks; cheap quantities are also learned from rows nobody evaluated."""
        import torch

        rows, values = history.positions, history.values
        if problem.cheap:
            free = admissible_sample(problem, rng, _FREE_ROWS)
            rows = np.concatenate((rows, free))
            values = np.concatenate((values, problem.cheap_values(free)))
        return train(
            relaxation.corners(rows),
            torch.from_numpy(view.scaled(values).astype(np.float32)),
            passes=10,
            epochs=self.epochs,
            dropout=self.dropout,
            rate=self.rate,
        )

    def _descended(
        self,
        problem: SearchProblem,
        history: History,
        view: _Scaled,
        relaxation: Relaxation,
        pair: TeacherStudent,
        count: int,
        rng: Generator,
    ) -> Rows:
        """For each of ``count`` random weightings the best architecture its descents end at."""
        import torch

        shares = rng.dirichlet(np.ones(len(problem.objectives)), size=count)
        weights = np.repeat(shares, self.starts, axis=0)
        begin = self._starts(problem, history, view, shares, rng)
        logits = relaxation.logits(begin, 2.0).requires_grad_(True)
        optimiser = torch.optim.Adam([logits], lr=self.step, fused=True)
        wanted = torch.from_numpy(weights.astype(np.float32))
        ends = []
        for step in range(self.steps):
            optimiser.zero_grad()
            features = relaxation.features(logits)
            predicted, spread = pair.teacher(features), pair.student(features)
            view.acquisition(predicted, spread, wanted, self.caution).sum().backward()
            optimiser.step()
            if (step + 1) % max(self.steps // 2, 1) == 0:
                ends.append(relaxation.rounded(logits))
        rows = problem.project(np.concatenate(ends))
        wanted = wanted.repeat(len(ends), 1)
        query = np.tile(np.repeat(np.arange(count), self.starts), len(ends))
        features = relaxation.corners(rows)
        predicted, spread = pair.teacher(features), pair.student(features)
        exact = view.scaled(problem.cheap_values(rows))
        known = np.isfinite(exact)
        certain = torch.from_numpy(np.nan_to_num(exact).astype(np.float32))
        predicted = torch.where(torch.from_numpy(known), certain, predicted)
        spread = spread.masked_fill(torch.from_numpy(known), 0.0)
        merit = view.acquisition(predicted, spread, wanted, self.caution).numpy()
        merit = np.where(problem.admits(rows), merit, np.inf)
        return _best_of_each(rows, merit, query, history)

    def _starts(
        self,
        problem: SearchProblem,
        history: History,
        view: _Scaled,
        shares: Values,
        rng: Generator,
    ) -> Rows:
        """Half the best evaluated for each weighting, half random; ``(count * starts, d)``."""
        import torch

        usable = np.flatnonzero(~history.failed)
        scaled = torch.from_numpy(view.scaled(history.values[usable]).astype(np.float32))
        begin = []
        random = admissible_sample(problem, rng, len(shares) * self.starts)
        for i, share in enumerate(shares):
            weight = torch.from_numpy(share.astype(np.float32)).expand(len(scaled), -1)
            merit = view.acquisition(scaled, torch.zeros_like(scaled), weight, 0.0).numpy()
            best = usable[np.argsort(merit, kind="stable")[: self.starts // 2]]
            rest = random[i * self.starts : (i + 1) * self.starts - len(best)]
            begin.append(np.concatenate((history.positions[best], rest)))
            while len(begin[-1]) < self.starts:
                begin[-1] = np.concatenate((begin[-1], begin[-1]))[: self.starts]
        return np.concatenate(begin)


@dataclass(frozen=True)
class _Scaled:
    """Quantities with signs turned so that less is better, from 0 to 1 in what is evaluated."""

    problem: SearchProblem
    low: Values
    span: Values
    front_low: Values
    front_span: Values

    @classmethod
    def of(cls, problem: SearchProblem, history: History) -> _Scaled:
        signs = np.array([quantity.sign for quantity in problem.quantities])
        values = history.values[~history.failed] * signs
        low, span = values.min(0), np.ptp(values, axis=0)
        # A margin, because a sigmoid reaches 0 and 1 nowhere and the best is yet to be found.
        low, span = low - 0.15 * span, np.where(span > 0, 1.3 * span, 1.0)
        scaled = (values - low) / span
        objectives = scaled[:, : len(problem.objectives)]
        inside = (problem.violations(history.values[~history.failed]) <= 0).all(axis=1)
        front = objectives[inside] if inside.any() else objectives
        front = front[nondominated(front)]
        range_ = np.ptp(front, axis=0)
        return cls(problem, low, span, front.min(0), np.where(range_ > 0, range_, 1.0))

    def scaled(self, values: Values) -> Values:
        """Values ``(n, quantities)`` on the scale of the networks; NaN stays."""
        signs = np.array([quantity.sign for quantity in self.problem.quantities])
        result: Values = (values * signs - self.low) / self.span
        return result

    def acquisition(
        self, predicted: Tensor, spread: Tensor, weights: Tensor, caution: float
    ) -> Tensor:
        """What the descent makes small, ``(n,)``: weighted worst objective, limits as penalties."""
        import torch

        count = len(self.problem.objectives)
        low = torch.from_numpy(self.front_low.astype(np.float32))
        span = torch.from_numpy(self.front_span.astype(np.float32))
        hopeful = (predicted[:, :count] - caution * spread[:, :count] - low) / span
        weighted = weights * hopeful
        result: Tensor = weighted.amax(1) + _REST * weighted.sum(1)
        for constraint in self.problem.constraints:
            column = self.problem.column(constraint.objective)
            sign = self.problem.quantities[column].sign
            limit = (constraint.limit * sign - float(self.low[column])) / float(self.span[column])
            least = (constraint.at_most is None) == (sign > 0)
            over = limit - predicted[:, column] if least else predicted[:, column] - limit
            result = result + _PENALTY * torch.relu(over)
        return result


def _best_of_each(rows: Rows, merit: Values, query: NDArray[np.intp], history: History) -> Rows:
    """For each query its best row that is new and not another query's."""
    taken = set(history.keys)
    chosen = []
    for number in np.unique(query):
        members = np.flatnonzero(query == number)
        for i in members[np.argsort(merit[members], kind="stable")]:
            if np.isfinite(merit[i]) and rows[i].tobytes() not in taken:
                taken.add(rows[i].tobytes())
                chosen.append(rows[i])
                break
    return np.stack(chosen) if chosen else rows[:0]


def _farthest(pool: Rows, known: Rows, count: int) -> Rows:
    """Greedily the rows of the pool that differ from all known ones in the most choices."""
    if count < 1:
        return pool[:0]
    distance = np.stack([(pool != row).sum(1) for row in known]).min(0)
    chosen = []
    for _ in range(min(count, len(pool))):
        best = int(np.argmax(distance))
        chosen.append(pool[best])
        distance = np.minimum(distance, (pool != pool[best]).sum(1))
    return np.stack(chosen)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` serves the reported predictors only."""
    return Boshnas(fit)
