"""What generating text needs of a model, whatever computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from supernet.errors import InputError
from supernet.families._decoder import Decoder

Past = Sequence[tuple[Tensor, Tensor]]
"""Keys and values of every layer for the tokens so far, each ``(N, groups, tokens, size)``."""


class LanguageModel(Protocol):
    """Scores the token after each, given keys and values of the tokens before."""

    @property
    def context(self) -> int:
        """Most tokens of a text."""
        ...

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens."""
        ...

    def start(self, batch: int) -> Past:
        """Keys and values of no tokens."""
        ...

    def score(self, ids: Tensor, past: Past) -> tuple[Tensor, Past]:
        """Logits ``(N, T, vocabulary)`` after ids ``(N, T)``, and keys and values of all tokens."""
        ...


@dataclass(frozen=True)
class TorchModel:
    """A decoder in torch.

    Args:
        network: Of :mod:`supernet.families.matlm`, extracted, in eval mode.
    """

    network: Decoder

    @property
    def context(self) -> int:
        """Most tokens of a text."""
        return self.network.embedding.context

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens."""
        return int(self.network.embedding.tokens.num_embeddings)

    def start(self, batch: int) -> Past:
        """Keys and values of no tokens."""
        return self.network.start(batch)

    def score(self, ids: Tensor, past: Past) -> tuple[Tensor, Past]:
        """Logits ``(N, T, vocabulary)`` after ids ``(N, T)``, and keys and values of all tokens."""
        with torch.inference_mode():
            found: Any = self.network(ids.to(self.network.embedding.tokens.weight.device), past)
        return found


def find_decoder(network: nn.Module) -> Decoder | None:
    """A network as a decoder that can go on from known keys and values, if it is one."""
    return network if isinstance(network, Decoder) else None


def require_decoder(network: nn.Module, what: str) -> Decoder:
    """A network as a decoder.

    Raises:
        InputError: It is none; ``what`` is what the message calls it.
    """
    found = find_decoder(network)
    if found is None:
        raise InputError(
            f"{what} keeps no keys and values of what it has read, so that it cannot generate "
            "text; matlm and shell_elastic do"
        )
    return found


def check_room(model: LanguageModel, prompt: int, tokens: int) -> None:
    """Check that a prompt and what follows it fit the context.

    Args:
        model: The model.
        prompt: Tokens of the prompt.
        tokens: Tokens to generate.

    Raises:
        InputError: No prompt, nothing to generate, or more than the context.
    """
    if prompt < 1:
        raise InputError("the prompt is empty; give at least one token")
    if tokens < 1:
        raise InputError(f"{tokens} tokens cannot be generated; ask for at least 1")
    if prompt + tokens > model.context:
        raise InputError(
            f"a prompt of {prompt} and {tokens} to generate are more tokens than the context of "
            f"{model.context}; give a shorter prompt or ask for at most "
            f"{max(0, model.context - prompt)}"
        )
