"""A decoder in which every narrower network is part of the pass of the widest (ShellElastic, 2026).

The residual stream, the heads and the hidden units of feed-forwards are cut into *shells*. What a
shell computes depends on itself and on the shells inside of it alone: every projection is block-
lower-triangular. The hidden state of a narrower network is then a prefix of that of the widest, to
the last block, and one forward pass scores tokens at every width.

Normalisation has to follow: each shell is divided by the root mean square of everything up to its
own outer edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.data import TEXT, DataShape
from supernet.elastic.edits import Cut, Drop, Edit, Set, follow
from supernet.errors import InputError
from supernet.families._checks import check_dropout, check_options, check_positive
from supernet.families._configuration import fit_text, make_network
from supernet.families._decoder import (
    Decoder,
    Embedding,
    KeyValue,
    Layer,
    attend,
    extend,
    rotate,
)
from supernet.space import Architecture, Choice, SearchSpace
from supernet.supernet import InputSpec, OnePass, Supernet

TASK = TEXT
SUMMARY = "Decoder language model, every width of which is part of one pass (ShellElastic)"
DEFAULT_PRESET = "tiny"
ROTARY_BASE = 10000.0
EPSILON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one supernet of shells.

    Args:
        vocabulary: Number of distinct tokens.
        context: Most tokens the model sees at once.
        widths: Widths of the residual stream, rising; each is a prefix of the next.
        heads: Attention heads at each width, rising.
        head_size: Entries of a head.
        ffn: Hidden size of feed-forwards at each width, rising.
        depth: Layers.
        dropout: Dropout of the embedding and of what every block adds to the residual stream.
        seed: Seed of the initial weights.

    Raises:
        InputError: A field makes no network; the message names it.
    """

    vocabulary: int = 256
    context: int = 64
    widths: tuple[int, ...] = (32, 48, 64, 96)
    heads: tuple[int, ...] = (2, 3, 4, 6)
    head_size: int = 16
    ffn: tuple[int, ...] = (96, 144, 192, 288)
    depth: int = 4
    dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(
            vocabulary=self.vocabulary,
            context=self.context,
            head_size=self.head_size,
            depth=self.depth,
        )
        check_options(self, "widths", "heads", "ffn")
        for name in ("heads", "ffn"):
            if len(getattr(self, name)) != len(self.widths):
                raise InputError(
                    f"{name} = {list(getattr(self, name))} must have a value for each of the "
                    f"{len(self.widths)} widths"
                )
        for name in ("widths", "heads", "ffn"):
            check_positive(**{f"the first of {name}": getattr(self, name)[0]})
        if self.head_size % 2:
            raise InputError(
                f"head_size = {self.head_size} is odd; rotary positions turn pairs of entries"
            )
        check_dropout(self.dropout)


PRESETS: dict[str, Config] = {
    "tiny": Config(),
    "small": Config(
        context=128,
        widths=(128, 192, 256, 384),
        heads=(4, 6, 8, 12),
        head_size=32,
        ffn=(384, 576, 768, 1152),
        depth=6,
        dropout=0.1,
    ),
}


def configure(preset: str, shape: DataShape) -> Config:
    """Fit a preset to the vocabulary and context of a text.

    Raises:
        InputError: Unknown preset, or data that is not text.
    """
    return fit_text(PRESETS, preset, shape, "shell_elastic")


# -- the plain network ---------------------------------------------------------------------------


class TriangularLinear(nn.Module):
    """A projection without bias whose shells read themselves and the shells inside of them.

    Args:
        inputs: Entries up to the outer edge of each shell, rising.
        outputs: The same of what comes out.
    """

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        super().__init__()
        edges = zip(inputs, pairwise((0, *outputs)), strict=True)
        self.shells = nn.ModuleList(nn.Linear(i, b - a, bias=False) for i, (a, b) in edges)

    def forward(self, x: Tensor) -> Tensor:
        """Project ``(..., inputs)`` to ``(..., outputs)``, of as many shells as there are."""
        parts = [shell(x[..., : shell.in_features]) for shell in self.shells]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


class NestedNorm(nn.Module):
    """RMSNorm of each shell by the mean square of everything up to its outer edge."""

    def __init__(self, edges: Sequence[int]) -> None:
        super().__init__()
        self.edges = tuple(edges)
        self.weight = nn.Parameter(torch.ones(edges[-1]))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(..., width)``, of as many shells as there are."""
        parts: list[Tensor] = []
        squares: Tensor | None = None
        for begin, end in pairwise((0, *self.edges)):
            shell = x[..., begin:end]
            own = shell.square().sum(-1, keepdim=True)
            squares = own if squares is None else squares + own
            parts.append(shell * torch.rsqrt(squares / end + EPSILON))
        normal = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return normal * self.weight


class Attention(nn.Module):
    """Causal self-attention whose heads belong to shells; ``(N, T, width)`` to the same."""

    def __init__(self, widths: Sequence[int], heads: Sequence[int], size: int) -> None:
        super().__init__()
        self.size = size
        wide = [count * size for count in heads]
        self.query = TriangularLinear(widths, wide)
        self.key = TriangularLinear(widths, wide)
        self.value = TriangularLinear(widths, wide)
        self.out = TriangularLinear(wide, widths)

    def forward(self, x: Tensor, past: KeyValue | None = None) -> tuple[Tensor, KeyValue]:
        """Mix tokens that follow those of ``past``; gives keys and values of all of them, too."""
        before = 0 if past is None else past[0].shape[2]
        query, key, value = (
            project(x).unflatten(-1, (-1, self.size)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        positions = torch.arange(before, before + x.shape[1], device=x.device)
        query, key = (rotate(part, positions, ROTARY_BASE) for part in (query, key))
        present = extend(past, key, value)
        return self.out(attend(query, present, first=past is None)), present

    def start(self, batch: int) -> KeyValue:
        """Keys and values of no tokens."""
        weights = [shell.weight for shell in self.key.shells if isinstance(shell, nn.Linear)]
        heads = sum(len(weight) for weight in weights) // self.size
        empty = weights[0].new_zeros((batch, heads, 0, self.size))
        return empty, empty


class FeedForward(nn.Module):
    """``down(silu(gate(x)) * up(x))``, whose hidden units belong to shells."""

    def __init__(self, widths: Sequence[int], hidden: Sequence[int]) -> None:
        super().__init__()
        self.gate = TriangularLinear(widths, hidden)
        self.up = TriangularLinear(widths, hidden)
        self.down = TriangularLinear(hidden, widths)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Head(nn.Module):
    """Normalise and score every token; ``(N, T, width)`` to ``(N, T, vocabulary)`` logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm = NestedNorm(config.widths)
        self.scores = nn.Linear(config.widths[-1], config.vocabulary, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.norm(x))

    def score_every_width(self, x: Tensor) -> list[Tensor]:
        """Logits of every width, the narrowest first; each adds what its own shell says."""
        normal = self.norm(x)
        found: list[Tensor] = []
        for begin, end in pairwise((0, *self.norm.edges)):
            shell = F.linear(normal[..., begin:end], self.scores.weight[:, begin:end])
            found.append(shell if not found else found[-1] + shell)
        return found


def make_decoder(config: Config) -> Decoder:
    """Make the plain network: ``(N, T)`` token ids to ``(N, T, vocabulary)`` logits."""
    width = config.widths[-1]
    layers = [
        Layer(
            (NestedNorm(config.widths), NestedNorm(config.widths)),
            Attention(config.widths, config.heads, config.head_size),
            FeedForward(config.widths, config.ffn),
            config.dropout,
        )
        for _ in range(config.depth)
    ]
    embedding = Embedding(config.vocabulary, config.context, width, config.dropout, learned=False)
    return Decoder(embedding, layers, Head(config), tied=False)


# -- the table -----------------------------------------------------------------------------------


def make_space(config: Config) -> SearchSpace:
    """Make the space of the one choice ``width``."""
    return SearchSpace((Choice("width", config.widths, "width"),))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``."""
    model = make_network(config, make_decoder, _initialise)
    space = make_space(config)
    choice = space.choice("width")
    width = follow(choice, int)
    shells = follow(choice, lambda value: config.widths.index(int(value)) + 1)
    edges = follow(choice, lambda value: tuple(w for w in config.widths if w <= value))
    edits: list[Edit] = [
        Cut("embedding.tokens.weight", 1, width),
        Set("embedding.tokens", "embedding_dim", width),
        Cut("head.scores.weight", 1, width),
        Set("head.scores", "in_features", width),
    ]
    for path, module in model.named_modules():
        if isinstance(module, NestedNorm):
            edits += [Cut(f"{path}.weight", 0, width), Set(path, "edges", edges)]
        elif isinstance(module, TriangularLinear):
            edits.append(Drop(f"{path}.shells", shells))
    members = {space.architecture({"width": w}): i for i, w in enumerate(config.widths)}
    return Supernet(
        model,
        space,
        edits,
        units=["embedding", *(f"layers.{i}" for i in range(config.depth)), "head"],
        inputs=InputSpec((config.context,), torch.int64),
        no_decay=["model.embedding.tokens.weight"],
        one_pass=OnePass(members, {"every_width": True}),
    )


def make_uniform(space: SearchSpace, granularity: int) -> Architecture:
    """Make the architecture of one width, counted from 0 as the narrowest or back from -1."""
    widths = space.choice("width").values
    if not -len(widths) <= granularity < len(widths):
        raise InputError(
            f"granularity {granularity} does not exist; there are {len(widths)}, counted from 0"
        )
    return space.architecture({"width": widths[granularity]})


def _initialise(model: Decoder) -> None:
    """Unit-variance projections; what is added to the residual stream shrinks with the depth."""
    nn.init.normal_(model.embedding.tokens.weight, std=0.02)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and not name.startswith("embedding."):
            std = parameter.shape[1] ** -0.5
            if ".out." in name or ".down." in name:
                std /= (2 * len(model.layers)) ** 0.5
            nn.init.normal_(parameter, std=std)
