"""Losses on logits whose last dimension is classes or vocabulary; float32 under autocast too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean negative log-likelihood in nats.

    Args:
        logits: ``(N, classes)`` or ``(N, T, vocabulary)``.
        targets: Indices, ``(N,)`` or ``(N, T)``.
        smoothing: Share of the target spread evenly over all classes.
    """
    flat = logits.float().flatten(0, -2)
    return F.cross_entropy(flat, targets.flatten(), label_smoothing=smoothing)


def kl_divergence(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean cross-entropy in nats between a teacher's probabilities and a student's logits.

    Its gradient is that of the Kullback-Leibler divergence, which it exceeds by the teacher's
    entropy (Yu and Huang, "Universally Slimmable Networks", section 3.3).

    Args:
        logits: ``(..., classes)`` of the student.
        teacher_logits: Of the same shape; no gradient reaches them.
    """
    teacher = torch.softmax(teacher_logits.detach().float(), dim=-1)
    return -(teacher * F.log_softmax(logits.float(), dim=-1)).sum(-1).mean()
