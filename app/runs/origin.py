"""The run whose weights another one begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from app.progress import Say
from app.records.numbers import format_items
from app.records.run import OriginRecord, RunRecord
from app.runs.directory import Run, open_run
from app.runs.trained import NO_DATA, find_trained, read_shape
from supernet import checkpoints
from supernet.checkpoints import Checkpoint
from supernet.data import DataShape
from supernet.elastic.precision import is_step
from supernet.errors import InputError
from supernet.supernet import Supernet

# The parameters that a supernet has beside its network's.
_SHARED = "shared."


@dataclass(frozen=True)
class Origin:
    """A finished run, and its weights.

    Args:
        run: The run.
        checkpoint: Its newest good checkpoint.
    """

    run: Run
    checkpoint: Checkpoint

    @property
    def record(self) -> OriginRecord:
        """What the run that begins here says of it."""
        place = str(self.run.path.expanduser().resolve())
        return OriginRecord(run=place, checkpoint=self.checkpoint.digest)

    def read_weights(self) -> dict[str, Tensor]:
        """Read the weights, on the processor."""
        return checkpoints.read_tensors(self.checkpoint, checkpoints.WEIGHTS)

    def check_fits(self, shape: DataShape) -> None:
        """Refuse data that the network of the run is not for.

        Raises:
            InputError: Their task, classes or shape of inputs are others.
        """
        theirs = read_shape(self.run.record)
        if self.run.record.data.spec == NO_DATA and theirs.classes == shape.classes:
            # Nobody has said what its classes are called; their number and order must do.
            theirs = replace(theirs, labels=shape.labels)
        if (theirs.task, theirs.labels, theirs.input) != (shape.task, shape.labels, shape.input):
            ours = format_items(len(theirs.labels), "class", "classes")
            given = format_items(len(shape.labels), "class", "classes")
            raise InputError(
                f"the network of {self.run.path} is for {theirs.task} with inputs of shape "
                f"{theirs.input} and {ours}, and the data are for {shape.task} with inputs of "
                f"shape {shape.input} and {given}, or their classes have other names; give data "
                "of that kind"
            )


def open_origin(path: Path, say: Say, trusted: Sequence[str] = ()) -> Origin:
    """Open the run whose weights another one begins with.

    Args:
        path: A run whose training is complete.
        say: Told about damaged checkpoints that were passed over.
        trusted: Dotted paths of a user's own modules that its files may name.

    Raises:
        InputError: No such run, or it is not trained yet.
    """
    run = open_run(path, trusted)
    return Origin(run, find_trained(run, say))


def reopen_origin(out: Path, record: RunRecord, say: Say, trusted: Sequence[str]) -> Origin | None:
    """Open the run that the one in ``out`` began with, if that is needed to go on.

    Args:
        out: A run that began with the weights of another one.
        record: Its record.
        say: Told about damaged checkpoints that were passed over.
        trusted: Dotted paths of a user's own modules that files may name.

    Returns:
        ``None`` where a checkpoint of its own has taken over.

    Raises:
        InputError: It is needed, and is gone or has other weights by now.
    """
    assert record.origin is not None
    if checkpoints.find(out / "checkpoints").checkpoint is not None:
        return None
    place = Path(record.origin.run)
    if not place.exists():
        raise InputError(
            f"the run that {out} began with is no longer in {place}; if it moved, give its new "
            "place with --from"
        )
    origin = open_origin(place, say, trusted)
    if origin.checkpoint.digest != record.origin.checkpoint:
        raise InputError(
            f"{place} has weights {origin.checkpoint.digest} by now, and {out} began with "
            f"{record.origin.checkpoint}; choose another --out"
        )
    return origin


def take_weights(supernet: Supernet, weights: Mapping[str, Tensor], source: Path) -> None:
    """Copy the weights of a network into a supernet of it, in place; steps stay as they are.

    Args:
        supernet: Of the same family and configuration, in any number formats.
        weights: By name.
        source: Where they are from, for messages.

    Raises:
        InputError: They are those of another network.
    """
    own = {name: t.clone() for name, t in supernet.state_dict().items() if _is_step(name)}
    others = {name: tensor for name, tensor in weights.items() if not _is_step(name)}
    checkpoints.restore(supernet, {**others, **own}, source)


def take_steps(supernet: Supernet, weights: Mapping[str, Tensor]) -> None:
    """Copy trained steps into a supernet, in place, as far as both have any."""
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            if _is_step(name) and name in weights and weights[name].shape == tensor.shape:
                tensor.copy_(weights[name])


def has_steps(supernet: Supernet) -> bool:
    """Whether a supernet has trained steps."""
    return any(map(is_step, supernet.shared))


def _is_step(name: str) -> bool:
    return name.startswith(_SHARED) and is_step(name.removeprefix(_SHARED))
