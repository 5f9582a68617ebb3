"""What a few stand-alone trainings, costs and a posterior add to a ranking by inherited weights.

    python benchmarks/truth.py --recipes clutter,spos+sgd --keep FOLDER
    python benchmarks/calibration.py --recipes clutter,spos+sgd --keep FOLDER --markdown

Everything that was trained is taken from the FOLDER of ``truth.py``, whose options this takes, too.
Of each supernet, networks are calibrated by ``--counts`` of them: one training alone of each, with
each of the truth's seeds in turn, ``--draws`` times among other three quarters of the networks.
Then all networks are ranked, and one is picked within each of several budgets of MACs.

``tau`` is that of all networks with the mean truth, ``unseen`` that of the networks that no
training alone was used of, ``top`` that within the best quarter by the truth. ``regret`` is how far
the picked networks lie below the best within their budgets, by the mean truth, and ``error`` the
root mean square error of unseen networks, both in points; ``covered`` is the share of unseen
networks of which an accuracy after one training lies within its 90 % interval. Beside means over
supernets, seeds and draws stand standard deviations over them. The truth has an error of its own:
what all networks reach that are ranked by one training each is the row ``all trained``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import truth as laboratory
from _truth_statistics import lengthen, round_all

from app.searching.results.evidence import Scored, gather_evidence
from predictors.alone import Alone, Networks, Trainings, choose_trainings, infer_alone
from predictors.posterior import infer_posterior
from predictors.scores import kendall_tau
from supernet.errors import InputError
from supernet.quality.sampling_error import compute_standard_error
from supernet.space import SearchSpace

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

BUDGETS = 8
SHARE = 0.75
Z90 = 1.6448536269514722
PENALTIES = (0.01, 0.1, 1.0, 10.0)
FIGURES = ("tau", "unseen", "top", "regret", "error", "covered")
HEADER = ("recipe", "ranked by", "trained", "tau", "unseen", "top quarter", "regret", "error",
          "covered")  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """Networks, and what they are worth alone.

    Args:
        space: Theirs.
        positions: ``(n, len(space))``.
        macs: ``(n,)``.
        right: Right answers ``(n, seeds, samples)``.
        groups: Bases of the samples, ``(samples,)``.
    """

    space: SearchSpace
    positions: NDArray[np.int16]
    macs: Floats
    right: NDArray[np.bool_]
    groups: NDArray[np.int64]

    @property
    def of_seeds(self) -> Floats:
        """Accuracies ``(n, seeds)``."""
        return self.right.mean(axis=2)

    @property
    def mean(self) -> Floats:
        """Accuracies ``(n,)``, all seeds together."""
        return self.right.mean(axis=(1, 2))


@dataclass(frozen=True)
class Guess:
    """What a method says of all networks.

    Args:
        scores: What ranks them, ``(n,)``.
        accuracy: What it predicts, ``(n,)``; ``None`` for scores that are no accuracies.
        low: Lower ends of 90 % intervals of an accuracy after one training, ``(n,)``.
        high: Upper ends.
    """

    scores: Floats
    accuracy: Floats | None = None
    low: Floats | None = None
    high: Floats | None = None


@dataclass(frozen=True)
class Case:
    """One supernet, and networks trained alone beside it.

    Args:
        truth: Of all networks.
        inherited: Right answers with inherited weights, ``(n, samples)``.
        rows: Networks that were trained alone, ascending.
        seed: With which seed.
    """

    truth: Truth
    inherited: NDArray[np.bool_]
    rows: Places
    seed: int

    @property
    def estimates(self) -> Floats:
        """Logits of inherited accuracies, ``(n,)``."""
        return _logit(self.inherited.mean(axis=1), self.inherited.shape[1])

    @property
    def networks(self) -> Networks:
        """As the model is given them."""
        truth = self.truth
        costs = np.log(truth.macs)
        return Networks(truth.space, truth.positions, self.estimates, costs, maximize=True)

    @property
    def trained(self) -> Trainings:
        """The trainings alone, as the model is given them."""
        right = self.truth.right[self.rows, self.seed]
        groups = torch.from_numpy(self.truth.groups)
        shares = right.mean(axis=1)
        errors = np.array([compute_standard_error(row.astype(float), groups) for row in right])
        values = _logit(shares, right.shape[1])
        return Trainings(self.rows, values, np.maximum(errors, 1e-6) / (shares * (1 - shares)))


Method = Callable[[Case], Guess]


def _logit(shares: Floats, samples: int) -> Floats:
    found: Floats = logit(np.clip(shares, 0.5 / samples, 1 - 0.5 / samples))
    return found


def rank_inherited(case: Case) -> Guess:
    """Rank by inherited accuracy."""
    accuracy = case.inherited.mean(axis=1)
    return Guess(accuracy, accuracy)


def rank_costs(case: Case) -> Guess:
    """Rank by MACs."""
    return Guess(case.truth.macs)


def rank_posterior(case: Case) -> Guess:
    """Rank by the posterior of all inherited accuracies, with costs as a statistic."""
    truth = case.truth
    scored = [
        Scored.from_scores([row.astype(float)], [truth.groups], answers=True)
        for row in case.inherited
    ]
    evidence = gather_evidence(scored, 0)
    logs = dict(zip(map(tuple, truth.positions.tolist()), np.log(truth.macs), strict=True))
    found = infer_posterior(
        truth.space,
        truth.positions,
        evidence.values,
        evidence.own,
        maximize=True,
        seed=0,
        statistics=lambda rows: np.array([[logs[tuple(row)]] for row in rows.tolist()]),
    )
    return Guess(found.mean, found.mean)


def _fit_ridge(features: Floats, case: Case) -> Guess:
    """Fit a ridge regression of logits whose penalty has the least leave-one-out error."""
    trained = case.trained
    mine, level = features[trained.rows], trained.values.mean()
    centre = mine.mean(axis=0)
    best: tuple[float, Floats] = (np.inf, np.zeros(features.shape[1]))
    for penalty in PENALTIES:
        x, y = mine - centre, trained.values - level
        inverse = np.linalg.inv(x.T @ x + penalty * np.eye(x.shape[1]))
        hat = np.diag(x @ inverse @ x.T) + 1 / len(x)
        slopes = inverse @ x.T @ y
        error = float((((y - x @ slopes) / np.maximum(1 - hat, 1e-6)) ** 2).mean())
        best = min(best, (error, slopes), key=lambda one: one[0])
    scores = (features - centre) @ best[1] + level
    return Guess(scores, expit(scores))


def regress_inherited(case: Case) -> Guess:
    """Regress what was trained on inherited accuracy and MACs."""
    return _fit_ridge(case.networks.linear[:, :2], case)


def regress_kinds(case: Case) -> Guess:
    """Regress it on the mean size of each kind of choice, too."""
    return _fit_ridge(case.networks.linear, case)


def _state(found: Alone) -> Guess:
    mean, deviation = found.posterior.mean, np.hypot(found.posterior.deviation, found.luck)
    return Guess(mean, expit(mean), expit(mean - Z90 * deviation), expit(mean + Z90 * deviation))


def _add_sampling(case: Case, found: Alone) -> Alone:
    """Add to the luck of a training that of the samples it answers, by the trained networks."""
    errors = case.trained.errors
    sampling = float(np.sqrt((errors**2).mean())) if len(errors) else 0.0
    return Alone(found.posterior, float(np.hypot(found.luck, sampling)))


def calibrate(case: Case) -> Guess:
    """Infer by the model of ``supernet search --calibrate-alone``."""
    return _state(_add_sampling(case, infer_alone(case.networks, case.trained)))


def calibrate_costs(case: Case) -> Guess:
    """Infer by the same model, with MACs in place of what is inherited."""
    networks = case.networks
    costs = (networks.costs - networks.costs.mean()) / networks.costs.std()
    blind = Networks(
        networks.space,
        networks.positions,
        costs * networks.scale + networks.level,
        networks.costs,
        maximize=True,
    )
    return _state(_add_sampling(case, infer_alone(blind, case.trained)))


def rank_trained(case: Case) -> Guess:
    """Rank by one training of every network."""
    accuracy = case.truth.of_seeds[:, case.seed]
    return Guess(accuracy, accuracy)


FREE: Mapping[str, Method] = {
    "inherited": rank_inherited,
    "costs": rank_costs,
    "posterior": rank_posterior,
    "inherited and costs": calibrate,
}
CALIBRATED: Mapping[str, Method] = {
    "ridge on inherited, costs": regress_inherited,
    "ridge on these and kinds of choice": regress_kinds,
    "the model without inherited": calibrate_costs,
    "the model": calibrate,
}


def choose_spread(case: Case, count: int, rng: np.random.Generator) -> Places:
    """Draw one network from each of ``count`` equal parts of all by MACs."""
    parts = np.array_split(np.argsort(case.truth.macs, kind="stable"), count)
    return np.sort(np.array([rng.choice(part) for part in parts], dtype=np.intp))


def choose_by_model(case: Case, count: int, rng: np.random.Generator) -> Places:
    """Choose as a search does, among some of the networks drawn anew."""
    total = len(case.truth.macs)
    drawn = np.sort(rng.choice(total, max(count, round(SHARE * total)), replace=False))
    mean = float(case.inherited.mean())
    error = np.sqrt(1 / (case.inherited.shape[1] * mean * (1 - mean)))
    return choose_trainings(case.networks, drawn.astype(np.intp), count, float(error))


def measure(case: Case, guess: Guess) -> dict[str, float]:
    """Compare what a method says with the truth; NaN for what it does not say."""
    true, scores = case.truth.mean, guess.scores
    unseen = np.setdiff1d(np.arange(len(true)), case.rows)
    top = np.argsort(-true, kind="stable")[: -(-len(true) // 4)]
    found = {
        "tau": kendall_tau(scores, true),
        "unseen": kendall_tau(scores[unseen], true[unseen]) if len(unseen) else np.nan,
        "top": kendall_tau(scores[top], true[top]),
        "regret": 100 * measure_regret(case.truth, scores),
        "error": np.nan,
        "covered": np.nan,
    }
    if guess.accuracy is not None and len(unseen):
        off = guess.accuracy[unseen] - true[unseen]
        found["error"] = 100 * float(np.sqrt((off**2).mean()))
    if guess.low is not None and guess.high is not None and len(case.rows):
        single = case.truth.of_seeds[unseen]
        inside = (guess.low[unseen, None] <= single) & (single <= guess.high[unseen, None])
        found["covered"] = float(inside.mean())
    return found


def measure_regret(truth: Truth, scores: Floats) -> float:
    """How far picks within budgets of MACs lie below the best there, on average."""
    true, lost = truth.mean, []
    for budget in np.quantile(truth.macs, np.linspace(1 / BUDGETS, 1, BUDGETS)):
        within = np.flatnonzero(truth.macs <= budget)
        lost.append(true[within].max() - true[within[np.argmax(scores[within])]])
    return float(np.mean(lost))


def compare(
    truth: Truth, supernets: NDArray[np.bool_], counts: Sequence[int], draws: int
) -> list[dict[str, Any]]:
    """Compare all methods over the supernets of one recipe.

    Args:
        truth: Of all networks.
        supernets: Right answers with inherited weights, ``(supernets, n, samples)``.
        counts: How many networks are trained alone.
        draws: How often networks to choose from are drawn.

    Returns:
        A row for each method and count.
    """
    rows: dict[tuple[str, int], list[dict[str, float]]] = {}
    none = np.zeros(0, dtype=np.intp)

    def add(name: str, method: Method, case: Case) -> None:
        rows.setdefault((name, len(case.rows)), []).append(measure(case, method(case)))

    for number, inherited in enumerate(supernets):
        bare = Case(truth, inherited, none, 0)
        for name, method in FREE.items():
            add(name, method, bare)
        for seed in range(truth.right.shape[1]):
            for count in counts:
                for draw in range(draws):
                    # The same networks with every recipe and seed of the truth.
                    rng = np.random.default_rng([number, count, draw])
                    chosen = Case(truth, inherited, choose_by_model(bare, count, rng), seed)
                    for name, method in CALIBRATED.items():
                        add(name, method, chosen)
                    spread = Case(truth, inherited, choose_spread(bare, count, rng), seed)
                    add("the model, spread over MACs", calibrate, spread)
            everything = Case(truth, inherited, np.arange(len(truth.macs)), seed)
            add("all trained", rank_trained, everything)
    return [
        {"ranked_by": name, "trained": count, **_summarise(found)}
        for (name, count), found in rows.items()
    ]


def _summarise(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    summary: dict[str, float] = {}
    for name in FIGURES:
        values = np.array([one[name] for one in found])
        summary[name] = float(values.mean())
        summary[f"{name}_sd"] = float(values.std())
    return summary


def read_truth(options: argparse.Namespace) -> tuple[Truth, dict[str, NDArray[np.bool_]]]:
    """Read networks alone, and by recipe supernets, from what ``truth.py`` kept.

    Raises:
        InputError: Something is not there.
    """
    plan = laboratory.make_plan(options.task, options)
    kept = laboratory.Kept(options.keep)
    missing = laboratory.list_missing(plan, kept)
    if missing:
        raise InputError(
            f"{options.keep} lacks {len(missing)} trainings, the first of them {missing[0]}; make "
            "them with the same options of benchmarks/truth.py"
        )
    split = options.task.open().split(options.task.split)
    answers = np.concatenate([kept.take(one).unpack(one.networks) for one in plan.alone])
    right = answers.reshape(len(plan.macs), -1, len(split))
    groups = torch.arange(len(split)) if split.groups is None else split.groups
    space = options.task.build(0).space
    rows = np.array([one.rows[0] for one in plan.alone[:: right.shape[1]]], dtype=np.int16)
    truth = Truth(space, rows, np.array(plan.macs), right, groups.numpy())
    supernets = {}
    for (name, _), trainings in plan.supernets.items():
        records = [(kept.take(one), one.networks) for one in trainings]
        found = [record.unpack(names) for record, names in records if not record.diverged]
        if found:
            supernets[name] = np.array(found)
    return truth, supernets


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line: its own options, and those of ``truth.py``."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="All options of benchmarks/truth.py are taken, too.",
    )
    parser.add_argument(
        "--counts", type=laboratory.read_counts, default=(4, 8, 16), help="of networks trained"
    )
    parser.add_argument("--draws", type=laboratory.read_count, default=5, help="of networks")
    own, others = parser.parse_known_args(arguments)
    options = laboratory.read_arguments(others)
    options.counts, options.draws = own.counts, own.draws
    if max(options.counts) > options.networks:
        parser.error(f"--counts must be at most the {options.networks} networks there are")
    return options


def write_table(found: Mapping[str, Any]) -> str:
    """Write the comparison as a Markdown table, and a line on the truth itself."""
    lines = [_join(HEADER), _join(["---"] * len(HEADER))]
    for row in found["rows"]:
        shown = {
            name: "" if row[name] is None else f"{row[name]:.2f} ± {row[f'{name}_sd']:.2f}"
            for name in FIGURES
        }
        cells = (f"`{row['recipe']}`", row["ranked_by"], str(row["trained"]), *shown.values())
        lines.append(_join(cells))
    repeated = found["truth"]
    about = (
        f"{found['networks']} networks. The truth repeats itself with tau {repeated['one']:.2f} "
        f"between single trainings and {repeated['mean']:.2f} between means of as many as there "
        f"are; exact accuracies would have {repeated['ceiling']:.2f} with the mean (estimates)."
    )
    return "\n".join([*lines, "", about])


def _join(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and print."""
    options = read_arguments(arguments)
    try:
        truth, supernets = read_truth(options)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = [
        {"recipe": name, **row}
        for name, answers in supernets.items()
        for row in compare(truth, answers, options.counts, options.draws)
    ]
    single = kendall_tau(*truth.of_seeds[:, :2].T) if truth.right.shape[1] > 1 else np.nan
    mean, ceiling = lengthen(single, truth.right.shape[1])
    found = round_all(
        {
            "networks": len(truth.macs),
            "truth": {"one": single, "mean": mean, "ceiling": ceiling},
            "rows": rows,
        }
    )
    print(write_table(found) if options.markdown else json.dumps(found, allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
