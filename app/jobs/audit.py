"""Auditing as a job: does the ranking by inherited weights hold when networks train alone?"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TypedDict, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from app.auditing.request import AuditRequest, holds_other, plan_audit, plan_training
from app.auditing.summary import summarise
from app.jobs.outcomes import AuditOutcome
from app.progress import Say, Step
from app.records.audit import FILE, AuditRecord, ViolationRecord, read_audit
from app.records.audit_pieces import (
    AlonePiece,
    CurvePiece,
    InheritedPiece,
    NestedPiece,
    Piece,
    ProbePiece,
    read_pieces,
)
from app.records.numbers import format_items
from app.records.typed_json.record_files import append_record, write_record
from app.runs.directory import Run, open_run, writing
from app.runs.diverged import suggest_rate
from app.runs.origin import has_steps
from app.runs.precision import extend
from app.runs.settings import SETTINGS
from app.runs.trained import (
    Trained,
    best_device,
    load_own_family,
    open_trained,
    read_config,
)
from supernet import files
from supernet.errors import DivergedError, InputError
from supernet.precision.steps import MINMAX, calibrate_steps
from supernet.quality import audit
from supernet.quality.evaluate import Evaluation, evaluate
from supernet.space import Architecture, Choice
from supernet.supernet import Supernet
from supernet.training import Progress, Recipe, train
from supernet.training.standalone import make_standalone

CHAIN = 6
_Piece = TypeVar("_Piece", bound=Piece)


def audit_job(request: AuditRequest, say: Say) -> AuditOutcome:
    """Train networks alone, compare, and examine the inherited weights; a killed one continues.

    Args:
        request: What to audit.
        say: Told about progress.

    Raises:
        InputError: The run is not trained, its data is gone, settings are impossible, or the
            name belongs to an audit with other settings.
        DivergedError: A stand-alone training diverged.
        OSError: The disk is full; what is finished is kept.
    """
    run = open_run(request.run, request.trust)
    trained = open_trained(run, say, request.data)
    folder = run.audit(request.name)
    recipe = plan_training(request, trained)
    plan = plan_audit(request, trained, recipe)
    other = holds_other(folder, plan, replace=request.replace)
    if not other and (folder / FILE).exists():
        # What is only read needs no lock, and may lie on a read-only disk.
        say(f"audit {request.name}: already complete")
        found = read_audit(folder)
        if found.settings != plan:
            raise InputError(
                f"{folder / FILE} is of other settings than {folder / SETTINGS}: one of them was "
                "damaged or edited; restore it, or audit again with --replace"
            )
        return AuditOutcome(run.path, request.name, folder, True, found)
    architectures = _networks(request, trained)
    run.check_links(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.explain(error, folder) from error
    with writing(folder):
        if holds_other(folder, plan, replace=request.replace):
            _clear(folder)
        write_record(folder / SETTINGS, plan)
        task = _Audit(request, trained, recipe, folder, say)
        task.examine(architectures)
        for number, architecture in enumerate(architectures, start=1):
            task.train_alone(number, architecture)
        found = summarise(task.pieces, plan, trained)
        files.write_text(folder / "scatter.svg", _draw(found, run.path.resolve().name))
        # Last, because it says that everything else is there.
        write_record(folder / FILE, found)
        shutil.rmtree(folder / "training", ignore_errors=True)
    return AuditOutcome(run.path, request.name, folder, False, found)


def _draw(found: AuditRecord, name: str) -> str:
    # Loading Altair takes a second, which a command that draws nothing should not wait for.
    from app.reporting.charts.audit_chart import draw_audit
    from app.reporting.charts.svg import render_svg

    tau = found.kendall_tau.value
    shown = "undefined" if tau is None else f"{tau:.2f}"
    networks = format_items(len(found.networks), "network")
    return render_svg(
        draw_audit(found),
        f"{name}: Kendall tau {shown} over {networks} ({found.split})",
        subtitle="lines: 95 % intervals; dashed: equally good",
        width=560,
        height=480,
    )


class _Audit:
    """The work of one audit: each finished piece is a line of ``records.jsonl``, made once."""

    def __init__(
        self, request: AuditRequest, trained: Trained, recipe: Recipe, folder: Path, say: Say
    ) -> None:
        self.request, self.trained, self.recipe = request, trained, recipe
        self.folder, self.say = folder, say
        self.path = folder / "records.jsonl"
        self._ends: dict[Architecture, NDArray[np.float64]] = {}
        self.pieces = read_pieces(self.path, say)

    def once(self, known: dict[str, _Piece], key: str, make: Callable[[], _Piece]) -> _Piece:
        """The piece of a key, made and stored now if there is none."""
        if key not in known:
            began = time.perf_counter()
            piece = make()
            seconds = round(time.perf_counter() - began, 3)
            piece = piece.replace(key=key, seconds=seconds)
            append_record(self.path, piece)
            known[key] = piece
        return known[key]

    def examine(self, architectures: list[Architecture]) -> None:
        """Everything that inherited weights alone can tell."""
        for number, architecture in enumerate(architectures, start=1):
            self.once(
                self.pieces.inherited,
                f"inherited/{architecture.digest}",
                partial(self._inherited, architecture),
            )
            self._count("evaluating inherited weights", number, len(architectures), "network")
        if not self.request.probes:
            return
        self._examine_nested()
        self._probe_choices()
        ends = (architectures[0], architectures[-1])
        for number, architecture in enumerate(ends, start=1):
            self.once(
                self.pieces.curves,
                f"curve/{architecture.digest}",
                partial(self._curve, architecture),
            )
            self._count("examining recalibration", number, len(ends), "network")

    def _count(self, what: str, done: int, total: int, unit: str) -> None:
        self.say(Step(f"audit: {what}", done, total, unit))

    def _examine_nested(self) -> None:
        supernet, known = self.trained.supernet, self.pieces.nested
        for number in range(self.request.probes):
            self.once(known, f"chain/{number}", partial(self._chain, number))
            self._count("examining nested networks", number + 1, self.request.probes, "chain")
        unordered = audit.find_unordered_choices(supernet)
        ordered = [c.name for c in _real_choices(supernet) if c.name not in unordered]
        for number, name in enumerate(ordered, start=1):
            self.once(known, f"corner/{name}", partial(self._corner, name))
            self._count("examining both ends", number, len(ordered), "choice")

    def _probe_choices(self) -> None:
        choices = _real_choices(self.trained.supernet)
        for done, choice in enumerate(choices, start=1):
            for number in range(self.request.probes):
                key = f"probe/{choice.name}/{number}"
                self.once(self.pieces.probes, key, partial(self._probe, choice.name, number))
            self._count("probing effects", done, len(choices), "choice")

    def _inherited(self, architecture: Architecture) -> InheritedPiece:
        trained = self.trained
        found = evaluate(
            trained.supernet,
            architecture,
            trained.data,
            self.request.split,
            estimator=trained.estimator,
        )
        return InheritedPiece(architecture=architecture.to_dict(), **_numbers(found))

    def _chain(self, number: int) -> NestedPiece:
        rng = np.random.default_rng([self.request.seed, 1, number])
        supernet = self.trained.supernet
        return self._nested(
            audit.draw_chain(supernet.space, rng, CHAIN, audit.find_unordered_choices(supernet))
        )

    def _corner(self, name: str) -> NestedPiece:
        first, second = (
            self._nested(pair) for pair in audit.pair_corners(self.trained.supernet.space, name)
        )
        return NestedPiece(
            values=first.values + second.values,
            pairs=first.pairs + second.pairs,
            violations=first.violations + second.violations,
        )

    def _nested(self, members: Sequence[Architecture]) -> NestedPiece:
        qualities = [self._quality(member) for member in members]
        groups = self.trained.data.split(self.request.split).groups
        pairs, found = audit.find_violations(members, qualities, groups)
        return NestedPiece(
            values=tuple(float(q.mean()) for q in qualities),
            pairs=pairs,
            violations=tuple(
                ViolationRecord(
                    smaller=v.smaller.to_dict(),
                    larger=v.larger.to_dict(),
                    drop=v.drop,
                    error=v.error,
                )
                for v in found
            ),
        )

    def _quality(self, architecture: Architecture) -> NDArray[np.float64]:
        """Quality of each sample; the two ends of the space are asked for again and again."""
        known = self._ends.get(architecture)
        if known is None:
            trained = self.trained
            known = audit.measure_quality(
                trained.supernet, architecture, trained.data, self.request.split
            )
            if architecture in (trained.supernet.space.smallest, trained.supernet.space.largest):
                self._ends[architecture] = known
        return known

    def _probe(self, name: str, number: int) -> ProbePiece:
        trained = self.trained
        space = trained.supernet.space
        rng = np.random.default_rng([self.request.seed, 2, space.index(name), number])
        pair = audit.draw_pair(space, name, rng)
        found = audit.measure_effect(trained.supernet, name, pair, trained.data, self.request.split)
        return ProbePiece(
            choice=name,
            lower=found.lower.to_dict(),
            higher=found.higher.to_dict(),
            change=found.change,
            output_change=found.output_change,
            identical=found.identical,
        )

    def _curve(self, architecture: Architecture) -> CurvePiece:
        trained = self.trained
        split = self.request.split
        curve = audit.measure_recalibration(trained.supernet, architecture, trained.data, split)
        if curve is None:
            return CurvePiece(batches=())
        return CurvePiece(
            batches=curve.batches,
            batch_size=curve.batch_size,
            values=curve.values,
            settled=curve.settled,
        )

    def train_alone(self, number: int, architecture: Architecture) -> None:
        """Train one network from fresh weights, evaluate it, and drop its checkpoints."""
        folder = self.folder / "training" / architecture.digest
        title = f"audit: network {number}/{self.request.networks} ({architecture.digest})"
        piece = self.once(
            self.pieces.alone,
            f"alone/{architecture.digest}",
            lambda: self._alone(architecture, folder, title),
        )
        self.say(f"{title}: {piece.objective} {piece.value:.4f} alone")
        shutil.rmtree(folder, ignore_errors=True)

    def _alone(self, architecture: Architecture, folder: Path, title: str) -> AlonePiece:
        trained = self.trained
        sequence = np.random.SeedSequence([self.request.seed, int(architecture.digest, 16)])
        seed = int(sequence.generate_state(1)[0])
        fresh = extend(fresh_supernet(trained.run, seed), trained.run.record.precision)
        if has_steps(fresh):
            calibrate_steps(fresh, trained.data, seed)
        alone = make_standalone(fresh, architecture).to(best_device())
        recipe = self.recipe.replace({"seed": seed})
        if trained.run.record.precision is not None and not has_steps(alone):
            # There are none where weights were trained in float.
            recipe = recipe.replace({"quantizer": MINMAX})
        try:
            result = train(
                alone,
                trained.data,
                recipe,
                folder,
                progress=lambda p: self.say(_describe(title, p)),
                stepped=lambda step, steps: self.say(Step(title, step, steps, passing=True)),
            )
        except DivergedError as error:
            rate = recipe.learning_rate
            raise DivergedError(
                f"network {architecture.digest} alone: {error.found}",
                f"add --replace --recipe-part learning_rate={suggest_rate(rate)} to train with "
                f"less than {rate:g}, or --replace --recipe-part clip_norm=1",
            ) from error
        for note in result.notes:
            self.say(f"warning: {title}: {note}")
        only = alone.space.smallest
        found = evaluate(alone, only, trained.data, self.request.split)
        return AlonePiece(steps=result.steps, resumed_from=result.resumed_from, **_numbers(found))


def fresh_supernet(run: Run, seed: int) -> Supernet:
    """The supernet of a run with other initial weights, on the processor.

    Args:
        run: The run whose family and configuration they have.
        seed: Seed of the weights.
    """
    family = load_own_family(run)
    config = read_config(run, family)
    if "seed" in {field.name for field in fields(config)}:
        config = replace(config, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cast(Supernet, family.build(config))


def _networks(request: AuditRequest, trained: Trained) -> list[Architecture]:
    rng = np.random.default_rng([request.seed, 0])
    space = trained.supernet.space
    return audit.sample_across_costs(space, trained.cost_model.macs, request.networks, rng)


def _clear(folder: Path) -> None:
    # The result goes first: a folder without it is an audit that has not finished.
    for name in (FILE, "records.jsonl", "scatter.svg"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "training", ignore_errors=True)


class _Numbers(TypedDict):
    """What is written of an evaluation."""

    objective: str
    unit: str
    value: float
    low: float
    high: float
    samples: int


def _numbers(found: Evaluation) -> _Numbers:
    return {
        "objective": found.objective,
        "unit": found.unit,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "samples": found.samples,
    }


def _real_choices(supernet: Supernet) -> list[Choice]:
    return [choice for choice in supernet.space.choices if len(choice.values) > 1]


def _describe(title: str, progress: Progress) -> Step:
    loss = progress.loss_largest
    shown = "" if loss is None else f"loss {loss:.3f}"
    return Step(title, progress.step, progress.steps, figures=shown, passing=True)
