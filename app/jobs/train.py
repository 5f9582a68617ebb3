"""Training as a job: from what was asked to a run directory with a finished checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from app.jobs.failures import SaidElsewhereError
from app.runs import plugins
from app.runs.directory import Run, create_run, open_run
from app.runs.teacher import open_teacher
from app.runs.trained import Say, absolute, best_device, data_options, limit_threads
from supernet.data import IMAGES, DataSource, open_data
from supernet.family_config import encode_config
from supernet.supernet import Supernet
from supernet.training import (
    Progress,
    Recipe,
    TrainingMethod,
    TrainResult,
    compose,
    distributed,
    train,
)
from supernet.training import find_recipe as recipe_preset
from supernet.training.state import IMPORTED

DEFAULT_FAMILY = "ofa_mobilenetv3"


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What to train; ``None`` means the run's own value when resuming, else the default.

    Args:
        out: The run directory.
        family: Module name in ``supernet/families`` or a dotted path.
        preset: Of the family.
        data: ``"digits"``, ``"folder:PATH"`` or ``"text:PATH"``.
        recipe: Name of a training recipe, or of methods on top of the one that suits the data
            (``"alphanet"``, ``"image+fairnas"``).
        seed: Of initial weights, batches and sampled architectures.
        steps: Instead of the recipe's length.
        epochs: Likewise, in passes over the data.
        batch_size: Instead of the recipe's.
        learning_rate: Instead of the recipe's.
        checkpoint_every: Instead of the recipe's.
        image_size: Square size in pixels for folders of images.
        context: Tokens a language model sees at once.
        teacher: A finished run whose largest network teaches all architectures.
        resume: Continue the run in ``out``, which must exist.
    """

    out: Path
    family: str | None = None
    preset: str | None = None
    data: str | None = None
    recipe: str | None = None
    seed: int | None = None
    steps: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    checkpoint_every: int | None = None
    image_size: int | None = None
    context: int | None = None
    teacher: Path | None = None
    resume: bool = False


@dataclass(frozen=True)
class TrainOutcome:
    """A finished training."""

    run: Path
    family: str
    preset: str
    data: str
    steps: int
    resumed_from: int
    seconds: float
    checkpoint: str
    space_size: int


def train_job(request: TrainRequest, say: Say) -> TrainOutcome:
    """Train, or continue where an earlier command was stopped, with the same result.

    Started by ``torchrun``, each process trains on its part of every batch, and the first one
    writes the run.

    Args:
        request: What to train.
        say: Told one line of progress at a time.

    Raises:
        ValueError: A name is unknown, settings do not fit each other, or ``out`` holds another
            run; the message says what differs.
        OSError: The disk is full; earlier checkpoints are intact.
        SaidElsewhereError: Another process of ``torchrun`` failed, and says why.
    """
    with distributed.join_ranks(), ExitStack() as held:
        try:
            with distributed.fail_together():
                method, data, recipe, identity = _prepare(request, say)
                supernet = method.supernet.to(best_device())
                limit_threads(supernet)
                distributed.take_share(recipe.batch_size)
                main = distributed.is_main()
                run = _begin(request.out, supernet, identity, held) if main else None
        except distributed.ElsewhereError as error:
            raise SaidElsewhereError from error
        result = train(
            supernet, data, recipe, request.out, method=method,
            progress=lambda p: say(_line(p)),
        )  # fmt: skip
        if run is not None:
            _finish(run, result, say)
    return TrainOutcome(
        run=request.out,
        family=identity["family"],
        preset=identity["preset"],
        data=data.spec,
        steps=result.steps,
        resumed_from=result.resumed_from,
        seconds=round(result.seconds, 2),
        checkpoint=result.checkpoint.digest,
        space_size=supernet.space.size,
    )


def _begin(out: Path, supernet: Supernet, identity: Mapping[str, Any], held: ExitStack) -> Run:
    """The run of the process that writes; it is locked as long as ``held`` is open."""
    run = create_run(out, identity, supernet.space)
    held.enter_context(run.writing())
    if run.stage("train").get("status") != "complete":
        run.set_stage("train", "running", config=_config(identity))
    return run


def _finish(run: Run, result: TrainResult, say: Say) -> None:
    for note in result.notes:
        say(f"warning: {note}")
    if run.stage("train").get("status") != "complete" or result.resumed_from < result.steps:
        run.set_stage("train", "complete", checkpoint=result.checkpoint.digest,
                      steps=result.steps, seconds=round(result.seconds, 1))  # fmt: skip


def _prepare(
    request: TrainRequest, say: Say
) -> tuple[TrainingMethod, DataSource, Recipe, dict[str, Any]]:
    old = _resumed(request)
    name = old.get("family", DEFAULT_FAMILY) if request.family is None else request.family
    family = plugins.family(name)
    same_family = old if name == old.get("family") else {}
    preset = request.preset or same_family.get("preset") or family.DEFAULT_PRESET
    asked = old.get("data", {}) if request.data is None else {}
    options = data_options({**asked, **_options(request)})
    spec = absolute(request.data or asked.get("spec") or "digits")
    data = open_data(spec, **options)
    if data.shape.task != family.TASK:
        raise ValueError(
            f"family {name!r} is for {family.TASK}, and {data.spec} is for {data.shape.task}; "
            "see `supernet families`"
        )
    recipe = _recipe(request, old, data)
    config = family.configure(preset, data.shape)
    if "seed" in {field.name for field in fields(config)}:
        config = replace(config, seed=recipe.seed)
    supernet: Supernet = family.build(config)
    check_batch(recipe, data)
    identity = {
        "family": name,
        "preset": preset,
        "family_config": encode_config(family, config),
        "data": {"spec": data.spec, "fingerprint": data.fingerprint,
                 "shape": data.shape.to_json(), **options},
        "recipe": recipe.to_json(),
        "seed": recipe.seed,
        "space": supernet.space.digest,
    }  # fmt: skip
    # Before anything is written: a recipe that this family cannot run must leave nothing behind.
    source = request.teacher or _teacher_of(old, recipe)
    teacher = None
    if source is not None:
        teacher, identity["teacher"] = open_teacher(source, data, say)
    method = compose(supernet, data, recipe, recipe.total_steps(data.epoch), teacher)
    return method, data, recipe, identity


def _resumed(request: TrainRequest) -> Mapping[str, Any]:
    """The record of the run to continue; what the request leaves open is taken from it."""
    if not request.resume:
        return {}
    try:
        run = open_run(request.out)
    except ValueError as error:
        raise ValueError(f"there is nothing to resume: {error}") from None
    if "source" in run.stage("train"):
        raise ValueError(f"the weights in {request.out} were imported; {IMPORTED}")
    return run.record


def _teacher_of(old: Mapping[str, Any], recipe: Recipe) -> Path | None:
    record = old.get("teacher") if recipe.distill == "teacher" else None
    return Path(record["run"]) if isinstance(record, Mapping) and "run" in record else None


def _recipe(request: TrainRequest, old: Mapping[str, Any], data: DataSource) -> Recipe:
    if request.recipe is None and "recipe" in old:
        recipe = Recipe.from_json(old["recipe"])
    else:
        suitable = _suitable_recipe(data)
        name = request.recipe or suitable
        recipe = recipe_preset(name, base=suitable)
        if request.teacher is not None and recipe.distill != "teacher":
            recipe = recipe_preset(f"{name}+teacher", base=suitable)
    names = ("seed", "epochs", "batch_size", "learning_rate", "checkpoint_every")
    changes = {n: getattr(request, n) for n in names if getattr(request, n) is not None}
    if request.steps is not None:
        if request.epochs is not None:
            raise ValueError("--steps and --epochs exclude each other; give one of them")
        changes |= {"steps": request.steps, "epochs": None}
    steps = request.steps or 0
    if steps and request.recipe is None and "recipe" not in old and recipe.warmup_steps > steps:
        changes["warmup_steps"] = steps // 4
    return recipe.replace(changes)


def _suitable_recipe(data: DataSource) -> str:
    kind = data.spec.split(":")[0]
    return {"digits": "digits", "text": "text"}.get(kind, "image")


def check_batch(recipe: Recipe, data: DataSource) -> None:
    """ValueError when a step cannot have as many samples, or as few, as the recipe says."""
    if recipe.batch_size > len(data.train):
        raise ValueError(
            f"batch_size = {recipe.batch_size} is larger than the training split of {data.spec} "
            f"({len(data.train)} samples); use at most {len(data.train)}"
        )
    if recipe.batch_size < 2 and data.shape.task == IMAGES:
        raise ValueError("batch_size = 1 cannot work: batch normalisation needs at least 2 samples")
    ours = recipe.batch_size // distributed.get_world()[1]
    if ours % recipe.micro_batches:
        raise ValueError(
            f"{ours} samples cannot be cut into {recipe.micro_batches} equal micro-batches; "
            f"use a batch size that is a multiple of {recipe.micro_batches}"
        )
    if recipe.split and ours < recipe.random_architectures:
        raise ValueError(
            f"{ours} samples are too few for {recipe.random_architectures} architectures that each "
            "train on some; use a larger batch"
        )


def _options(request: TrainRequest) -> dict[str, int]:
    wanted = {"context": request.context, "image_size": request.image_size}
    return {key: value for key, value in wanted.items() if value is not None}


def _config(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The effective settings, enough to start the same training again."""
    keys = ("family", "preset", "recipe", "seed", "teacher")
    return {key: identity[key] for key in keys if key in identity} | {
        "data": identity["data"]["spec"]
    }


def _line(progress: Progress) -> str:
    ends = ((progress.loss_largest, "largest"), (progress.loss_smallest, "smallest"))
    losses = ", ".join(f"{name} {loss:.3f}" for loss, name in ends if loss is not None)
    left = (progress.steps - progress.step) * progress.seconds / max(1, progress.step)
    eta = f", {left:.0f} s left" if progress.seconds and progress.step < progress.steps else ""
    return f"train {progress.step}/{progress.steps}: loss {losses or 'not in this step'}{eta}"
