"""A teacher from another run: its largest network, ready to teach on the data of this one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from app.progress import Say
from app.records.run import TeacherRecord
from app.runs.directory import open_run
from app.runs.trained import Trained, open_trained, read_shape
from supernet.data import IMAGES, DataShape, DataSource
from supernet.errors import InputError
from supernet.quality.evaluate import recalibrate_extracted
from supernet.supernet import Supernet


class AtOwnSize(nn.Module):
    """A network that brings batches to the size it was trained at; integer pixels to 0...1."""

    def __init__(self, supernet: Supernet, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.prepare = supernet.prepare
        self.largest = supernet.space.largest

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of a batch as the data gives it."""
        output = self.network(self.prepare(inputs, self.largest))
        return output if isinstance(output, Tensor) else output.logits


def open_teacher(
    path: Path, data: DataSource, say: Say, trusted: Sequence[str] = ()
) -> tuple[nn.Module, TeacherRecord]:
    """The largest network of a run, and the record of where it came from.

    Its normalisation statistics are estimated anew on the training split it will teach on.

    Args:
        path: A run whose training is complete.
        data: What it will teach on: the same task and classes.
        say: Told about damaged checkpoints that were passed over.
        trusted: Dotted paths of a user's own modules that its files may name.

    Returns:
        The network in eval mode on the best device, and where it came from.

    Raises:
        InputError: No such run, not trained yet, or trained for something else.
    """
    run = open_run(path, trusted)
    _check_fits(path, read_shape(run.record), data)
    trained: Trained = open_trained(run, say)
    place = str(path.expanduser().resolve())
    record = TeacherRecord(run=place, checkpoint=trained.checkpoint.digest)
    return make_teacher(trained.supernet, data), record


def make_teacher(supernet: Supernet, data: DataSource) -> nn.Module:
    """Take the largest network out of a supernet, ready to teach at the native resolution of data.

    Args:
        supernet: In evaluation mode; it is not touched.
        data: Whose training split gives the normalisation statistics.

    Returns:
        The network in eval mode, on the supernet's device, with copied weights.
    """
    largest = supernet.space.largest
    network = supernet.extract(largest)
    with torch.no_grad():
        recalibrate_extracted(network, supernet, largest, data)
    return AtOwnSize(supernet, network)


def _check_fits(path: Path, theirs: DataShape, data: DataSource) -> None:
    ours = data.shape
    if theirs.task != ours.task:
        raise InputError(
            f"the teacher {path} is for {theirs.task}, and {data.spec} is for {ours.task}; "
            "use a run of the same task"
        )
    if theirs.labels != ours.labels:
        raise InputError(
            f"the teacher {path} knows other classes ({len(theirs.labels)}) than {data.spec} has "
            f"({len(ours.labels)}); use a run that was trained on the same ones"
        )
    # Images are resized for the teacher; channels and lengths of text cannot be.
    same = theirs.input[:1] == ours.input[:1] if ours.task == IMAGES else theirs.input == ours.input
    if not same:
        raise InputError(
            f"the teacher {path} takes inputs of shape {theirs.input}, and {data.spec} has "
            f"{ours.input}; use a run that was trained on inputs of that kind"
        )
