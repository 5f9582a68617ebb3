"""Training as a job: from what was asked to a run directory with a finished checkpoint."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import JsonValue

from app.jobs.failures import SaidElsewhereError
from app.jobs.outcomes import TrainOutcome
from app.progress import Say, Step
from app.records.run import (
    CHARACTERS,
    DataOptions,
    DataRecord,
    PrecisionRecord,
    RunIdentity,
    RunRecord,
    ShapeRecord,
)
from app.records.typed_json.plain import plain
from app.runs import plugins
from app.runs.batch_size import check_batch
from app.runs.class_balance import describe_largest_class
from app.runs.command_lines import list_own_modules, train_from_command
from app.runs.directory import Run, check_same_run, open_run, writing_run
from app.runs.diverged import DIVERGED, clear_diverged, explain_divergence
from app.runs.origin import (
    Origin,
    has_steps,
    open_origin,
    reopen_origin,
    take_steps,
    take_weights,
)
from app.runs.precision import DEFAULT_METHOD, extend, read_precision, show_policy
from app.runs.suited import choose_preset, name_recipe
from app.runs.teacher import open_teacher
from app.runs.trained import (
    absolute,
    best_device,
    keep_options,
    limit_threads,
    load_own_family,
    open_typed_data,
    pick_options,
    read_config,
    read_recipe,
    reopen_data,
)
from app.runs.vocabulary import describe_vocabulary, keep_vocabulary, lacks_vocabulary
from supernet import checkpoints
from supernet.data import DataSource
from supernet.errors import DivergedError, InputError
from supernet.family_config import decode_config, encode_config
from supernet.precision.steps import calibrate_steps
from supernet.supernet import Supernet
from supernet.training import (
    Progress,
    Recipe,
    TrainingMethod,
    TrainResult,
    compose,
    distributed,
    find_recipe,
    sharding,
    train,
)
from supernet.training.state import IMPORTED

DEFAULT_FAMILY = "ofa_mobilenetv3"
# How supernets are trained whose units may compute in several formats.
PRECISION_METHOD = "eqnet"
# Weights that are good already have less far to go; see docs/recipes.md.
RATE_FROM_WEIGHTS = 0.2


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What to train; ``None`` means the run's own value when resuming, else the default.

    Args:
        out: The run directory.
        family: Module name in ``supernet/families`` or a dotted path.
        preset: Preset of the family; by default one that is called like the data, if there is.
        data: ``"digits"``, ``"clutter"``, ``"folder:PATH"``, ``"text:PATH"``, or
            ``"package.module:function"``, a function of the user's own.
        recipe: Name of a training recipe, or of strategies on top of the one that suits the data
            (``"alphanet"``, ``"image+fairnas"``).
        seed: Seed of initial weights, batches and sampled architectures.
        steps: Instead of the recipe's length.
        epochs: Likewise, in passes over the data.
        batch_size: Instead of the recipe's.
        learning_rate: Instead of the recipe's.
        checkpoint_every: Instead of the recipe's.
        image_size: Square size in pixels for folders of images.
        context: Tokens a language model sees at once.
        tokens: What a text is cut into, ``"characters"``, ``"bytes"`` or ``"bpe"``.
        vocabulary: Largest number of distinct tokens of a text.
        teacher: A finished run whose largest network teaches all architectures.
        precision: Number formats that units may compute in, such as ``"fp32,int8"``; ``None`` for
            float alone.
        precision_method: ``"lsq"`` learns the steps of integers, ``"minmax"`` takes them from the
            values, ``"dorefa"`` bounds weights; see ``quantizer`` of a recipe.
        origin: A finished run to begin with the weights of, of the same network.
        resume: Continue the run in ``out``, which must exist.
        shard: Each process of ``torchrun`` keeps the optimiser's state of its own parameters alone.
        trust: Dotted paths of the user's own modules that files of the run may name.
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
    tokens: str | None = None
    vocabulary: int | None = None
    teacher: Path | None = None
    precision: str | None = None
    precision_method: str | None = None
    origin: Path | None = None
    resume: bool = False
    shard: bool = False
    trust: tuple[str, ...] = ()


def train_job(request: TrainRequest, say: Say) -> TrainOutcome:
    """Train, or continue where an earlier command was stopped, with the same result.

    Started by ``torchrun``, each process trains on its part of every batch, and the first one
    writes the run.

    Args:
        request: What to train.
        say: Told about progress.

    Raises:
        InputError: A name is unknown, settings do not fit each other, or ``out`` holds another
            run; the message says what differs.
        DivergedError: The loss became infinite or not a number; the run gives way to one with
            other settings.
        OSError: The disk is full; earlier checkpoints are intact.
        SaidElsewhereError: Another process of ``torchrun`` failed, and says why.
    """
    with distributed.join_ranks(), ExitStack() as held:
        try:
            with distributed.fail_together():
                if request.shard:
                    sharding.require_processes()
                method, data, recipe, identity = _prepare(request, say)
                supernet = method.supernet.to(best_device())
                limit_threads(supernet)
                main = distributed.is_main()
                steps = recipe.total_steps(data.epoch)
                run = _begin(request.out, supernet, identity, steps, data, held) if main else None
        except distributed.ElsewhereError as error:
            raise SaidElsewhereError(bad_input=error.bad_input) from error
        try:
            result = train(
                supernet,
                data,
                recipe,
                request.out,
                method=method,
                progress=lambda p: say(_describe(p)),
                stepped=lambda step, steps: say(Step("train", step, steps)),
                shard=request.shard,
            )
        except DivergedError as error:
            # All processes see the same losses, so that one of them says it for all.
            if run is None:
                raise SaidElsewhereError(bad_input=True) from error
            run.set_stage("train", DIVERGED)
            raise explain_divergence(error, request.out, recipe.learning_rate) from error
        if run is not None:
            _finish(run, result, say)
    return TrainOutcome(
        run=request.out,
        family=identity.family,
        preset=identity.preset,
        data=data.spec,
        steps=result.steps,
        resumed_from=result.resumed_from,
        seconds=round(result.seconds, 2),
        checkpoint=result.checkpoint.digest,
        space_size=_count_architectures(run, supernet),
        trust=list_own_modules(identity),
        largest_class=describe_largest_class(data, "val"),
    )


def _count_architectures(run: Run | None, supernet: Supernet) -> int:
    """Architectures of the space that a run has: a training in float goes on in part of it."""
    if run is None or not run.record.was_extended:
        return supernet.space.size
    return extend(supernet, run.record.precision).space.size


def _begin(
    out: Path,
    supernet: Supernet,
    identity: RunIdentity,
    steps: int,
    data: DataSource,
    held: ExitStack,
) -> Run:
    """The run of the process that writes; it is locked as long as ``held`` is open.

    A finished one is only read, so it needs no lock and may lie on a read-only disk.
    """
    clear_diverged(out, identity)
    if _is_finished(out, identity, steps):
        run = Run(out)
        if _has_moved(run, identity) or lacks_vocabulary(run, data.vocabulary):
            with run.writing():
                _note_places(run, identity)
                keep_vocabulary(run, data.vocabulary)
        return run
    run = held.enter_context(writing_run(out, identity, supernet.space))
    _note_places(run, identity)
    keep_vocabulary(run, data.vocabulary)
    if not _is_trained(run):
        run.set_stage("train", "running", config=_list_settings(identity))
    return run


def _note_places(run: Run, identity: RunIdentity) -> None:
    """Record where data and teacher are now; that they are the same was checked before."""
    if _has_moved(run, identity):
        teacher = identity.teacher
        origin = identity.origin
        run.set_places(
            data=identity.data.spec,
            teacher=teacher.run if teacher else None,
            origin=origin.run if origin else None,
        )


def _has_moved(run: Run, identity: RunIdentity) -> bool:
    record = run.record
    places = ((record.teacher, identity.teacher), (record.origin, identity.origin))
    moved = any(old is not None and new is not None and old != new for old, new in places)
    return record.data.spec != identity.data.spec or moved


def _finish(run: Run, result: TrainResult, say: Say) -> None:
    for note in result.notes:
        say(f"warning: {note}")
    if not _is_trained(run) or result.resumed_from < result.steps:
        run.set_stage(
            "train",
            "complete",
            checkpoint=result.checkpoint.digest,
            steps=result.steps,
            seconds=round(result.seconds, 1),
        )


def _is_finished(out: Path, identity: RunIdentity, steps: int) -> bool:
    """Whether a folder holds the run asked for, and it is trained to the end.

    Raises:
        InputError: It holds another run.
    """
    if not (out / "run.json").exists() or not (out / "space.json").exists():
        return False
    run = Run(out)
    check_same_run(out, run.record, identity)
    if not _is_trained(run):
        return False
    last = checkpoints.find(run.checkpoints).checkpoint
    return last is not None and last.step == steps


def _is_trained(run: Run) -> bool:
    stage = run.stage("train")
    return stage is not None and stage.complete


def _prepare(
    request: TrainRequest, say: Say
) -> tuple[TrainingMethod, DataSource, Recipe, RunIdentity]:
    run = _find_run(request)
    old = None if run is None else run.record
    begun = _find_origin(request, old, say)
    # What the request leaves open is as in the run that it continues or begins with.
    base = run if run is not None or begun is None else begun.run
    known = None if base is None else base.record
    family, name = _find_family(request, base)
    same_family = known is not None and name == known.family
    asked = known.data if known and request.data is None else None
    spec = request.data
    if spec is None:
        spec = "digits" if asked is None else asked.spec
    spec = absolute(spec)
    preset = request.preset
    if preset is None:
        preset = known.preset if known and same_family else choose_preset(family, spec)
    if begun is not None:
        _check_same_network(begun, name, preset)
    if base is not None and same_family and preset == base.record.preset:
        # Presets come and go: what has taken the place of one is said of the run that has it.
        read_config(base, family)
    # Data that moved are opened as they were.
    before: DataOptions = {} if known is None else keep_options(spec, known.data.options)
    options = _combine_options(before, request)
    if asked is not None and base is not None:
        data = reopen_data(base, options, say)
    else:
        data = open_typed_data(spec, options, say)
    say(Step("building the network", passing=True))
    for note in data.notes:
        say(f"warning: {note}")
    if data.shape.task != family.TASK:
        raise InputError(
            f"family {name!r} is for {family.TASK}, and {data.spec} is for {data.shape.task}; "
            "see `supernet families`"
        )
    recipe = _choose_recipe(request, run, data)
    if begun is not None:
        begun.check_fits(data.shape)
    shape = ShapeRecord(**asdict(data.shape))
    again = old is not None and same_family and (preset, shape) == (old.preset, old.data.shape)
    if base is not None and (begun is not None or base.record.origin is not None or again):
        # Presets do not tell of a network whose weights were imported, and become others between
        # releases.
        config = read_config(base, family)
    else:
        config = family.configure(preset, data.shape)
    if "seed" in {field.name for field in fields(config)}:
        config = replace(config, seed=recipe.seed)
    _check_readable(family, config)
    precision = _choose_precision(request, old)
    if precision is not None:
        recipe = recipe.replace({"quantizer": precision.method})
    supernet = extend(family.build(config), precision)
    _begin_with(supernet, begun, data, recipe, request.out)
    check_batch(recipe, data, supernet)
    described = DataRecord(
        spec=data.spec,
        fingerprint=data.fingerprint,
        shape=shape,
        **options,
        **describe_vocabulary(data),
    )
    # Before anything is written: a recipe that this family cannot run must leave nothing behind.
    source = request.teacher or _find_teacher(request.out, old, recipe)
    teacher, taught = None, None
    if source is not None:
        teacher, taught = open_teacher(source, data, say, request.trust)
    method = compose(supernet, data, recipe, recipe.total_steps(data.epoch), teacher)
    part = distributed.take_share(recipe.batch_size)
    method.check_batch(part.stop - part.start)
    identity = RunIdentity(
        family=name,
        preset=preset,
        family_config=_record_config(family, config, run if again else None),
        data=described,
        recipe=plain(recipe.to_json()),
        seed=recipe.seed,
        space=supernet.space.digest,
    )
    if taught is not None:
        identity = identity.replace(teacher=taught)
    if precision is not None:
        identity = identity.replace(precision=precision)
    came = begun.record if begun is not None else None if old is None else old.origin
    if came is not None:
        identity = identity.replace(origin=came)
    return method, data, recipe, identity


def _find_origin(request: TrainRequest, old: RunRecord | None, say: Say) -> Origin | None:
    """The run to begin with the weights of, where one is asked for or still needed."""
    if request.origin is not None:
        return open_origin(request.origin, say, request.trust)
    if old is None or old.origin is None:
        return None
    return reopen_origin(request.out, old, say, request.trust)


def _check_same_network(origin: Origin, family: str, preset: str) -> None:
    """Refuse weights of another network.

    Raises:
        InputError: Family or preset differ.
    """
    theirs = origin.run.record
    if (theirs.family, theirs.preset) != (family, preset):
        raise InputError(
            f"{origin.run.path} is of family {theirs.family} ({theirs.preset}), whose weights do "
            f"not fit {family} ({preset}); leave out --family and --preset, or train without --from"
        )


def _begin_with(
    supernet: Supernet, origin: Origin | None, data: DataSource, recipe: Recipe, out: Path
) -> None:
    """Bring a supernet to where its training begins, unless a checkpoint is further already."""
    if checkpoints.find(out / "checkpoints").checkpoint is not None:
        return
    weights = {} if origin is None else origin.read_weights()
    if origin is not None:
        take_weights(supernet, weights, origin.run.path)
    if has_steps(supernet):
        calibrate_steps(supernet, data, recipe.seed)
        take_steps(supernet, weights)


def _choose_precision(request: TrainRequest, old: RunRecord | None) -> PrecisionRecord | None:
    """The number formats to train for: as asked for, else those of the run to continue."""
    # A run that was trained in float goes on in float.
    before = None if old is None or old.was_extended else old.precision
    if request.precision is None and before is None:
        if request.precision_method is not None:
            raise InputError(
                "--precision-method says how units in integers are trained; give --precision, such "
                "as fp32,int8"
            )
        return None
    policy = before.policy if request.precision is None and before else request.precision
    method = request.precision_method or (before.method if before else DEFAULT_METHOD)
    assert policy is not None
    return read_precision(policy, method)


def _check_readable(family: ModuleType, config: object) -> None:
    """Refuse a configuration that no later command could read back from the run.

    Raises:
        InputError: The family does not say what it is, or JSON cannot hold it.
    """
    stored = json.loads(json.dumps(encode_config(family, config)))
    if decode_config(family, stored) != config:
        raise InputError(
            f"the configuration of family {family.__name__!r} is another after a way through JSON; "
            "use numbers, strings, tuples and frozen dataclasses of them"
        )


def _record_config(family: ModuleType, config: Any, run: Run | None) -> Any:
    """Record a configuration; as the run to continue does, which an earlier release may have."""
    if run is not None and config == read_config(run, family):
        return run.record.family_config
    return plain(encode_config(family, config))


def _find_family(request: TrainRequest, run: Run | None) -> tuple[ModuleType, str]:
    """The family to train and its name: as asked for, else that of the run to continue."""
    if request.family is None and run is not None:
        return load_own_family(run), run.record.family
    name = DEFAULT_FAMILY if request.family is None else request.family
    return plugins.load_family(name), name


def _find_run(request: TrainRequest) -> Run | None:
    """The run to continue; what the request leaves open is taken from it."""
    if not request.resume:
        return None
    try:
        run = open_run(request.out, request.trust)
    except InputError as error:
        raise InputError(f"there is nothing to resume: {error}") from None
    stage = run.stage("train")
    if stage is not None and stage.source is not None:
        record = run.record
        if record.origin is not None:
            command = train_from_command(request.out, show_policy(record.precision), request.trust)
            raise InputError(
                f"the weights in {request.out} are those of {record.origin.run}, which was trained "
                f"in float, and have no training of their own to continue; run: {command}"
            )
        raise InputError(f"the weights in {request.out} were imported; {IMPORTED}")
    return run


def _find_teacher(out: Path, old: RunRecord | None, recipe: Recipe) -> Path | None:
    """The teacher of the run to continue, if it had one.

    Raises:
        InputError: It is gone.
    """
    if old is None or old.teacher is None or recipe.distill != "teacher":
        return None
    place = Path(old.teacher.run)
    if not place.exists():
        raise InputError(
            f"the teacher of {out} is no longer in {place}; if it moved, give its new place with "
            "--teacher"
        )
    return place


def _choose_recipe(request: TrainRequest, run: Run | None, data: DataSource) -> Recipe:
    if request.recipe is None and run is not None:
        recipe = read_recipe(run)
    else:
        suitable = name_recipe(data.spec)
        name = suitable if request.recipe is None else request.recipe
        if request.recipe is None and request.precision is not None and request.teacher is None:
            name = f"{suitable}+{PRECISION_METHOD}"
        recipe = find_recipe(name, base=suitable)
        if request.teacher is not None and recipe.distill != "teacher":
            recipe = find_recipe(f"{name}+teacher", base=suitable)
        if request.origin is not None and request.recipe is None:
            recipe = recipe.replace({"learning_rate": recipe.learning_rate * RATE_FROM_WEIGHTS})
    # It was typed, here or after --trust, so it may lie in the working directory.
    plugins.load_own_sampler(recipe.sampler)
    names = ("seed", "epochs", "batch_size", "learning_rate", "checkpoint_every")
    changes = {n: getattr(request, n) for n in names if getattr(request, n) is not None}
    if request.steps is not None:
        if request.epochs is not None:
            raise InputError("--steps and --epochs exclude each other; give one of them")
        changes |= {"steps": request.steps, "epochs": None}
        if request.recipe is not None or run is None:
            changes["warmup_steps"] = recipe.resize(request.steps, data.epoch).warmup_steps
    return recipe.replace(changes)


def _combine_options(before: DataOptions, request: TrainRequest) -> DataOptions:
    """Options of the data as asked for, else as they were; other tokens have their own number."""
    kept: dict[str, object] = dict(before)
    if request.tokens is not None and request.tokens != before.get("tokens", CHARACTERS):
        kept.pop("vocabulary", None)
    return pick_options({**kept, **pick_options(vars(request))})


def _list_settings(identity: RunIdentity) -> dict[str, JsonValue]:
    """The effective settings, enough to start the same training again."""
    keys = {"family", "preset", "recipe", "seed", "teacher", "precision", "origin"}
    asked: dict[str, JsonValue] = identity.model_dump(mode="json", include=keys, exclude_unset=True)
    return {**asked, "data": identity.data.spec}


def _describe(progress: Progress) -> Step:
    known = (
        (progress.loss_largest, "largest"),
        (progress.loss_smallest, "smallest"),
        (progress.loss_sampled, "sampled"),
    )
    losses = ", ".join(f"{name} {loss:.3f}" for loss, name in known if loss is not None)
    figures = f"loss {losses}"
    return Step("train", progress.step, progress.steps, figures=figures)
