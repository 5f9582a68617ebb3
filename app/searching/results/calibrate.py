"""Calibrating a front: some of its networks are trained alone, which tells what all would be worth.

Inherited qualities rank networks by what shared weights happen to favour. How far they are off, and
for which kinds of networks, is learned from a few that are trained alone from scratch, by the same
code and recipe as ``supernet audit`` trains them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.progress import Say
from app.records.audit import AuditSettings
from app.records.audit_pieces import AlonePiece, read_pieces
from app.records.numbers import format_items
from app.records.searches.alone import FILE, AloneRecord
from app.records.typed_json.plain import plain
from app.records.typed_json.record_files import append_record, read_log, read_record
from app.runs.alone import state_steps, train_alone
from app.runs.batch_size import check_batch
from app.runs.settings import SETTINGS
from app.runs.trained import Trained, read_recipe
from app.searching.results.alone_quality import (
    Evaluated,
    infer_quality_alone,
    measure_scatter,
)
from app.searching.results.confirm import find_probabilities
from app.searching.results.settled import LEAST_PROBABILITY, Settled, put_in
from predictors.alone import choose_trainings
from search import SearchProblem, pareto_front
from supernet.errors import DivergedError, InputError
from supernet.quality.evaluate import evaluate
from supernet.space import Architecture
from supernet.training import Recipe
from supernet.training.standalone import make_standalone_recipe

Vector = NDArray[np.float64]
Places = NDArray[np.intp]

SPLIT = "val"
# What fewer trainings say cannot be told from luck.
LEAST_TRAININGS = 2


@dataclass(frozen=True)
class AlonePlan:
    """How networks of a search are trained alone.

    Args:
        trained: The run.
        recipe: How, but for the seed.
        count: How many networks.
        seed: Decides, together with each network, its initial weights and batches.
        folder: Of the search.
        title: What the search is called in messages.
    """

    trained: Trained
    recipe: Recipe
    count: int
    seed: int
    folder: Path
    title: str

    @property
    def settings(self) -> str:
        """Hash of everything but the network that decides what comes of a training."""
        run = self.trained.run.record
        precision = run.precision
        content = {
            "recipe": self.recipe.to_json(neutral=False),
            "seed": self.seed,
            "split": SPLIT,
            "data": run.data.fingerprint,
            "family": [run.family, run.family_config],
            "precision": None if precision is None else precision.model_dump(mode="json"),
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_alone_recipe(trained: Trained) -> Recipe:
    """Make the recipe of networks of a run that train alone, for a quarter of its passes.

    Raises:
        InputError: The run has no recipe that one network could be trained by.
    """
    changes = state_steps(trained, {})
    recipe = make_standalone_recipe(read_recipe(trained.run), changes, trained.data.epoch)
    check_batch(recipe, trained.data, trained.supernet)
    return recipe


def calibrate_front(problem: SearchProblem, settled: Settled, plan: AlonePlan, say: Say) -> Settled:
    """Train networks alone, and find the front by what all would be worth alone.

    What was trained is in ``alone.jsonl`` of the search, one line for each network, and is not
    trained again; neither is what an audit of the run has trained likewise. A network whose
    training diverges says nothing.

    Args:
        problem: What was searched for.
        settled: What was found with inherited weights.
        plan: How to train.
        say: Told about progress.

    Returns:
        The search with its front by qualities alone; as it was where too little is known.

    Raises:
        OSError: The disk is full; what is finished is kept.
    """
    if len(settled.qualities) != 1:
        say(f"warning: {plan.title}: too few networks were evaluated to be calibrated")
        return settled
    (quality,) = settled.qualities.values()
    history = settled.result.history
    macs = plan.trained.cost_model.macs(history.positions[quality.rows])
    evaluated = Evaluated(problem, history, quality, np.asarray(macs, dtype=np.float64))
    probability = find_probabilities(problem, history, quality, plan.seed, membership=True)
    places = choose_alone(evaluated, probability, plan.count)
    rows = quality.rows[places]
    records = _train_all(problem.space.decode(history.positions[rows]), plan, say)
    if sum(record.value is not None for record in records) < LEAST_TRAININGS:
        say(
            f"warning: {plan.title}: of {format_items(len(records), 'training')} alone too few "
            "came to an end, so that the front is not calibrated"
        )
        return settled
    alone = infer_quality_alone(evaluated, places, records)
    front = pareto_front(problem, put_in(history, problem, alone.quality))
    probability = find_probabilities(problem, history, alone.quality, plan.seed, membership=True)
    close = np.setdiff1d(np.flatnonzero(probability >= LEAST_PROBABILITY), front.rows)
    return replace(settled, result=replace(settled.result, front=front), close=close, alone=alone)


def choose_alone(evaluated: Evaluated, probability: Vector, count: int) -> Places:
    """Choose which networks of a search are trained alone.

    Candidates are those that may be on the front; where they are too few, the most probable others,
    and after these the best for their costs. Of them those are taken that tell most about all.

    Args:
        evaluated: The networks.
        probability: How probable it is of each row of the history that it belongs on the front.
        count: How many are wanted.

    Returns:
        Ascending places in ``evaluated.quality.rows``; fewer where there are no more networks.
    """
    networks, quality = evaluated.networks, evaluated.quality
    chances = probability[quality.rows]
    sign = 1.0 if networks.maximize else -1.0
    # What is left of the quality after what a straight line says of the cost.
    costs = networks.costs - networks.costs.mean()
    # Networks that differ in number formats alone all cost the same.
    differ = bool(np.ptp(networks.costs))
    slope = float(costs @ networks.estimates) / float(costs @ costs) if differ else 0.0
    ahead = sign * (networks.estimates - slope * costs)
    order = np.lexsort((-ahead, -chances))
    likely = int((chances >= LEAST_PROBABILITY).sum())
    candidates = np.sort(order[: max(likely, count)])
    error = measure_scatter(evaluated)
    return choose_trainings(networks, candidates, min(count, len(candidates)), error)


def _train_all(
    architectures: Sequence[Architecture], plan: AlonePlan, say: Say
) -> list[AloneRecord]:
    path, settings = plan.folder / FILE, plan.settings
    known = {r.digest: r for r in read_log(path, AloneRecord, say) if r.settings == settings}
    audited = _read_audited(plan, say)
    found = []
    for number, architecture in enumerate(architectures, start=1):
        digest = architecture.digest
        if digest not in known:
            title = f"{plan.title}: network {number}/{len(architectures)} alone ({digest})"
            if digest in audited:
                record = _copy_audited(digest, settings, audited[digest])
            else:
                record = _train(architecture, plan, title, say)
            append_record(path, record)
            # Not before: a training that is stopped goes on from its checkpoints.
            shutil.rmtree(_find_folder(plan, digest), ignore_errors=True)
            known[digest] = record
            _tell(title, record, say)
        found.append(known[digest])
    shutil.rmtree(plan.folder / "training", ignore_errors=True)
    return found


def _tell(title: str, record: AloneRecord, say: Say) -> None:
    if record.value is None:
        say(f"warning: {title}: {record.failure}; it is left out")
    else:
        say(f"{title}: {record.objective} {record.value:.4f}")


def _find_folder(plan: AlonePlan, digest: str) -> Path:
    """Where a network trains; what was begun with other settings is no part of it."""
    return plan.folder / "training" / f"{plan.settings}-{digest}"


def _train(architecture: Architecture, plan: AlonePlan, title: str, say: Say) -> AloneRecord:
    folder = _find_folder(plan, architecture.digest)
    began = time.perf_counter()
    try:
        result = train_alone(plan.trained, architecture, plan.recipe, plan.seed, folder, title, say)
    except DivergedError as error:
        return AloneRecord(
            digest=architecture.digest,
            settings=plan.settings,
            objective=plan.trained.quality,
            failure=f"training diverged ({error.found})",
        )
    network, trained = result.supernet, plan.trained
    found = evaluate(
        network, network.space.smallest, trained.data, SPLIT, estimator=trained.estimator
    )
    if not np.isfinite(found.value):
        return AloneRecord(
            digest=architecture.digest,
            settings=plan.settings,
            objective=found.objective,
            failure="its outputs are not finite numbers",
        )
    return AloneRecord(
        digest=architecture.digest,
        settings=plan.settings,
        objective=found.objective,
        value=found.value,
        low=found.low,
        high=found.high,
        samples=found.samples,
        steps=result.steps,
        seconds=round(time.perf_counter() - began, 3),
    )


def _copy_audited(digest: str, settings: str, piece: AlonePiece) -> AloneRecord:
    return AloneRecord(
        digest=digest,
        settings=settings,
        objective=piece.objective,
        value=piece.value,
        low=piece.low,
        high=piece.high,
        samples=piece.samples,
        steps=piece.steps,
        seconds=piece.seconds,
    )


def _read_audited(plan: AlonePlan, say: Say) -> dict[str, AlonePiece]:
    """Networks that finished audits of the run trained with the same recipe and seed."""
    trained = plan.trained
    changed = read_recipe(trained.run).diff(plan.recipe)
    recipe = plain({name: alone for name, (_, alone) in sorted(changed.items())})
    wanted = {
        "seed": plan.seed,
        "split": SPLIT,
        "steps": plan.recipe.total_steps(trained.data.epoch),
        "recipe": recipe,
        "checkpoint": trained.checkpoint.digest,
    }
    found: dict[str, AlonePiece] = {}
    for name in trained.run.audits:
        folder = trained.run.audit(name)
        try:
            settings = read_record(folder / SETTINGS, AuditSettings, "audit again")
        except (InputError, OSError):
            # What is wrong with an audit is said by those who need it.
            continue
        if all(getattr(settings, key) == value for key, value in wanted.items()):
            pieces = read_pieces(folder / "records.jsonl", say).alone
            found |= {piece.name: piece for piece in pieces.values()}
    return found
