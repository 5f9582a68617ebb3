"""The training loop: every step a few architectures on one batch, then one optimiser step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from supernet import checkpoints
from supernet.checkpoints import Checkpoint
from supernet.data import DataSource
from supernet.errors import DivergedError, InputError
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import distributed
from supernet.training.batches.shuffled import draw_shuffled_rows, prepare_batch
from supernet.training.compose import compose
from supernet.training.log import Log, Progress
from supernet.training.method import TrainingMethod
from supernet.training.optimizer import compute_learning_rate, set_learning_rate
from supernet.training.recipe import Recipe
from supernet.training.sharding import Shards
from supernet.training.state import TrainingState, check_same_training


@dataclass(frozen=True)
class TrainResult:
    """What training left behind; the supernet holds the checkpoint's weights.

    Args:
        checkpoint: The last checkpoint.
        steps: Steps of the whole training.
        resumed_from: The step this call continued from; 0 for a fresh start.
        seconds: Spent in this call.
        notes: Sentences a user should see (a damaged checkpoint was passed over).
    """

    checkpoint: Checkpoint
    steps: int
    resumed_from: int
    seconds: float
    notes: tuple[str, ...]


def train(
    supernet: Supernet,
    data: DataSource,
    recipe: Recipe,
    folder: Path,
    *,
    teacher: nn.Module | None = None,
    method: TrainingMethod | None = None,
    progress: Callable[[Progress], None] | None = None,
    stepped: Callable[[int, int], None] | None = None,
    resume: bool = True,
    shard: bool = False,
) -> TrainResult:
    """Train a supernet, or continue where a killed run stopped, with the same result.

    The supernet trains on the device its parameters are on and ends in eval mode with the weights
    of the last checkpoint: averaged ones, when the recipe averages.

    Args:
        supernet: Freshly built; its initial weights matter only for a fresh start.
        data: What to train on.
        recipe: How to train.
        folder: The run directory; gets ``checkpoints/`` and ``metrics.jsonl``. Under
            ``torch.distributed`` all ranks see it, and the first one writes.
        teacher: A network outside the supernet, for recipes that distil from one.
        method: One composed already, or of your own, instead of what the recipe describes; built
            on this supernet.
        progress: Called every ``log_every`` steps and after the last.
        stepped: Called with the steps done and those of the whole training: once before the first
            and after each that ``progress`` is not called for.
        resume: Continue from checkpoints in ``folder``; ``False`` refuses when there are any.
        shard: Each of several processes keeps its part of the optimiser's state, of averaged
            weights and of gradients alone (:mod:`supernet.training.sharding`). Results and
            checkpoints stay what they are, and may go on with another number of processes.

    Raises:
        InputError: ``folder`` holds another training (other recipe, data or space), or any with
            ``resume=False``; the recipe does not suit the supernet; both a teacher and a
            method are given; or one process alone cannot share anything.
        DivergedError: The loss became infinite or not a number.
        OSError: A checkpoint could not be written; earlier ones are intact.
    """
    began, folder = time.perf_counter(), Path(folder)
    steps = recipe.total_steps(data.epoch)
    part = distributed.take_share(recipe.batch_size)  # before anything is built: may be impossible
    if method is None:
        method = compose(supernet, data, recipe, steps, teacher)
    elif teacher is not None:
        raise InputError("a method brings its own guide; give the teacher to it, not to train")
    method.check_batch(part.stop - part.start)
    if shard:
        method.shards = Shards(supernet)
    state = TrainingState.begin(method, data, recipe, folder / "checkpoints")
    found = checkpoints.find(state.folder)
    last = found.checkpoint
    if last is not None:
        if not resume:
            raise InputError(f"{folder} already holds a training; resume it, or choose another")
        check_same_training(last, recipe, supernet, data)
        state.restore(last)
    start = 0 if last is None else last.step
    _synchronise(method, start)
    log, notes = None, found.notes
    if distributed.is_main() and start < steps:
        log = Log(folder / "metrics.jsonl", start, steps, recipe.batch_size, progress, stepped)
        notes += log.notes
    last = _take_steps(state, data, recipe, range(start, steps), log) or last
    distributed.wait()
    last = last if distributed.is_main() else checkpoints.find(state.folder).checkpoint
    if last is None:
        raise InputError(f"a training of {steps} steps leaves nothing behind")
    checkpoints.load_weights(supernet, last)
    state.optimizer.zero_grad(set_to_none=True)
    supernet.eval()
    return TrainResult(last, steps, start, time.perf_counter() - began, notes)


def _take_steps(
    state: TrainingState, data: DataSource, recipe: Recipe, remaining: range, log: Log | None
) -> Checkpoint | None:
    """Train on; the rank that has a log writes it, and the first returns the last checkpoint."""
    supernet, steps, part = (
        state.supernet,
        remaining.stop,
        distributed.take_share(recipe.batch_size),
    )
    device = next(supernet.parameters()).device
    last = None
    supernet.train()
    # Dropout inside a model draws from torch's global generators; they are put back afterwards.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for step in remaining:
            done = step + 1
            losses = take_step(state, data, recipe, step, steps, device, part)
            saves = done % recipe.checkpoint_every == 0 or done == steps
            if saves or done % recipe.log_every == 0:
                losses = _average_over_ranks(losses)
            if done % recipe.log_every == 0 or done == steps:
                space = supernet.space
                largest = _check_finite(losses.get(space.largest), done)
                smallest = _check_finite(losses.get(space.smallest), done)
                others = [losses[a] for a in losses if a not in (space.largest, space.smallest)]
                sampled = _check_finite(torch.stack(others).mean() if others else None, done)
                if log is not None:
                    rate = find_rate(state.method, recipe, step, steps)
                    log.write(done, largest, smallest, sampled, rate)
            elif log is not None:
                log.count(done)
            if saves:
                _check_finite(torch.stack([*losses.values()]).sum(), done)
                last = state.save(done)
    return last


def take_step(
    state: TrainingState,
    data: DataSource,
    recipe: Recipe,
    step: int,
    steps: int,
    device: torch.device,
    part: slice = slice(None),
) -> dict[Architecture, Tensor]:
    """Take one optimiser step, a pure function of state, data, recipe and ``step``.

    ``part`` is what this rank takes of the batch.
    """
    method = state.method
    if method.begin(step, state.optimizer):
        state.average.restart()
    set_learning_rate(state.optimizer, find_rate(method, recipe, step, steps))
    rows = _choose_rows(method, data, recipe, step)
    inputs, targets = prepare_batch(data, recipe, step, rows, device, part)
    losses = method.backward(step, inputs, targets, rows[part])
    if recipe.clip_norm and state.shards is not None:
        state.shards.clip_norm(recipe.clip_norm)
    elif recipe.clip_norm:
        torch.nn.utils.clip_grad_norm_(state.supernet.parameters(), recipe.clip_norm)
    if recipe.clip_value:
        torch.nn.utils.clip_grad_value_(state.supernet.parameters(), recipe.clip_value)
    state.optimizer.step()
    if state.shards is not None:
        state.shards.spread_parameters()
    state.average.update(step - (method.phases.find_start(step) if method.phases else 0))
    return losses


def find_rate(method: TrainingMethod, recipe: Recipe, step: int, steps: int) -> float:
    """Find the learning rate of a step."""
    if method.phases is not None:
        return recipe.learning_rate * method.phases.find_rate(step)
    return compute_learning_rate(recipe, step, steps)


def _choose_rows(method: TrainingMethod, data: DataSource, recipe: Recipe, step: int) -> np.ndarray:
    if method.rows is not None:
        return method.rows.choose(step, recipe.batch_size)
    return draw_shuffled_rows(len(data.train), recipe.batch_size, step, recipe.seed)


def _synchronise(method: TrainingMethod, start: int) -> None:
    """Begin with the same weights on all ranks."""
    if distributed.get_world()[1] == 1:
        return
    device = next(method.supernet.parameters()).device
    steps = torch.tensor([float(start)], device=device)
    if not distributed.average(steps).equal(steps):
        raise InputError("the ranks see different checkpoints; they must share the run directory")
    distributed.broadcast(method.supernet)


def _average_over_ranks(losses: dict[Architecture, Tensor]) -> dict[Architecture, Tensor]:
    values = distributed.average(torch.stack([*losses.values()]))
    return dict(zip(losses, values, strict=True))


def _check_finite(loss: Tensor | None, step: int) -> float | None:
    if loss is None:
        return None
    value = float(loss)
    if not math.isfinite(value):
        raise DivergedError(
            f"the loss is {value} at step {step}", "lower learning_rate, or set clip_norm"
        )
    return value
