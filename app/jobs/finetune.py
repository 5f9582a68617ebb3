"""Fine-tuning as a job: one subnetwork trains on from inherited weights, alone, and is exported."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.evaluation.log import find_architecture
from app.jobs.export_files import OURS, prove, write_export
from app.jobs.outcomes import FinetuneOutcome
from app.progress import Say, Step
from app.records.audit import QualityRecord
from app.records.evaluation import CalibrationRecord, EvaluationRecord
from app.records.finetune import (
    FILE,
    FinetuneRecord,
    FinetuneSettings,
    TuningRecord,
    read_finetune,
)
from app.records.typed_json.plain import plain
from app.records.typed_json.record_files import write_record
from app.records.vocabulary import FILE as VOCABULARY
from app.runs.alone import describe_progress, state_steps
from app.runs.batch_size import check_batch
from app.runs.directory import now, open_run, writing
from app.runs.diverged import explain_part
from app.runs.origin import has_steps
from app.runs.recipe_parts import read_parts
from app.runs.settings import SETTINGS, check_stored, holds_other
from app.runs.teacher import make_teacher
from app.runs.trained import Trained, open_trained, read_recipe
from supernet import files
from supernet.errors import DivergedError, InputError
from supernet.export import DECODER, export
from supernet.precision.steps import MINMAX
from supernet.quality.evaluate import CALIBRATION_SAMPLES, evaluate_scored
from supernet.quality.sampling_error import Z_TWO_SIDED_95, compute_standard_error
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import Recipe, TrainResult, train
from supernet.training.standalone import make_finetuning_recipe, make_standalone

EXPORT, CHECKPOINTS, METRICS = "export", "checkpoints", "metrics.jsonl"
# What is compared: the network was chosen on the first, and nothing was on the second.
_SPLITS = ("val", "test")
# Fields of a recipe that settings have a place of their own for.
_STATED = ("epochs", "seed", "steps")
_REMEDY = "restore it, or fine-tune again with --replace"


@dataclass(frozen=True, kw_only=True)
class FinetuneRequest:
    """What to fine-tune.

    Args:
        run: The run directory.
        architecture: Digest, ``smallest``, ``largest`` or a JSON file.
        steps: How long; by default for a quarter of the supernet's passes.
        recipe_part: Other settings of the training, ``"name=value,name=value"``.
        teacher: Whether the largest network of the supernet teaches, beside the labels.
        seed: Decides batches and augmentation.
        name: What the fine-tuning is called; by default the digest of the architecture.
        replace: Fine-tune anew where another fine-tuning has this name.
        data: Where the data of the run are now, if they moved; recorded in the run.
        trust: Dotted paths of the user's own modules that files of the run may name.
    """

    run: Path
    architecture: str
    steps: int | None = None
    recipe_part: str = ""
    teacher: bool = True
    seed: int = 0
    name: str | None = None
    replace: bool = False
    data: str | None = None
    trust: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps = {self.steps} is impossible; it must be at least 1")
        if self.seed < 0:
            raise InputError(f"seed = {self.seed} is impossible; it must be at least 0")
        if self.name is not None:
            files.check_new_name("fine-tuning", self.name)


def finetune_job(request: FinetuneRequest, say: Say) -> FinetuneOutcome:
    """Train a subnetwork on from its inherited weights and export it; a killed one continues.

    Its largest network teaches with the weights of the supernet, which are not touched.

    Args:
        request: What to fine-tune.
        say: Told about progress.

    Raises:
        InputError: Unknown architecture, the run is not trained, its data is gone, settings are
            impossible, or the name belongs to a fine-tuning with other settings.
        DivergedError: The loss became infinite or not a number.
        RuntimeError: ONNX Runtime and torch disagree on the result; it is not exported.
        OSError: The disk is full; earlier checkpoints are intact.
    """
    run = open_run(request.run, request.trust)
    trained = open_trained(run, say, request.data)
    chosen = find_architecture(run, trained.supernet.space, request.architecture)
    alone = make_standalone(trained.supernet, chosen)
    recipe = plan_training(request, trained, alone)
    plan = _plan(request, trained, chosen, recipe)
    name = chosen.digest if request.name is None else request.name
    folder = run.finetune(name)
    if not _holds_other(folder, plan, replace=request.replace) and (folder / FILE).exists():
        # What is only read needs no lock, and may lie on a read-only disk.
        say(f"fine-tuning {name}: already complete")
        stored = _read_stored(folder, plan)
        return FinetuneOutcome(run.path, name, folder, folder / EXPORT, True, stored)
    run.check_links(folder)
    files.make_folder(folder)
    with writing(folder):
        if _holds_other(folder, plan, replace=request.replace):
            _clear(folder)
        write_record(folder / SETTINGS, plan)
        title = f"fine-tuning {chosen.digest}"
        result = _train(trained, alone, recipe, folder, title, say)
        say(Step(f"{title}: evaluating", passing=True))
        tuning = _judge(trained, chosen, alone, plan, result)
        found = _export(trained, chosen, alone, tuning, folder / EXPORT, say)
        # Last, because it says that everything else is there.
        write_record(folder / FILE, found)
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return FinetuneOutcome(run.path, name, folder, folder / EXPORT, False, found)


def plan_training(request: FinetuneRequest, trained: Trained, alone: Supernet) -> Recipe:
    """How the network of a fine-tuning trains.

    Args:
        request: What was asked for.
        trained: The run's supernet, and its data.
        alone: The network.

    Raises:
        InputError: A part of the recipe is unknown, impossible or means nothing for one network.
    """
    changes = read_parts(request.recipe_part)
    for name in ("steps", "seed"):
        if name in changes:
            raise InputError(f"{name} is not a part of --recipe-part; use --{name}")
    if request.steps is not None:
        if "epochs" in changes:
            raise InputError("--steps and epochs exclude each other; give one of them")
        changes |= {"steps": request.steps, "epochs": None}
    recipe = make_finetuning_recipe(
        read_recipe(trained.run),
        {**state_steps(trained, changes), "seed": request.seed},
        trained.data.epoch,
        taught=request.teacher,
    )
    if trained.run.record.precision is not None and not has_steps(alone):
        # There are none where weights were trained in float, or all units of the network are.
        recipe = recipe.replace({"quantizer": MINMAX})
    check_batch(recipe, trained.data, alone)
    return recipe


def _plan(
    request: FinetuneRequest, trained: Trained, chosen: Architecture, recipe: Recipe
) -> FinetuneSettings:
    space = trained.supernet.space
    changed = read_recipe(trained.run).diff(recipe)
    own = {name: tuned for name, (_, tuned) in sorted(changed.items()) if name not in _STATED}
    return FinetuneSettings(
        digest=chosen.digest,
        architecture=chosen.to_dict(),
        teacher=space.largest.digest if request.teacher else None,
        seed=request.seed,
        steps=recipe.total_steps(trained.data.epoch),
        recipe=plain(own),
        calibration_samples=CALIBRATION_SAMPLES,
        space=space.digest,
        checkpoint=trained.checkpoint.digest,
    )


def _holds_other(folder: Path, plan: FinetuneSettings, *, replace: bool) -> bool:
    return holds_other(
        "fine-tuning", folder, plan, (FILE, EXPORT, CHECKPOINTS, METRICS), replace=replace
    )


def _read_stored(folder: Path, plan: FinetuneSettings) -> FinetuneRecord:
    """What came of a fine-tuning that is complete.

    Raises:
        InputError: A part of it is damaged or gone.
    """
    found = read_finetune(folder)
    check_stored(folder / FILE, found.settings, plan, _REMEDY)
    # Language models alone have a decoder, and a vocabulary, which earlier releases left out.
    none = {VOCABULARY} if DECODER in found.storage.files else {VOCABULARY, DECODER}
    for name in sorted(OURS - none):
        if not (folder / EXPORT / name).is_file():
            raise InputError(f"{folder / EXPORT / name} is gone; {_REMEDY}")
    return found


def _clear(folder: Path) -> None:
    # The result goes first: a folder without it is a fine-tuning that has not finished.
    for name in (FILE, METRICS):
        (folder / name).unlink(missing_ok=True)
    for name in (CHECKPOINTS, EXPORT):
        shutil.rmtree(folder / name, ignore_errors=True)


def _train(
    trained: Trained, alone: Supernet, recipe: Recipe, folder: Path, title: str, say: Say
) -> TrainResult:
    """Train the network on; it ends with the weights of the last checkpoint."""
    teacher = None
    if recipe.distill == "teacher":
        say(Step(f"{title}: preparing the teacher", passing=True))
        teacher = make_teacher(trained.supernet, trained.data)
    try:
        result = train(
            alone,
            trained.data,
            recipe,
            folder,
            teacher=teacher,
            progress=lambda p: say(describe_progress(title, p, passing=False)),
            stepped=lambda step, steps: say(Step(title, step, steps)),
        )
    except DivergedError as error:
        raise explain_part(error, title, recipe.learning_rate) from error
    for note in result.notes:
        say(f"warning: {note}")
    return result


def _judge(
    trained: Trained,
    chosen: Architecture,
    alone: Supernet,
    plan: FinetuneSettings,
    result: TrainResult,
) -> TuningRecord:
    """Compare the network with what it inherited, on the same samples."""
    inherited, tuned = trained.checkpoint.digest, result.checkpoint.digest
    before, after, change = {}, {}, {}
    for split in _SPLITS:
        old, before[split] = _evaluate(trained, trained.supernet, chosen, chosen, split, inherited)
        only = alone.space.smallest
        new, after[split] = _evaluate(trained, alone, only, chosen, split, tuned)
        differences = new - old
        groups = trained.data.split(split).groups
        half = Z_TWO_SIDED_95 * compute_standard_error(differences, groups)
        value = float(differences.mean())
        change[split] = QualityRecord(value=value, low=value - half, high=value + half)
    return TuningRecord(
        settings=plan,
        checkpoint=tuned,
        before=before,
        after=after,
        change=change,
        seconds=round(result.seconds, 2),
        resumed_from=result.resumed_from,
    )


def _evaluate(
    trained: Trained,
    supernet: Supernet,
    member: Architecture,
    chosen: Architecture,
    split: str,
    checkpoint: str,
) -> tuple[NDArray[np.float64], EvaluationRecord]:
    """Scores of a network on a split, and the record of them.

    Args:
        trained: Its data.
        supernet: Its weights.
        member: What the network is called in ``supernet``.
        chosen: What it is called in the run.
        split: Which split.
        checkpoint: Digest of the weights.
    """
    data = trained.data
    found, scores = evaluate_scored(supernet, member, data, split, estimator=trained.estimator)
    record = EvaluationRecord(
        architecture=chosen.to_dict(),
        digest=chosen.digest,
        objective=found.objective,
        value=found.value,
        low=found.low,
        high=found.high,
        unit=found.unit,
        split=split,
        source="evaluated",
        checkpoint=checkpoint,
        calibration=CalibrationRecord(samples=CALIBRATION_SAMPLES, used=found.calibration_samples),
        samples=found.samples,
        balanced=found.balanced,
    )
    return scores, record


def _export(
    trained: Trained,
    chosen: Architecture,
    alone: Supernet,
    tuning: TuningRecord,
    target: Path,
    say: Say,
) -> FinetuneRecord:
    """Write the export of the fine-tuned network; the record of everything."""
    exported = export(alone, alone.space.smallest, trained.data, estimator=trained.estimator)
    proof = prove(trained, chosen, exported, say)
    written = write_export(
        trained, chosen, exported, proof, tuning.after, target, say, tuning=tuning
    )
    return FinetuneRecord(
        **dict(tuning),
        parameters=exported.parameters,
        macs=exported.macs,
        latency=written.latency,
        parity=proof.parity,
        storage=written.storage,
        at=now(),
    )
