"""Progressive shrinking: train the largest network, then unlock smaller options kind by kind."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernet.errors import InputError
from supernet.losses import cross_entropy, kl_divergence
from supernet.space import Architecture, SearchSpace, Value
from supernet.supernet import Supernet
from supernet.training.guides import Divergence, Earlier, compute_student_loss, normalise_by_batch
from supernet.training.method import Score, TrainingMethod, autocast
from supernet.training.schedules.reorganise import KINDS as REORGANISED
from supernet.training.schedules.reorganise import find_channel_groups, reorganise


@dataclass(frozen=True)
class Length:
    """How long and how fast a phase trains, as published for ImageNet.

    Args:
        epochs: Passes over the data; here only their ratios count.
        rate: Peak learning rate per 64 samples. Gradients were added up over the architectures of
            a step, so their number is a factor where they are averaged.
        warmup: Epochs of linear warm-up.
        count: Architectures per step.
    """

    epochs: int
    rate: float
    warmup: int
    count: int


# Once-for-All: section 4.1 for the first, its released training for the others.
LARGEST = Length(180, 2.6 * 64 / 2048, 5, 1)
KERNEL = Length(120, 3e-2, 5, 1)
DEPTH = (Length(25, 2.5e-3, 0, 2), Length(120, 7.5e-3, 5, 2))
WIDTH = (Length(25, 2.5e-3, 0, 4), Length(120, 7.5e-3, 5, 4))
ALWAYS = "resolution"
SHRINKING = ("kernel", "depth", *REORGANISED)


@dataclass(frozen=True, eq=False)
class Phase:
    """A stretch of training with a fixed set of options.

    Args:
        name: ``"largest"``, ``"kernel"``, ``"depth-1"``, ...
        start: First step.
        end: First step of the next phase.
        least: Position of the smallest option of every choice that is unlocked.
        length: Where rates and the number of architectures come from.
        reorganise: Channels are sorted when the phase begins.
    """

    name: str
    start: int
    end: int
    least: NDArray[np.int16]
    length: Length
    reorganise: bool

    def compute_rate(self, step: int) -> float:
        """Compute the learning rate at a step, relative to the peak of the first phase."""
        steps = self.end - self.start
        warmup = self.length.warmup * steps // self.length.epochs
        done = step - self.start
        if done < warmup:
            share = (done + 1) / (warmup + 1)
        else:
            progress = (done - warmup) / max(1, steps - warmup)
            share = 0.5 * (1 + math.cos(math.pi * progress))
        return share * self.length.rate * self.length.count / LARGEST.rate


def plan_phases(space: SearchSpace, steps: int) -> tuple[Phase, ...]:
    """Plan the phases of a space: largest, kernels, depths, expansions, then what else it has.

    Kernels unlock at once, other kinds in two phases: first the larger options, then all.
    Resolutions are elastic throughout. A kind that the space lacks has no phase.

    Args:
        space: The space whose options are unlocked.
        steps: Steps of the whole training, divided in proportion to the published epochs.

    Raises:
        InputError: The space has nothing to shrink, or there are fewer steps than phases.
    """
    least = (space.cardinalities - 1).astype(np.int16)
    kinds = np.array([choice.kind for choice in space.choices])
    least[kinds == ALWAYS] = 0
    parts: list[tuple[str, NDArray[np.int16], Length, bool]] = [("largest", least, LARGEST, False)]
    for name, members in _list_kinds(space):
        chosen = np.isin(kinds, members)
        halfway = np.where(chosen, (space.cardinalities - 1) // 2, least).astype(np.int16)
        least = np.where(chosen, 0, least).astype(np.int16)
        sort = bool(set(members) & set(REORGANISED))
        if name == "kernel":
            parts.append((name, least, KERNEL, False))
            continue
        lengths = DEPTH if name == "depth" else WIDTH
        if halfway[chosen].any():
            parts.append((f"{name}-1", halfway, lengths[0], sort))
            name = f"{name}-2"
        parts.append((name, least, lengths[1], sort))
    if steps < len(parts):
        raise InputError(
            f"{steps} steps are too few for the {len(parts)} phases of progressive shrinking"
        )
    ends = _divide_steps([length.epochs for _, _, length, _ in parts], steps)
    return tuple(
        Phase(name, start, end, low, length, sort)
        for (name, low, length, sort), start, end in zip(parts, (0, *ends), ends, strict=False)
    )


def _list_kinds(space: SearchSpace) -> list[tuple[str, tuple[str, ...]]]:
    """Kinds with a real choice in the order they unlock; expansions of all sorts together."""
    real = list(dict.fromkeys(c.kind for c in space.choices if len(c.values) > 1))
    if not set(real) & set(SHRINKING):
        raise InputError(
            "progressive shrinking needs choices that shrink the largest network "
            f"({', '.join(SHRINKING)}); this space has {', '.join(real) or 'no choice'}"
        )
    order = [("kernel", ("kernel",)), ("depth", ("depth",)), ("expand", REORGANISED)]
    order += [(kind, (kind,)) for kind in real if kind not in (*SHRINKING, ALWAYS)]
    return [(name, members) for name, members in order if set(members) & set(real)]


def _divide_steps(epochs: Sequence[int], steps: int) -> list[int]:
    """Where each phase ends; every one has at least a step."""
    total, count = sum(epochs), len(epochs)
    ends: list[int] = []
    for index, share in enumerate(accumulate(epochs)):
        least = ends[-1] + 1 if ends else 1
        ends.append(min(max(least, round(steps * share / total)), steps - (count - 1 - index)))
    return ends


class ProgressiveShrinking:
    """Sampler, guide and phases in one: Cai et al., "Once-for-All" (2020), section 3.2.

    Architectures are uniformly random among what is unlocked, all of a step at one resolution.
    Before expansions are unlocked, channels are sorted by importance. From the second phase on
    all learn from labels and from the largest network as it stood at the end of the first, frozen
    and with batch statistics, since those that it kept mix all resolutions.

    Args:
        supernet: What will be trained.
        steps: Steps of the whole training.
        seed: Seed of the architectures that are drawn.
        distil: Whether the frozen network teaches; labels alone otherwise.
        divergence: Distance of student logits from teacher logits, averaged over the batch.
        smoothing: Share of the target spread evenly over all classes.
        label_share: Weight of the labels' loss beside the divergence.
        precision: Precision in which the teacher runs; see :class:`TrainingMethod`.

    Raises:
        InputError: See :func:`plan_phases`, and
            :func:`supernet.training.schedules.reorganise.find_channel_groups`.
    """

    def __init__(
        self,
        supernet: Supernet,
        steps: int,
        *,
        seed: int = 0,
        distil: bool = True,
        divergence: Divergence = kl_divergence,
        smoothing: float = 0.0,
        label_share: float = 1.0,
        precision: str = "fp32",
    ) -> None:
        self.supernet = supernet
        self.phases = plan_phases(supernet.space, steps)
        if any(phase.reorganise for phase in self.phases):
            find_channel_groups(supernet)  # says now what could not be sorted later
        self.seed = seed
        self.distil = distil
        self.divergence = divergence
        self.smoothing = smoothing
        self.label_share = label_share
        self.precision = precision
        self.teacher: Supernet | None = None
        self._inputs: Tensor | None = None
        self._taught: dict[Architecture, Tensor] = {}

    def find_phase(self, step: int) -> Phase:
        """Find the phase that a step belongs to; the last one after the end."""
        return next((p for p in self.phases if step < p.end), self.phases[-1])

    # -- as phases ---------------------------------------------------------------------------------

    def enter(self, step: int, method: TrainingMethod) -> bool:
        """Take the teacher, sort channels; ``True`` at the first step of all phases but one."""
        phase = self.find_phase(step)
        if step != phase.start or step == 0:
            return False
        if self.distil and self.teacher is None:
            self.teacher = _copy_frozen(self.supernet)
        if phase.reorganise:
            before = self.find_phase(step - 1)
            reorganise(self.supernet, trained=_list_unlocked(self.supernet.space, before.least))
        return True

    def find_start(self, step: int) -> int:
        """Find the first step of the phase that ``step`` is in."""
        return self.find_phase(step).start

    def find_rate(self, step: int) -> float:
        """Find the learning rate at a step, relative to the recipe's peak."""
        return self.find_phase(step).compute_rate(step)

    # -- as sampler --------------------------------------------------------------------------------

    def draw(self, step: int, score: Score) -> tuple[Architecture, ...]:
        """A function of seed and step."""
        space, phase = self.supernet.space, self.find_phase(step)
        rng = np.random.default_rng([self.seed, step])
        draws = rng.random((phase.length.count, len(space)))
        for column, choice in enumerate(space.choices):
            if choice.kind == ALWAYS:
                draws[:, column] = draws[0, column]
        positions = phase.least + (draws * (space.cardinalities - phase.least)).astype(np.int16)
        chosen = dict.fromkeys(space.decode(positions))
        return tuple(sorted(chosen, key=lambda architecture: architecture != space.largest))

    # -- as guide ----------------------------------------------------------------------------------

    def begin(self, inputs: Tensor, targets: Tensor) -> None:
        """Keep the batch for the teacher, who sees it at the resolution of the students."""
        self._inputs = inputs
        self._taught = {}

    def loss(
        self, architecture: Architecture, logits: Tensor, targets: Tensor, earlier: Earlier
    ) -> Tensor:
        """Labels in the first phase; after it the teacher, and the labels' share."""
        if self.teacher is None:
            return cross_entropy(logits, targets, self.smoothing)
        labels = (targets, self.smoothing)
        teacher = self._teach(architecture)
        return compute_student_loss(self.divergence, logits, teacher, labels, self.label_share)

    def _teach(self, student: Architecture) -> Tensor:
        assert self.teacher is not None
        assert self._inputs is not None, "begin runs before loss"
        space = self.supernet.space
        values = space.largest.to_dict() | {
            choice.name: student[choice.name] for choice in space.choices if choice.kind == ALWAYS
        }
        largest = space.architecture(values)
        if largest not in self._taught:
            with torch.no_grad(), autocast(self._inputs.device, self.precision):
                output = self.teacher(self.teacher.prepare(self._inputs, largest), largest)
            self._taught[largest] = output if isinstance(output, Tensor) else output.logits
        return self._taught[largest]

    # -- state -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """The teacher's weights, once there is a teacher."""
        return {} if self.teacher is None else dict(self.teacher.state_dict())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Bring the teacher back."""
        self.teacher = None
        if state:
            self.teacher = _copy_frozen(self.supernet)
            self.teacher.load_state_dict(dict(state))


def _copy_frozen(supernet: Supernet) -> Supernet:
    frozen = copy.deepcopy(supernet).requires_grad_(False)
    frozen.zero_grad(set_to_none=True)
    normalise_by_batch(frozen)
    return frozen


def _list_unlocked(space: SearchSpace, least: NDArray[np.int16]) -> dict[str, tuple[Value, ...]]:
    return {
        choice.name: choice.values[int(low) :]
        for choice, low in zip(space.choices, least, strict=True)
    }
