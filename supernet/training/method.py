"""A training method: which architectures train in a step, and what each of them learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.errors import InputError
from supernet.losses import cross_entropy
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import distributed
from supernet.training.division import divide, find_fewest
from supernet.training.guides import Guide, Labels
from supernet.training.sharding import Shards
from supernet.training.streams import DROPOUT, derive_seed

# A sampler whose draws depend on the rank shows it at once; later checks would only cost time.
CHECKED_STEPS = 10

Score = Callable[[Sequence[Architecture]], list[float]]


class Sampler(Protocol):
    """Which architectures train in a step."""

    def draw(self, step: int, score: Score) -> tuple[Architecture, ...]:
        """The architectures of a step, without repeats, the largest first when it is among them.

        A function of the sampler's seed, the step and what the sampler has learnt so far, so that
        all ranks and a resumed training draw the same.

        Args:
            step: Counted from 0.
            score: Gives the loss on labels, in nats, of some architectures on the batch of the
                step, without gradients and without touching any statistic.
        """
        ...


@runtime_checkable
class Learns(Protocol):
    """A part of a method that adapts to how training goes."""

    def learn(self, step: int, losses: Mapping[Architecture, float]) -> None:
        """Take in the label losses (nats) of a step, the supernet's gradients being there.

        Called after the backward passes and the averaging over ranks, before the optimiser.
        """
        ...


@runtime_checkable
class Remembers(Protocol):
    """A part of a method with a state that belongs into checkpoints."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to continue exactly."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where :meth:`state_dict` was called."""
        ...


@runtime_checkable
class Reaches(Protocol):
    """A part of a method that acts otherwise in later steps."""

    def reach(self, step: int) -> None:
        """Be told which step begins, counted from 0."""
        ...


class Phases(Protocol):
    """A training in several phases."""

    def enter(self, step: int, method: TrainingMethod) -> bool:
        """Do what a phase starts with, if one starts at this step; ``True`` when one does."""
        ...

    def find_start(self, step: int) -> int:
        """Find the first step of the phase that ``step`` is in."""
        ...

    def find_rate(self, step: int) -> float:
        """Find the learning rate at a step, relative to the recipe's peak."""
        ...


class Rows(Protocol):
    """Which training samples a step sees."""

    def choose(self, step: int, batch_size: int) -> np.ndarray:
        """Choose indices into the training split, shape ``(batch_size,)``."""
        ...

    def observe(
        self,
        step: int,
        rows: np.ndarray,
        architecture: Architecture,
        logits: Tensor,
        targets: Tensor,
    ) -> None:
        """Take in what an architecture said about samples, ``logits`` detached."""
        ...


class Penalty(Protocol):
    """What weights should be besides right, whatever the architecture."""

    def add_gradients(self) -> None:
        """Add its gradient to that of the supernet's parameters, once per step."""
        ...


class TrainingMethod:
    """One training step of a supernet, for the loop here or for one of your own::

        method = Strategy(supernet, Sandwich(supernet.space, seed=0), InPlace())
        for step, (inputs, targets) in enumerate(loader):
            method.begin(step, optimizer)
            method.backward(step, inputs, targets)
            optimizer.step()

    Architectures run one after the other, so only one graph is alive at a time, and gradients of
    the mean of their losses are accumulated; those that one forward pass answers for
    (:meth:`supernet.supernet.Supernet.answers_together`) run at once. Under ``torch.distributed``
    gradients are averaged over the ranks, each of which brings its own part of the batch.

    Args:
        supernet: The network that is trained, in training mode.
        sampler: Draws the architectures of a step.
        guide: Says what they learn from.
        phases: What a training in phases does when one starts.
        rows: Chooses samples by importance; the caller asks it for rows and passes them back.
        penalty: Adds its gradient once per step, on every rank the same.
        split: Architecture *i* trains on part *i* of the batch instead of all on all of it: several
            architectures for the price of one (ViT-ResNAS, section 3.3). Where the parts cannot be
            equal, their sizes differ by one; every architecture counts the same.
        micro_batches: Run the batch in this many equal parts, for less memory. Batch statistics
            are then those of a part.
        precision: ``"fp32"``, ``"bf16"``, or ``"auto"``: bf16 on GPUs that have it.
        regularise: ``"all"``, or ``"largest"``: dropout and the like act in the largest
            architecture alone (BigNAS, section 3.1).
        dropout_seed: Seeds torch's global generator at every step; ``None`` leaves it alone.

    Attributes:
        shards: Set where each process keeps the gradients of its own parameters alone; after
            :meth:`backward` it has no others.

    Raises:
        InputError: Settings that exclude each other.
    """

    def __init__(
        self,
        supernet: Supernet,
        sampler: Sampler,
        guide: Guide | None = None,
        *,
        phases: Phases | None = None,
        rows: Rows | None = None,
        penalty: Penalty | None = None,
        split: bool = False,
        micro_batches: int = 1,
        precision: str = "fp32",
        regularise: str = "all",
        dropout_seed: int | None = None,
    ) -> None:
        self.supernet = supernet
        self.sampler = sampler
        self.guide: Guide = Labels() if guide is None else guide
        self.phases = phases
        self.rows = rows
        self.penalty = penalty
        self.split = split
        self.micro_batches = micro_batches
        self.precision = precision
        self.regularise = regularise
        self.dropout_seed = dropout_seed
        self.shards: Shards | None = None
        if split and micro_batches > 1:
            raise InputError("split and micro_batches exclude each other: split cuts the batch")
        self._fewest = find_fewest(supernet)

    def check_batch(self, samples: int) -> None:
        """Refuse a batch that cannot be divided as the steps will divide it.

        Args:
            samples: What each process has of it.

        Raises:
            InputError: The parts cannot be equal, or are too small; one sentence with the least
                batch size that works.
        """
        count = 1
        if self.split:
            # Draws are a function of the step, so that looking at the first one changes nothing;
            # how many there are does not depend on how good they are.
            count = len(self.sampler.draw(0, lambda some: [0.0] * len(some)))
        self._divide(samples, count)

    def _divide(self, samples: int, architectures: int) -> list[slice]:
        return divide(
            samples,
            fewest=self._fewest,
            micro_batches=self.micro_batches,
            architectures=architectures if self.split else 1,
        )

    # -- a step ------------------------------------------------------------------------------------

    def begin(self, step: int, optimizer: torch.optim.Optimizer) -> bool:
        """Start a step: enter a phase if one starts, and drop all gradients.

        Returns:
            Whether a phase started. The optimiser's state is then fresh, and averages of weights
            must start again from the weights as they are now.
        """
        for _, part in self._parts():
            if isinstance(part, Reaches):
                part.reach(step)
        entered = self.phases is not None and self.phases.enter(step, self)
        if entered:
            optimizer.state.clear()
        # None, not zero: weights that no architecture of the step uses must not feel momentum.
        optimizer.zero_grad(set_to_none=True)
        return entered

    def backward(
        self,
        step: int,
        inputs: Tensor,
        targets: Tensor,
        rows: np.ndarray | None = None,
    ) -> dict[Architecture, Tensor]:
        """Accumulate the gradient of a step into the supernet's parameters.

        Args:
            step: Counted from 0.
            inputs: This rank's samples: ``(N, C, H, W)`` pixels in 0...1 or ``(N, T)`` token ids.
            targets: ``(N,)`` classes or ``(N, T)`` next tokens.
            rows: Where in the training split the samples are; for ``rows``.

        Returns:
            Each architecture's loss on the labels in nats, without smoothing, detached.

        Raises:
            InputError: The batch cannot be cut into equal micro-batches, or its parts are too
                small (:meth:`check_batch`).
        """
        architectures = self.sampler.draw(step, lambda some: self.score(some, inputs, targets))
        if step < CHECKED_STEPS:
            distributed.check_same_architectures(architectures, inputs.device)
        pieces = self._pieces(architectures, inputs, targets, rows)
        losses: dict[Architecture, Tensor] = {}
        rank, _ = distributed.get_world()
        for index, (chosen, x, y, part) in enumerate(pieces):
            if self.dropout_seed is not None:
                chunk = rank * len(pieces) + index
                torch.manual_seed(derive_seed(self.dropout_seed, step, DROPOUT, chunk))
            with autocast(x.device, self.precision):
                self.guide.begin(x, y)
            earlier: dict[Architecture, Tensor] = {}
            for group in self._group(chosen):
                total: Tensor | None = None
                answers = zip(group, self._forward_group(group, x), strict=True)
                for architecture, logits in answers:
                    loss = self.guide.loss(architecture, logits, y, earlier)
                    total = loss if total is None else total + loss
                    earlier[architecture] = logits.detach()
                    label = cross_entropy(earlier[architecture], y)
                    share = label if self.split else label / len(pieces)
                    losses[architecture] = losses.get(architecture, 0) + share
                    if self.rows is not None and part is not None:
                        self.rows.observe(step, part, architecture, earlier[architecture], y)
                assert total is not None, "no group is empty"
                (total / (len(chosen) * len(pieces))).backward()
        # Who learns, and a penalty, may look at any gradient.
        looked_at = bool(self._learners()) or self.penalty is not None
        if self.shards is None or looked_at:
            distributed.average_gradients(self.supernet.parameters())
        else:
            self.shards.reduce_gradients()
        self._learn(step, losses)
        if self.penalty is not None:
            self.penalty.add_gradients()
        if self.shards is not None and looked_at:
            self.shards.drop_gradients()
        return losses

    def score(
        self, architectures: Sequence[Architecture], inputs: Tensor, targets: Tensor
    ) -> list[float]:
        """Loss of some architectures on the labels of a batch, in nats, the same on all ranks.

        With batch statistics and without dropout; running statistics stay as they are.
        """
        losses = []
        for architecture in architectures:
            network = self.supernet.shell(architecture).network
            with torch.no_grad(), self._suspend_dropout(), _suspend_statistics(network):
                losses.append(cross_entropy(self._forward(architecture, inputs), targets))
        return [float(x) for x in distributed.average(torch.stack(losses))] if losses else []

    # -- state -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """What the parts remember, by part; belongs into checkpoints."""
        return {
            f"{name}.{key}": tensor
            for name, part in self._parts()
            if isinstance(part, Remembers)
            for key, tensor in part.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue exactly where :meth:`state_dict` was called."""
        for name, part in self._parts():
            if isinstance(part, Remembers):
                prefix = f"{name}."
                part.load_state_dict(
                    {k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)}
                )

    def _parts(self) -> list[tuple[str, object]]:
        parts: list[tuple[str, object]] = []
        for name in ("sampler", "guide", "phases", "rows"):
            part = getattr(self, name)
            # One object may play several parts; its state is kept once.
            if part is not None and all(part is not other for _, other in parts):
                parts.append((name, part))
        return parts

    def _learners(self) -> list[Learns]:
        return [part for _, part in self._parts() if isinstance(part, Learns)]

    def _learn(self, step: int, losses: Mapping[Architecture, Tensor]) -> None:
        learners = self._learners()
        if learners:
            values = distributed.average(torch.stack([*losses.values()])).tolist()
            known = dict(zip(losses, values, strict=True))
            for part in learners:
                part.learn(step, known)

    # -- running -----------------------------------------------------------------------------------

    def _pieces(
        self,
        architectures: tuple[Architecture, ...],
        inputs: Tensor,
        targets: Tensor,
        rows: np.ndarray | None,
    ) -> list[tuple[tuple[Architecture, ...], Tensor, Tensor, np.ndarray | None]]:
        """What runs together: architectures, and the samples they see."""
        cuts = self._divide(len(inputs), len(architectures))
        if len(cuts) == 1:
            return [(architectures, inputs, targets, rows)]
        return [
            (
                (architectures[index],) if self.split else architectures,
                inputs[cut],
                targets[cut],
                None if rows is None else rows[cut],
            )
            for index, cut in enumerate(cuts)
        ]

    def _group(self, architectures: tuple[Architecture, ...]) -> list[tuple[Architecture, ...]]:
        """Which architectures run together: all, where one pass answers for them, or each alone."""
        # What is suspended in all but one of them cannot be suspended in one pass.
        together = self.regularise != "largest" and self.supernet.answers_together(architectures)
        return [architectures] if together else [(one,) for one in architectures]

    def _forward_group(self, group: tuple[Architecture, ...], inputs: Tensor) -> list[Tensor]:
        if len(group) == 1:
            return [self._forward(group[0], inputs)]
        with autocast(inputs.device, self.precision):
            prepared = self.supernet.prepare(inputs, self.supernet.space.largest)
            return self.supernet.run_together(prepared, group)

    def _forward(self, architecture: Architecture, inputs: Tensor) -> Tensor:
        supernet = self.supernet
        suspended = self.regularise == "largest" and architecture != supernet.space.largest
        with autocast(inputs.device, self.precision):
            prepared = supernet.prepare(inputs, architecture)
            if suspended:
                with self._suspend_dropout():
                    return _find_logits(supernet(prepared, architecture))
            return _find_logits(supernet(prepared, architecture))

    @contextmanager
    def _suspend_dropout(self) -> Iterator[None]:
        """Nothing is random inside; batch normalisation still normalises by the batch."""
        # Not dropout layers alone: attention and stochastic depth look at their own mode.
        modules = [m for m in self.supernet.modules() if m.training]
        modules = [m for m in modules if not isinstance(m, _BatchNorm)]
        for module in modules:
            module.training = False
        try:
            yield
        finally:
            for module in modules:
                module.training = True


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Make the autocast context of a precision: ``"fp32"``, ``"bf16"`` or ``"auto"``."""
    wanted = precision == "bf16"
    if precision == "auto" and device.type == "cuda":
        # Older cards only emulate bfloat16, slower than float32.
        wanted = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def _find_logits(output: object) -> Tensor:
    if isinstance(output, Tensor):
        return output
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise InputError(
            f"the network returned {type(output).__name__}; training needs logits as a tensor, "
            "or an output with an attribute logits"
        )
    return logits


@contextmanager
def _suspend_statistics(network: nn.Module) -> Iterator[None]:
    """Batch normalisation inside uses the statistics of the batch and keeps none of them."""
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
