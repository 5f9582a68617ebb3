"""Generating text token by token from known keys and values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from supernet.errors import InputError
from supernet.generation.language_model import LanguageModel, check_room
from supernet.generation.sampling import GREEDY, Sampling, choose


def generate(
    model: LanguageModel,
    prompt: Tensor,
    tokens: int,
    *,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    show: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Generate the tokens that follow a prompt.

    The prompt is read at once (prefill); then every token is read alone (decode), with the keys and
    values of those before.

    Args:
        model: What scores tokens.
        prompt: Ids ``(N, length)`` of texts of one length.
        tokens: How many to generate.
        sampling: How each is chosen.
        seed: Of what is drawn.
        show: Told the ids ``(N,)`` of each token as it is there.

    Returns:
        Ids ``(N, tokens)``.

    Raises:
        InputError: Ids outside of the vocabulary, or more tokens than the context.
    """
    check_room(model, prompt.shape[1], tokens)
    check_ids(model, prompt)
    generator = torch.Generator().manual_seed(seed)
    logits, past = model.score(prompt, model.start(len(prompt)))
    found = []
    while True:
        following = choose(logits[:, -1], sampling, generator).cpu()
        found.append(following)
        if show is not None:
            show(following)
        if len(found) == tokens:
            return torch.stack(found, dim=1)
        logits, past = model.score(following[:, None], past)


def check_ids(model: LanguageModel, ids: Tensor) -> None:
    """InputError unless all ids are in a model's vocabulary."""
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= model.vocabulary:
        raise InputError(
            f"token {low if low < 0 else high} is none of the vocabulary, which has "
            f"{model.vocabulary} tokens from 0 on"
        )
