"""The plain decoder of MatLM: what people build language models of now, without any elasticity.

Pre-normalised blocks of causal attention, in which several query heads share a key and a value
head (Ainslie et al. 2023, "GQA"), and of a feed-forward that may be gated (Shazeer 2020, "GLU
variants improve transformer"). Positions are rotations of queries and keys (Su et al. 2021,
"RoFormer", section 3.4) or learned vectors.

Query head ``h`` reads key-value head ``h mod groups``. The first ``n * groups`` query heads then
hold ``n`` of every group, so that fewer heads are a prefix of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.errors import InputError

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of one layer, each ``(N, groups, tokens, head_size)``."""


class Embedding(nn.Module):
    """Token vectors, plus learned ones of positions if there are any.

    Ids ``(N, T)`` become ``(N, T, width)``; at most ``context`` tokens, those before included.
    """

    def __init__(
        self, vocabulary: int, context: int, width: int, dropout: float, learned: bool
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(context, width)) if learned else None
        self.context = context
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, before: int = 0) -> Tensor:
        """Look up tokens that follow ``before`` others."""
        end = before + ids.shape[1]
        if end > self.context:
            raise InputError(f"{end} tokens are more than the context of {self.context}")
        x = self.tokens(ids)
        if self.positions is not None:
            # Looked up and not sliced: in a graph of any length, a slice would end at the context.
            x = x + F.embedding(torch.arange(before, end, device=ids.device), self.positions)
        return self.dropout(x)


def rotate(x: Tensor, positions: Tensor, base: float) -> Tensor:
    """Rotate pairs of entries by angles that grow with the position.

    Entry ``i`` and entry ``i + size / 2`` of a head are a pair; its angle at position ``p`` is
    ``p * base ** (-2 i / size)``.

    Args:
        x: Queries or keys ``(N, heads, T, size)``, with an even size.
        positions: ``(T,)`` int64.
        base: Of the wavelengths, which go from ``2 pi`` to ``2 pi * base``.
    """
    half = x.shape[-1] // 2
    # Made here and not kept: what follows from lengths alone is a constant of a graph.
    precise = torch.float64 if x.dtype == torch.float64 else torch.float32
    pairs = torch.arange(half, device=x.device, dtype=precise)
    frequencies = torch.exp2(pairs * (-math.log2(base) / half))
    angles = positions.to(precise)[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.split(half, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def extend(past: KeyValue | None, key: Tensor, value: Tensor) -> KeyValue:
    """Append keys and values to those of the tokens before, if there are any."""
    if past is None:
        return key, value
    return torch.cat((past[0], key), dim=2), torch.cat((past[1], value), dim=2)


def attend(query: Tensor, known: KeyValue, *, first: bool, window: int = 0) -> Tensor:
    """Mix values causally; ``(N, heads, T, size)`` to ``(N, T, heads * size)``.

    Args:
        query: Of the last ``T`` tokens.
        known: Keys and values of all tokens, a head of each for every query head.
        first: Whether no token was known before these.
        window: Tokens that one sees, itself included; 0 for all before it.
    """
    (key, value), length = known, query.shape[2]
    end = key.shape[2]
    if not (window and end > window) and (first or length == 1):
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=first)
    else:
        others = torch.arange(end, device=query.device)[None]
        positions = torch.arange(end - length, end, device=query.device)[:, None]
        seen = others <= positions
        if window:
            seen = seen & (others > positions - window)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    return mixed.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Causal self-attention of grouped query heads; ``(N, T, width)`` to the same.

    Args:
        width: Of the residual stream.
        heads: Query heads, a multiple of ``groups``.
        groups: Key-value heads.
        size: Entries of a head.
        bias: Whether the four projections have biases.
        base: Of the rotations (:func:`rotate`); 0 for none.
        normalized: Whether queries and keys are normalised before they are rotated (QK-norm).
        window: Tokens that one sees, itself included; 0 for all before it.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        groups: int,
        size: int,
        *,
        bias: bool,
        base: float,
        normalized: bool,
        window: int,
    ) -> None:
        super().__init__()
        self.size, self.groups, self.base, self.window = size, groups, base, window
        self.query = nn.Linear(width, heads * size, bias=bias)
        self.key = nn.Linear(width, groups * size, bias=bias)
        self.value = nn.Linear(width, groups * size, bias=bias)
        self.query_norm = nn.RMSNorm(size, eps=1e-6) if normalized else None
        self.key_norm = nn.RMSNorm(size, eps=1e-6) if normalized else None
        self.out = nn.Linear(heads * size, width, bias=bias)

    def forward(self, x: Tensor, past: KeyValue | None = None) -> tuple[Tensor, KeyValue]:
        """Mix tokens that follow those of ``past``; gives keys and values of all of them, too."""
        before = 0 if past is None else past[0].shape[2]
        query, key, value = (
            project(x).unflatten(-1, (-1, self.size)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        positions = torch.arange(before, before + x.shape[1], device=x.device)
        if self.base:
            query, key = (rotate(part, positions, self.base) for part in (query, key))
        present = extend(past, key, value)
        repeats = query.shape[1] // self.groups
        key, value = (p if repeats == 1 else p.repeat(1, repeats, 1, 1) for p in present)
        mixed = attend(query, (key, value), first=past is None, window=self.window)
        return self.out(mixed), present

    def start(self, batch: int) -> KeyValue:
        """Keys and values of no tokens."""
        empty = self.key.weight.new_zeros((batch, self.groups, 0, self.size))
        return empty, empty


class FeedForward(nn.Module):
    """``down(gelu(up(x)))``; a smaller one keeps the first hidden units (MatFormer, 3.1)."""

    def __init__(self, width: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class GatedFeedForward(nn.Module):
    """``down(silu(gate(x)) * up(x))`` (SwiGLU); a smaller one keeps the first hidden units."""

    def __init__(self, width: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Layer(nn.Module):
    """Pre-normalised attention and feed-forward, each added to the residual stream.

    Args:
        norms: Before either.
        attention: Called, and asked for what it begins with, like :class:`Attention`.
        ffn: ``(N, T, width)`` to the same.
        dropout: Of what is added.
    """

    def __init__(
        self,
        norms: tuple[nn.Module, nn.Module],
        attention: nn.Module,
        ffn: nn.Module,
        dropout: float,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norms
        self.attention = attention
        self.ffn = ffn
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, past: KeyValue | None = None) -> tuple[Tensor, KeyValue]:
        """Run on tokens that follow those of ``past``; gives keys and values of all, too."""
        mixed, present = self.attention(self.norm1(x), past)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.ffn(self.norm2(x))), present

    def start(self, batch: int) -> KeyValue:
        """Keys and values of no tokens."""
        found: KeyValue = self.attention.start(batch)  # type: ignore[operator]
        return found


class Head(nn.Module):
    """Normalise and score every token; ``(N, T, width)`` to ``(N, T, vocabulary)`` logits."""

    def __init__(self, norm: nn.Module, width: int, vocabulary: int) -> None:
        super().__init__()
        self.norm = norm
        self.scores = nn.Linear(width, vocabulary, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.norm(x))


class Decoder(nn.Module):
    """The plain network; ``(N, T)`` token ids to ``(N, T, vocabulary)`` next-token logits.

    Args:
        embedding: Its first part.
        layers: In the order they run.
        head: Its last part, which scores tokens like :class:`Head`; it may also know how to
            ``score_every_width``.
        tied: Whether the scores of tokens are products with their vectors.
    """

    def __init__(
        self, embedding: Embedding, layers: Sequence[Layer], head: nn.Module, *, tied: bool
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.layers = nn.ModuleList(layers)
        self.head = head
        if tied:
            assert isinstance(head, Head)
            head.scores.weight = embedding.tokens.weight

    def forward(
        self, ids: Tensor, past: Sequence[KeyValue] | None = None, *, every_width: bool = False
    ) -> Tensor | list[Tensor] | tuple[Tensor, list[KeyValue]]:
        """Score the token after each.

        Args:
            ids: ``(N, T)``.
            past: Keys and values of every layer for the tokens before these;
                at the beginning of a text those of no tokens, which :meth:`start` gives.
            every_width: Score at every width of a head that can, the narrowest first, as a list.

        Returns:
            Logits ``(N, T, vocabulary)``; with ``past``, also the keys and values of all tokens.

        Raises:
            InputError: More tokens than the context, or keys and values of another number of
                layers.
        """
        if past is not None and len(past) != len(self.layers):
            raise InputError(
                f"keys and values of {len(past)} layers are none of a network of {len(self.layers)}"
            )
        known = [None] * len(self.layers) if past is None else past
        before = 0 if past is None else past[0][0].shape[2]
        x, present = self.embedding(ids, before), []
        for layer, pair in zip(self.layers, known, strict=True):
            x, all_of_them = layer(x, pair)
            present.append(all_of_them)
        if every_width:
            found: list[Tensor] = self.head.score_every_width(x)  # type: ignore[operator]
            return found
        logits = self.head(x)
        return logits if past is None else (logits, present)

    def start(self, batch: int) -> list[KeyValue]:
        """Keys and values of no tokens, to give :meth:`forward` at the beginning of a text."""
        return [layer.start(batch) for layer in self.layers if isinstance(layer, Layer)]
