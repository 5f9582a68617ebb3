"""The training loop: every step a few architectures on one batch, then one optimiser step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from supernet import checkpoint as checkpoints
from supernet.checkpoint import Checkpoint
from supernet.data import DataSource
from supernet.space import Architecture
from supernet.supernet import Supernet

from .batches import DROPOUT, stream_seed, training_batch
from .log import Log, Progress
from .losses import cross_entropy, distillation, soft_targets
from .optimizer import learning_rate
from .recipe import Recipe
from .samplers import sample
from .state import TrainingState, check_same_training


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
    progress: Callable[[Progress], None] | None = None,
    resume: bool = True,
) -> TrainResult:
    """Train a supernet, or continue where a killed run stopped, with the same result.

    The supernet trains on the device its parameters are on and ends in eval mode with the weights
    of the last checkpoint: averaged ones, when the recipe averages.

    Args:
        supernet: Freshly built; its initial weights matter only for a fresh start.
        data: What to train on.
        recipe: How.
        folder: The run directory; gets ``checkpoints/`` and ``metrics.jsonl``.
        progress: Called every ``log_every`` steps and after the last.
        resume: Continue from checkpoints in ``folder``; ``False`` refuses when there are any.

    Raises:
        ValueError: ``folder`` holds another training (other recipe, data or space), or any with
            ``resume=False``.
        FloatingPointError: The loss became infinite or not a number.
        OSError: A checkpoint could not be written; earlier ones are intact.
    """
    began, folder = time.perf_counter(), Path(folder)
    steps = recipe.total_steps(data.epoch)
    state = TrainingState.fresh(supernet, data, recipe, folder / "checkpoints")
    found = checkpoints.find(state.folder)
    last, start = found.checkpoint, 0
    if last is not None:
        if not resume:
            raise ValueError(f"{folder} already holds a training; resume it, or choose another")
        check_same_training(last, recipe, supernet, data)
        state.restore(last)
        start = last.step
    log = Log(folder / "metrics.jsonl", start, steps, recipe.batch_size, progress)
    device = next(supernet.parameters()).device
    supernet.train()
    # Dropout inside a model draws from torch's global generators; they are put back afterwards.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for step in range(start, steps):
            done, rate = step + 1, learning_rate(recipe, step, steps)
            losses = training_step(state, data, recipe, step, rate, device)
            if done % recipe.log_every == 0 or done == steps:
                largest = _finite(losses.get(supernet.space.largest), done)
                smallest = _finite(losses.get(supernet.space.smallest), done)
                log.write(done, largest, smallest, rate)
            if done % recipe.checkpoint_every == 0 or done == steps:
                _finite(torch.stack([*losses.values()]).sum(), done)
                last = state.save(done)
    if last is None:
        raise ValueError(f"a training of {steps} steps leaves nothing behind")
    checkpoints.load_weights(supernet, last)
    state.optimizer.zero_grad(set_to_none=True)
    supernet.eval()
    return TrainResult(last, steps, start, time.perf_counter() - began, found.notes)


def training_step(
    state: TrainingState,
    data: DataSource,
    recipe: Recipe,
    step: int,
    rate: float,
    device: torch.device,
) -> dict[Architecture, Tensor]:
    """One optimiser step; a pure function of the state, the data, the recipe and ``step``."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    torch.manual_seed(stream_seed(recipe.seed, step, DROPOUT))
    inputs, targets = training_batch(data, recipe, step, device)
    architectures = sample(state.supernet.space, recipe, step)
    # None, not zero: weights that no architecture of the step uses must not feel momentum.
    state.optimizer.zero_grad(set_to_none=True)
    losses = accumulate(state.supernet, architectures, inputs, targets, recipe)
    if recipe.clip_norm:
        torch.nn.utils.clip_grad_norm_(state.supernet.parameters(), recipe.clip_norm)
    state.optimizer.step()
    state.average.update(step)
    return dict(zip(architectures, losses, strict=True))


def accumulate(
    supernet: Supernet,
    architectures: Sequence[Architecture],
    inputs: Tensor,
    targets: Tensor,
    recipe: Recipe,
) -> list[Tensor]:
    """Add the gradient of the mean loss over some architectures to the supernet's.

    One forward and backward pass after the other, so only one graph is alive at a time. With
    in-place distillation the first architecture learns from labels, and the others from its
    predictions alone, made on the same augmented batch.

    Returns:
        Each architecture's loss on the labels in nats, without smoothing, detached.
    """
    teacher: Tensor | None = None
    losses = []
    for position, architecture in enumerate(architectures):
        with _autocast(inputs.device, recipe.precision):
            logits = supernet(supernet.prepare(inputs, architecture), architecture)
        if teacher is not None:
            loss = distillation(logits, teacher)
        else:
            smoothing = recipe.label_smoothing if position == 0 else 0.0
            loss = cross_entropy(logits, targets, smoothing)
        if position == 0 and recipe.distill == "inplace":
            teacher = soft_targets(logits)
        (loss / len(architectures)).backward()
        losses.append(cross_entropy(logits.detach(), targets))
    return losses


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    wanted = precision == "bf16"
    if precision == "auto" and device.type == "cuda":
        # Older cards only emulate bfloat16, slower than float32.
        wanted = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def _finite(loss: Tensor | None, step: int) -> float | None:
    if loss is None:
        return None
    value = float(loss)
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the loss is {value} at step {step}; lower learning_rate, or set clip_norm"
        )
    return value
