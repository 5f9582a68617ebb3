"""How well a small model stands in for a large one, token by token on given text."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from supernet.errors import InputError
from supernet.generation.language_model import LanguageModel


@dataclass(frozen=True)
class Consistency:
    """How two models agree where both have read the same text.

    Args:
        agreement: Share of positions at which both find the same token likeliest.
        divergence: Mean Kullback-Leibler divergence of the small model's distribution from the
            large one's, ``KL(large || small)``, in nats per token.
        tokens: Positions.
    """

    agreement: float
    divergence: float
    tokens: int


def measure_consistency(
    model: LanguageModel, draft: LanguageModel, windows: Tensor, *, batch: int = 64
) -> Consistency:
    """Compare two models on windows of text (MatFormer, section 4.1.2).

    Args:
        model: The large one.
        draft: The small one.
        windows: Ids ``(N, T)``.
        batch: Windows at a time.

    Raises:
        InputError: No windows, or models of different vocabularies.
    """
    if not len(windows):
        raise InputError("there are no windows of text to compare models on")
    if draft.vocabulary != model.vocabulary:
        raise InputError(
            f"the draft has {draft.vocabulary} tokens and the model {model.vocabulary}; only "
            "models of one vocabulary can be compared"
        )
    same, divergence = 0, 0.0
    for part in windows.split(batch):
        scores = [m.score(part, m.start(len(part)))[0].double().log_softmax(-1).cpu()
                  for m in (model, draft)]  # fmt: skip
        large, small = scores
        same += int((large.argmax(-1) == small.argmax(-1)).sum())
        divergence += float((large.exp() * (large - small)).sum())
    total = windows.numel()
    return Consistency(same / total, divergence / total, total)
