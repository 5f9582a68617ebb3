"""Losses on logits, in float32 under autocast too: cross-entropy, KL and alpha-divergences."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ALPHA_MIN, ALPHA_MAX, CLIP = -1.0, 1.0, 5.0


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Compute the mean negative log-likelihood in nats.

    Args:
        logits: ``(N, classes)`` or ``(N, T, vocabulary)``.
        targets: Indices, ``(N,)`` or ``(N, T)``.
        smoothing: Share of the target spread evenly over all classes.
    """
    flat = logits.float().flatten(0, -2)
    return F.cross_entropy(flat, targets.flatten(), label_smoothing=smoothing)


def kl_divergence(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Compute the mean cross-entropy in nats of a student under a teacher's probabilities.

    Its gradient is that of the Kullback-Leibler divergence, which it exceeds by the teacher's
    entropy (Yu and Huang, "Universally Slimmable Networks", section 3.3).

    Args:
        logits: Logits of the student, ``(..., classes)``.
        teacher_logits: Logits of the teacher, of the same shape; no gradient reaches them.
    """
    teacher = torch.softmax(teacher_logits.detach().float(), dim=-1)
    return -(teacher * F.log_softmax(logits.float(), dim=-1)).sum(-1).mean()


def alpha_divergence(
    logits: Tensor, teacher_logits: Tensor, alpha: float, clip: float | None = None
) -> Tensor:
    """``D(p || q) = sum_y q_y ((p_y / q_y)**alpha - 1) / (alpha (alpha - 1))`` per sample, nats.

    At 1 it is KL(p || q), at 0 KL(q || p), their limits. Its gradient in the student's logits is
    that of the importance-weighted surrogate of Wang et al., "AlphaNet" (2021), section 3.3, so
    that clipped ratios still pull: differentiating the clipped value itself would drop them.

    Args:
        logits: Logits of the student, q, ``(..., classes)``.
        teacher_logits: Logits of the teacher, p, of the same shape; no gradient reaches them.
        alpha: Negative values punish a student that is less sure than its teacher (probability
            where the teacher has none), values of 1 and more one that is too sure.
        clip: Largest value of ``(p / q)**alpha`` (of ``p / q`` at 0; without effect at 1, where
            nothing can explode). ``None`` does not clip.

    Returns:
        ``(...)``, in float32 or better.
    """
    student = _log_probabilities(logits)
    p = _log_probabilities(teacher_logits.detach())
    q = student.detach()
    # Ratios stay logarithms until they are bounded: their powers overflow.
    ratio = p - q
    if alpha == 1:
        weight = p.exp()
        value = (weight * ratio).sum(-1)
    elif alpha == 0:
        if clip is not None:
            ratio = ratio.clamp(max=math.log(clip))
        weight = q.exp() * ratio
        value = -weight.sum(-1)
    else:
        power = alpha * ratio
        if clip is not None:
            power = power.clamp(max=math.log(clip))
        weight = (q + power).exp() / alpha
        value = (weight.sum(-1) - 1 / alpha) / (alpha - 1)
    surrogate = -(weight * student).sum(-1)
    # The value of the divergence with the gradient of the surrogate.
    return value + (surrogate - surrogate.detach())


def adaptive_alpha(
    logits: Tensor,
    teacher_logits: Tensor,
    alpha_min: float = ALPHA_MIN,
    alpha_max: float = ALPHA_MAX,
    clip: float = CLIP,
) -> Tensor:
    """Take the larger of two alpha-divergences per sample, averaged over the batch, in nats.

    It punishes the student for being less sure than its teacher or for being too sure, whichever
    is worse (Wang et al., "AlphaNet", 2021, section 3.3, equation 7; defaults from section 4.1).
    Gradients should be clipped by value (1.0 there).

    Args:
        logits: Logits of the student, ``(..., classes)``.
        teacher_logits: Logits of the teacher, of the same shape; no gradient reaches them.
        alpha_min: Alpha of the divergence that punishes too little confidence.
        alpha_max: Alpha of the divergence that punishes too much.
        clip: See :func:`alpha_divergence`.
    """
    lower = alpha_divergence(logits, teacher_logits, alpha_min, clip)
    upper = alpha_divergence(logits, teacher_logits, alpha_max, clip)
    return torch.where(lower.detach() > upper.detach(), lower, upper).mean()


def _log_probabilities(logits: Tensor) -> Tensor:
    precise = torch.promote_types(logits.dtype, torch.float32)
    return torch.log_softmax(logits, dim=-1, dtype=precise)
