"""What the architectures of a step learn from: labels, the largest network, or a teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.losses import cross_entropy, kl_divergence
from supernet.space import Architecture

Divergence = Callable[[Tensor, Tensor], Tensor]
# Detached logits, on the same samples, of the architectures that ran before in a step.
Earlier = Mapping[Architecture, Tensor]


class Guide(Protocol):
    """What the architectures of a step learn from."""

    def begin(self, inputs: Tensor, targets: Tensor) -> None:
        """Meet a batch (or a part of one that runs at once) before the architectures do.

        Args:
            inputs: As the data gives them, augmented, at the native resolution.
            targets: Class indices ``(N,)`` or next tokens ``(N, T)``.
        """
        ...

    def loss(
        self, architecture: Architecture, logits: Tensor, targets: Tensor, earlier: Earlier
    ) -> Tensor:
        """The loss an architecture is trained with, a scalar.

        Args:
            architecture: Whose turn it is.
            logits: Its ``(N, classes)`` or ``(N, T, vocabulary)``.
            targets: Labels of the same samples.
            earlier: Detached logits, on the same samples, of those that ran before it.
        """
        ...


def compute_student_loss(
    divergence: Divergence,
    logits: Tensor,
    teacher_logits: Tensor,
    labels: tuple[Tensor, float],
    label_share: float,
) -> Tensor:
    """Compute a student's divergence from a teacher, and a share of the labels' loss.

    Args:
        divergence: Distance of student logits from teacher logits, averaged over the batch.
        logits: ``(N, classes)`` or ``(N, T, vocabulary)`` of the student.
        teacher_logits: Logits of the teacher, of the same shape.
        labels: Indices ``(N,)`` or ``(N, T)``, and how much they are smoothed.
        label_share: Weight of the labels' loss; 0 leaves it out.
    """
    loss = divergence(logits, teacher_logits)
    return loss + label_share * cross_entropy(logits, *labels) if label_share else loss


@dataclass(frozen=True)
class Labels:
    """All learn from the labels.

    Args:
        smoothing: Share of the target spread evenly over all classes.
    """

    smoothing: float = 0.0

    def begin(self, inputs: Tensor, targets: Tensor) -> None:
        """Nothing to prepare."""

    def loss(
        self, architecture: Architecture, logits: Tensor, targets: Tensor, earlier: Earlier
    ) -> Tensor:
        """Cross-entropy with the labels."""
        return cross_entropy(logits, targets, self.smoothing)


@dataclass(frozen=True)
class InPlace:
    """In-place distillation: the first architecture of a step learns from labels and teaches.

    With the sandwich rule the first is the largest (Yu and Huang, "Universally Slimmable
    Networks", section 3.3).

    Args:
        divergence: Distance of student logits from teacher logits, averaged over the batch.
        smoothing: Share of the target spread evenly over all classes; for the first alone.
        label_share: Weight of the labels' loss beside the divergence, for the others.
        previous: Each learns from the one before it instead of from the first: in EQ-Net
            (section 3.3, "progressive guidance") the largest teaches a random one, and that one
            the smallest, so the sampler must draw them in this order.
    """

    divergence: Divergence = kl_divergence
    smoothing: float = 0.0
    label_share: float = 0.0
    previous: bool = False

    def begin(self, inputs: Tensor, targets: Tensor) -> None:
        """Nothing to prepare."""

    def loss(
        self, architecture: Architecture, logits: Tensor, targets: Tensor, earlier: Earlier
    ) -> Tensor:
        """Labels for the first, divergence from its teacher for the others."""
        if not earlier:
            return cross_entropy(logits, targets, self.smoothing)
        teacher = list(earlier.values())[-1 if self.previous else 0]
        labels = (targets, self.smoothing)
        return compute_student_loss(self.divergence, logits, teacher, labels, self.label_share)


class LabelsFirst:
    """All learn from the labels until a step, and from another guide then.

    A teacher that has learnt nothing yet only slows its students down.

    Args:
        guide: Who guides afterwards.
        steps: How long the labels alone do.
        smoothing: Share of the target spread evenly over all classes, as long.
    """

    def __init__(self, guide: Guide, steps: int, smoothing: float = 0.0) -> None:
        self.guide = guide
        self.steps = steps
        self.labels = Labels(smoothing)
        self._current: Guide = self.labels

    def reach(self, step: int) -> None:
        """Choose who guides a step, counted from 0."""
        self._current = self.labels if step < self.steps else self.guide

    def begin(self, inputs: Tensor, targets: Tensor) -> None:
        """Let the one who guides prepare."""
        self._current.begin(inputs, targets)

    def loss(
        self, architecture: Architecture, logits: Tensor, targets: Tensor, earlier: Earlier
    ) -> Tensor:
        """The loss of the one who guides."""
        return self._current.loss(architecture, logits, targets, earlier)


@dataclass(frozen=True)
class Guidance:
    """Group progressive guidance: each architecture of a step learns from the one before it.

    With :class:`supernet.training.samplers.precision_sandwich.PrecisionSandwich` the most bits
    teach random ones, and these the fewest, which could not follow the most (Xu et al. 2023,
    "EQ-Net", section 3.3: half divergence, half labels).

    Args:
        divergence: Distance of student logits from teacher logits, averaged over the batch.
        smoothing: Share of the target spread evenly over all classes.
        teacher_share: Weight of the divergence; the labels have the rest. The first of a step
            learns from the labels alone.
    """

    divergence: Divergence = kl_divergence
    smoothing: float = 0.0
    teacher_share: float = 0.5

    def begin(self, inputs: Tensor, targets: Tensor) -> None:
        """Nothing to prepare."""

    def loss(
        self, architecture: Architecture, logits: Tensor, targets: Tensor, earlier: Earlier
    ) -> Tensor:
        """Labels for the first, teacher and labels for the others."""
        label = cross_entropy(logits, targets, self.smoothing)
        if not earlier:
            return label
        teacher = list(earlier.values())[-1]
        guided = self.divergence(logits, teacher)
        return self.teacher_share * guided + (1 - self.teacher_share) * label


def normalise_by_batch(network: nn.Module) -> None:
    """Let a frozen network normalise by the batch, with nothing else random or changing in it.

    It suits a teacher whose running statistics mix several resolutions or networks
    (Once-for-All's released training runs its teacher in training mode).
    """
    network.eval()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.train()
            module.track_running_stats = False


class Teacher:
    """All learn from a network outside the supernet, which does not train.

    Args:
        network: Takes the data's inputs at their native resolution, gives logits; its parameters
            are frozen here.
        divergence: Distance of student logits from teacher logits, averaged over the batch.
        smoothing: Share of the target spread evenly over all classes.
        label_share: Weight of the labels' loss beside the divergence.
        batch_statistics: The teacher normalises with the statistics of the batch (see
            :func:`normalise_by_batch`) instead of those it was evaluated with.
    """

    def __init__(
        self,
        network: nn.Module,
        divergence: Divergence = kl_divergence,
        *,
        smoothing: float = 0.0,
        label_share: float = 1.0,
        batch_statistics: bool = False,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        if batch_statistics:
            normalise_by_batch(network)
        self.divergence = divergence
        self.smoothing = smoothing
        self.label_share = label_share
        self.logits: Tensor | None = None

    def begin(self, inputs: Tensor, targets: Tensor) -> None:
        """Run the teacher on the batch."""
        with torch.no_grad():
            output = self.network(inputs)
        self.logits = output if isinstance(output, Tensor) else output.logits

    def loss(
        self, architecture: Architecture, logits: Tensor, targets: Tensor, earlier: Earlier
    ) -> Tensor:
        """Divergence from the teacher, and the labels' share."""
        assert self.logits is not None, "begin runs before loss"
        labels = (targets, self.smoothing)
        return compute_student_loss(self.divergence, logits, self.logits, labels, self.label_share)
