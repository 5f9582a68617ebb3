"""A trained supernet opened from its run: network, weights and data that belong together."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch

from app.progress import Say, Step, say_nothing
from app.records.run import REMEDY, DataOptions, PrecisionRecord, RunRecord
from app.records.vocabulary import FILE as VOCABULARY
from app.runs import plugins
from app.runs.allocator import keep_freed_memory
from app.runs.command_lines import resume_command
from app.runs.directory import Run
from app.runs.diverged import DIVERGED
from app.runs.precision import extend, read_precision
from app.runs.vocabulary import open_vocabulary
from supernet import checkpoints
from supernet.checkpoints import Checkpoint
from supernet.costs.cost_model import CostModel
from supernet.costs.workloads import parse_workload
from supernet.data import IMAGES, KINDS, Count, DataShape, DataSource, open_data
from supernet.data.vocabulary import Vocabulary
from supernet.errors import InputError, OutdatedError
from supernet.family_config import decode_config
from supernet.quantization.calibration import DEFAULT_ESTIMATOR
from supernet.supernet import Supernet
from supernet.training import Recipe

SMALL_MACS = 20_000_000
# What a family or a recipe raises that is given values of other types and sizes than its own.
_UNUSABLE = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError,
             ValueError)  # fmt: skip
# What stands for the data of a run whose weights were imported without any.
NO_DATA = "none"
# What each kind of data can be asked for; a function may take anything.
_OPTIONS = {
    "digits": (),
    "clutter": (),
    "folder": ("image_size",),
    "text": ("context", "tokens", "vocabulary"),
}
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Trained:
    """What evaluating, searching and exporting start from.

    Args:
        run: The run it came from.
        supernet: In eval mode, with the weights of ``checkpoint``.
        checkpoint: The newest good one.
        moved: The data of the run, if this command was told their new place.
        say: Told how far data are read when they are first needed.
    """

    run: Run
    supernet: Supernet
    checkpoint: Checkpoint
    moved: DataSource | None = None
    say: Say = say_nothing

    @cached_property
    def shape(self) -> DataShape:
        """What the network was built for."""
        return read_shape(self.run.record)

    @cached_property
    def data(self) -> DataSource:
        """The data of the run; InputError when its content changed since training."""
        return open_run_data(self.run, self.say) if self.moved is None else self.moved

    @cached_property
    def cost_model(self) -> CostModel:
        """Every variant of every unit of the supernet."""
        self.say(Step("listing the units of the network", passing=True))
        return self.supernet.cost_model()

    def find_costs(self, workload: str) -> CostModel:
        """The cost model under a workload, by its name; the usual one where that is empty.

        Raises:
            InputError: No workload, or one that networks cannot do.
        """
        if not workload:
            return self.cost_model
        self.say(Step(f"listing the units of the network for {workload}", passing=True))
        return self.supernet.cost_model(parse_workload(workload))

    @property
    def quality(self) -> str:
        """The objective this task is judged by: ``"accuracy"`` or ``"loss"``."""
        return "accuracy" if self.shape.task == IMAGES else "loss"

    @cached_property
    def estimator(self) -> str:
        """How ranges of activations follow from their values."""
        precision = self.run.record.precision
        return DEFAULT_ESTIMATOR if precision is None else precision.calibration


def best_device() -> torch.device:
    """A GPU when torch has one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def limit_threads(supernet: Supernet) -> None:
    """Give small networks one thread: more cost more than they bring.

    Sums then do not depend on the number of cores either. A user's ``OMP_NUM_THREADS`` is kept.
    """
    if "OMP_NUM_THREADS" not in os.environ and supernet.macs(supernet.space.largest) < SMALL_MACS:
        torch.set_num_threads(1)


def build(run: Run) -> Supernet:
    """The supernet of a run, with initial weights, on the processor.

    Raises:
        InputError: Unknown family or configuration, number formats that nobody can have asked
            for, or a space other than the recorded one.
    """
    record = run.record
    if record.precision is not None:
        asked = record.precision
        # A calibration is first used deep inside of an evaluation, which would only fail there.
        with _explaining(run.path, "precision"):
            read_precision(asked.policy, asked.method, asked.calibration)
    supernet = build_extended(run, record.precision)
    if supernet.space.digest != record.space:
        raise InputError(
            f"family {record.family!r} now builds space {supernet.space.digest}, the run has "
            f"{record.space}; use the version of the family the run was made with"
        )
    return supernet


def build_extended(run: Run, precision: PrecisionRecord | None) -> Supernet:
    """The supernet of a run's family and configuration, in number formats of one's choice.

    Raises:
        InputError: Unknown family or configuration, or no unit can compute in the formats.
    """
    family = load_own_family(run)
    config = read_config(run, family)
    with _explaining(run.path, "family_config"):
        supernet: Supernet = family.build(config)
    return extend(supernet, precision)


def read_config(run: Run, family: ModuleType) -> Any:
    """Read the configuration of a run's network.

    Args:
        run: The run.
        family: Its family, loaded.

    Raises:
        InputError: The family has no such setting, or has it no longer.
    """
    with _explaining(run.path, "family_config"):
        return decode_config(family, run.record.family_config)


def load_own_family(run: Run) -> ModuleType:
    """Load the family that a run is of.

    Raises:
        InputError: Unknown, or a user's own module that was not named in this command.
    """
    name = run.record.family
    plugins.require_trust("family", name, run.trusted, run.path / "run.json")
    return plugins.load_family(name)


def read_recipe(run: Run) -> Recipe:
    """Read how a run was trained.

    Raises:
        InputError: Its recipe has no such field, an impossible value, or a sampler of the user's
            own that was not named in this command.
    """
    with _explaining(run.path, "recipe"):
        recipe = Recipe.from_json(run.record.recipe)
    plugins.require_trust("sampler", recipe.sampler, run.trusted, run.path / "run.json")
    return recipe


def read_shape(record: RunRecord) -> DataShape:
    """Read what the network of a run was built for."""
    return DataShape.from_json(record.data.shape.model_dump())


@contextmanager
def _explaining(path: Path, place: str) -> Iterator[None]:
    """Settings whose values only their own package can judge, refused in a sentence."""
    try:
        yield
    except OutdatedError as error:
        raise InputError(f"{path} is a run of an earlier release: {error}") from error
    except _UNUSABLE as error:
        raise InputError(
            f"{path / 'run.json'} was damaged or edited: {place} cannot be used ({error}); {REMEDY}"
        ) from error


def open_trained(run: Run, say: Say, data: str | None = None) -> Trained:
    """Build the network of a run and load the newest good checkpoint.

    Args:
        run: A run whose training is complete; not locked, where ``data`` are given.
        say: Told about damaged checkpoints that were passed over, and how far data are read, now
            and later.
        data: Where the data of the run are now, if they moved; see :func:`move_data`.

    Raises:
        InputError: Not trained yet, no usable checkpoint, or ``data`` are not those of the run.
    """
    say(Step("opening the network", passing=True))
    checkpoint = find_trained(run, say, data)
    supernet = build(run)
    checkpoints.load_weights(supernet, checkpoint)
    supernet.to(best_device()).eval()
    limit_threads(supernet)
    keep_freed_memory()
    if data is None:
        return Trained(run, supernet, checkpoint, say=say)
    run, moved = move_data(run, data, say)
    return Trained(run, supernet, checkpoint, moved, say)


def find_trained(run: Run, say: Say, data: str | None = None) -> Checkpoint:
    """Find the newest good checkpoint of a run whose training is complete.

    Args:
        run: The run.
        say: Told about damaged checkpoints that were passed over.
        data: Where its data are now, if they moved, for the command that completes it.

    Raises:
        InputError: Not trained yet, or no usable checkpoint.
    """
    stage = run.stage("train")
    if stage is not None and stage.status == DIVERGED:
        raise InputError(
            f"the training of {run.path} diverged; give the command that trained it a lower "
            "--learning-rate, and it begins anew"
        )
    if stage is None or not stage.complete:
        raise InputError(
            f"the training of {run.path} is not complete; "
            f"run: {resume_command(run.path, data=data, trust=run.trusted)}"
        )
    found = checkpoints.require(run.checkpoints)
    for note in found.notes:
        say(f"warning: {note}")
    assert found.checkpoint is not None
    return found.checkpoint


def open_run_data(run: Run, say: Say = say_nothing) -> DataSource:
    """Open the data that a run was trained on.

    Args:
        run: The run.
        say: Told how far they are read.

    Raises:
        InputError: It is gone, unusable, or its content changed; the run has none; or it comes
            from a function of the user's own that was not named in this command.
    """
    asked = run.record.data
    if asked.spec == NO_DATA:
        raise InputError(
            "these weights were imported without data, which calibration and evaluation need; "
            "import them again with --data, or evaluate with --data"
        )
    data = reopen_data(run, asked.options, say)
    if data.fingerprint != asked.fingerprint:
        raise InputError(
            f"the content of {asked.spec} changed since the run was trained on it; restore it, "
            "give its new place with --data if it moved, or train a new run"
        )
    return data


def reopen_data(run: Run, options: DataOptions, say: Say = say_nothing) -> DataSource:
    """Open what is now where the data of a run were, whatever it holds.

    Args:
        run: The run.
        options: Options of the data.
        say: Told how far they are read.

    Raises:
        InputError: It is gone or unusable, or comes from a function of the user's own that was not
            named in this command.
    """
    spec = run.record.data.spec
    trust_data(run, spec)
    try:
        return open_typed_data(spec, options, say, learnt=_find_undamaged(run, options))
    except InputError as error:
        raise InputError(
            f"the data of {run.path} cannot be opened: {error}; if they moved, give their new "
            "place with --data"
        ) from error


def move_data(run: Run, spec: str, say: Say) -> tuple[Run, DataSource]:
    """Record in a run where its data are now, so that no later command has to be told.

    Args:
        run: A run that this process has not locked.
        spec: Their new place, as the user typed it.
        say: Told how far data are read, and when the run cannot be written to; the data are used
            all the same.

    Returns:
        The run, in which a function that ``spec`` names is trusted, and the data.

    Raises:
        InputError: They cannot be opened, their content is not that of the training, or another
            command is writing to the run.
    """
    asked, place = run.record.data, absolute(spec)
    if asked.spec == NO_DATA:
        raise InputError(
            f"the weights of {run.path} were imported without data, so that nothing tells whether "
            f"{spec} are the right ones; import them again with --data"
        )
    options = keep_options(place, asked.options)
    data = open_typed_data(place, options, say, learnt=_find_undamaged(run, options))
    if data.fingerprint != asked.fingerprint:
        raise InputError(
            f"{spec} is not what {run.path} was trained on: its content differs from that of "
            f"{asked.spec}; give the new place of the same data, or train a new run"
        )
    if _is_function(place):
        run = replace(run, trusted=(*run.trusted, place))
    if place == asked.spec:
        return run, data
    try:
        with run.writing():
            run.set_places(data=place)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        say(f"warning: {run.path} cannot be written to; the next command needs --data again")
    return run, data


def keep_options(spec: str, options: DataOptions) -> DataOptions:
    """Keep the options that data of this kind take."""
    taken = _OPTIONS.get(spec.partition(":")[0], tuple(options))
    return pick_options({name: value for name, value in options.items() if name in taken})


def pick_options(given: Mapping[str, object]) -> DataOptions:
    """Take the options of data that have a value from what was given by name."""
    names = DataOptions.__annotations__
    found = {name: given[name] for name in names if given.get(name) is not None}
    return cast(DataOptions, found)


def trust_data(run: Run, spec: str) -> None:
    """Refuse a function of the user's own that only ``run.json`` names.

    Raises:
        InputError: ``spec`` is one, and was not named in this command.
    """
    if _is_function(spec):
        plugins.require_trust("data", spec, run.trusted, run.path / "run.json")


def _is_function(spec: str) -> bool:
    return spec.partition(":")[0] not in KINDS and not spec.isidentifier()


def open_other_data(spec: str, trained: Trained) -> DataSource:
    """Other data for the same network.

    Raises:
        InputError: Its task, classes or input shape differ from those of the training.
    """
    options: DataOptions = {}
    learnt = None
    if spec.startswith("folder:"):
        options = {"image_size": trained.shape.input[-1]}
    elif spec.startswith("text:"):
        own = keep_options(spec, trained.run.record.data.options)
        learnt = find_learnt(trained.run, own)
        options = {**own, "context": trained.shape.input[0]}
    data = open_typed_data(absolute(spec), options, trained.say, learnt=learnt)
    shape = trained.shape
    if trained.run.record.data.spec == NO_DATA and data.shape.classes == shape.classes:
        # Nobody has said what its classes are called; their number and order must do.
        shape = replace(shape, labels=data.shape.labels)
    data.check_same_classes(shape)
    return data


def find_learnt(run: Run, options: DataOptions) -> Vocabulary | None:
    """Find the vocabulary that a run has learnt and that data with such options would learn anew.

    Learning it again takes time, and another release of what learns it may learn another one.

    Args:
        run: The run.
        options: Of the data that are opened.

    Raises:
        InputError: The file of the vocabulary is damaged.
    """
    own = run.record.data.options
    wanted = (options.get("tokens"), options.get("vocabulary"))
    if wanted != (own.get("tokens"), own.get("vocabulary")) or not (run.path / VOCABULARY).exists():
        return None
    return open_vocabulary(run)


def _find_undamaged(run: Run, options: DataOptions) -> Vocabulary | None:
    """The same for the data of the run itself: what is learnt anew must have their fingerprint."""
    try:
        return find_learnt(run, options)
    except InputError:
        return None


def open_typed_data(
    spec: str,
    options: DataOptions,
    say: Say = say_nothing,
    *,
    learnt: Vocabulary | None = None,
) -> DataSource:
    """Open data that the user has named, if need be by a function in the working directory.

    Args:
        spec: As for :func:`supernet.data.open_data`.
        options: Its options.
        say: Told how far they are read.
        learnt: A vocabulary that a text need not learn.

    Raises:
        InputError: The spec is unknown or its data cannot be used.
    """
    say(Step(f"reading {spec}", passing=True))
    if _is_function(spec) and plugins.is_own(spec):
        plugins.load_own(spec.partition(":")[0], f"data {spec!r}", ())
    return open_data(spec, **options, learnt=learnt, count=count_images(spec, say))


def count_images(spec: str, say: Say) -> Count:
    """Make what :func:`supernet.data.open_data` tells a step of a job.

    Args:
        spec: The data.
        say: Told the steps.
    """

    def count(what: str, done: int, total: int | None) -> None:
        say(Step(f"{what} in {spec}", done, total, "image", passing=True))

    return count


def absolute(spec: str) -> str:
    """A data specification whose path does not depend on the working directory."""
    kind, colon, path = spec.partition(":")
    if kind in ("folder", "text") and path:
        return f"{kind}{colon}{Path(path).expanduser().resolve()}"
    return spec
