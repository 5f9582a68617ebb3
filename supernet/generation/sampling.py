"""How the next token is chosen from its scores."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.errors import InputError


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen.

    Args:
        temperature: Divides the logits before a token is drawn; 0 takes the likeliest (greedy).
        top_p: A token is drawn from the likeliest ones that together have at least this
            probability (Holtzman et al. 2020, "The curious case of neural text degeneration").

    Raises:
        InputError: A value outside of its range.
    """

    temperature: float = 0.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InputError(f"temperature = {self.temperature:g} must be 0 (greedy) or above")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p = {self.top_p:g} must be above 0 and at most 1")


GREEDY = Sampling()


def find_probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Find the probabilities a token is drawn with.

    Args:
        logits: ``(..., vocabulary)``.
        sampling: How; with a temperature above 0.

    Returns:
        Of the same shape, float64; zero outside of the likeliest ones.
    """
    # Relative to the largest: logits that a tiny temperature divides would be infinite.
    relative = logits.double() - logits.double().amax(-1, keepdim=True)
    # Smaller numbers are zero where a processor is told to flush them.
    temperature = max(sampling.temperature, sys.float_info.min)
    probabilities = (relative / temperature).softmax(-1)
    if sampling.top_p == 1:
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    # A token stays while those before it have less than the share together.
    kept = ordered.cumsum(-1) - ordered < sampling.top_p
    kept = torch.zeros_like(kept).scatter(-1, order, kept)
    return torch.where(kept, probabilities, 0.0) / torch.where(kept, probabilities, 0.0).sum(
        -1, keepdim=True
    )


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """Choose a token for every row of logits ``(N, vocabulary)``; gives ids ``(N,)``."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = find_probabilities(logits, sampling)
    return torch.multinomial(probabilities.cpu(), 1, generator=generator)[:, 0]
