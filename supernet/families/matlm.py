"""MatLM: a decoder with nested FFNs per layer and elastic depth (MatFormer, Devvrit 2023)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.data import DataShape
from supernet.elastic.edits import Cut, Drop, Edit, Set, follow
from supernet.errors import InputError
from supernet.families._checks import check_dropout, check_heads, check_positive
from supernet.families._configuration import find_preset, make_network
from supernet.space import Architecture, Choice, SearchSpace, Value
from supernet.supernet import InputSpec, Supernet

TASK = "language-modelling"
SUMMARY = "Decoder language model with nested FFN sizes per layer and elastic depth (MatFormer)"
DEFAULT_PRESET = "tiny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one MatLM supernet.

    Args:
        vocabulary: Number of distinct tokens.
        context: Most tokens the model sees at once.
        width: Width of the residual stream.
        heads: Attention heads in every layer; their size is ``width / heads``.
        ffn: Hidden sizes a layer may have, rising; each is a prefix of the next.
        depths: Numbers of layers the model may have, rising; the first layers stay.
        dropout: Dropout of the embedding and of what every block adds to the residual stream.
        seed: Seed of the initial weights.

    Raises:
        InputError: A field makes no network; the message names it.
    """

    vocabulary: int = 256
    context: int = 64
    width: int = 64
    heads: int = 4
    ffn: tuple[int, ...] = (32, 64, 128, 256)
    depths: tuple[int, ...] = (2, 3, 4)
    dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(
            vocabulary=self.vocabulary, context=self.context, width=self.width, heads=self.heads
        )
        for name in ("ffn", "depths"):
            values = getattr(self, name)
            if not values or list(values) != sorted(set(values)) or values[0] < 1:
                raise InputError(f"{name} = {list(values)} must be rising numbers from 1 up")
        check_heads(self.width, self.heads)
        check_dropout(self.dropout)


PRESETS: dict[str, Config] = {
    "tiny": Config(),
    "small": Config(
        context=128,
        width=256,
        heads=8,
        ffn=(128, 256, 512, 1024),
        depths=(4, 5, 6),
        dropout=0.1,
    ),
}


def configure(preset: str, shape: DataShape) -> Config:
    """Fit a preset to the vocabulary and context of a text.

    Raises:
        InputError: Unknown preset, or data that is not text.
    """
    base = find_preset(PRESETS, preset)
    if shape.task != TASK:
        raise InputError(f"matlm is for {TASK}; this data is for {shape.task}, use text:PATH")
    return replace(base, vocabulary=shape.classes, context=shape.input[0])


# -- the plain network ---------------------------------------------------------------------------


class Embedding(nn.Module):
    """Token plus learned position; ``(N, T)`` ids to ``(N, T, width)``, ``T <= context``."""

    def __init__(self, vocabulary: int, context: int, width: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(context, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor) -> Tensor:
        length, context = ids.shape[1], self.positions.shape[0]
        if length > context:
            raise InputError(f"{length} tokens are more than the context of {context}")
        return self.dropout(self.tokens(ids) + self.positions[:length])


class Attention(nn.Module):
    """Causal self-attention; ``(N, T, width)`` to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        # Each (N, heads, T, width / heads).
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(x).split(x.shape[-1], dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """``down(gelu(up(x)))``; a smaller one keeps the first hidden units (MatFormer, 3.1)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Layer(nn.Module):
    """Pre-normalised attention and feed-forward, each added to the residual stream."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.ffn = FeedForward(width, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.ffn(self.norm2(x)))


class Head(nn.Module):
    """Normalise and score every token; ``(N, T, width)`` to ``(N, T, vocabulary)`` logits."""

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, vocabulary, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.norm(x))


class Decoder(nn.Module):
    """The plain network; ``(N, T)`` token ids to ``(N, T, vocabulary)`` next-token logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embedding = Embedding(config.vocabulary, config.context, config.width, config.dropout)
        self.layers = nn.ModuleList(
            Layer(config.width, config.heads, max(config.ffn), config.dropout)
            for _ in range(max(config.depths))
        )
        # Input and output embeddings are separate: at character vocabularies the second costs
        # little, and every weight belongs to exactly one cost unit.
        self.head = Head(config.width, config.vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


# -- the table -----------------------------------------------------------------------------------


def make_space(config: Config) -> SearchSpace:
    """Make the space: ``depth``, then ``layer1.ffn``, ``layer2.ffn``, ... of the layers there."""
    choices = [Choice("depth", config.depths, "depth")]
    for i in range(1, max(config.depths) + 1):
        later = i > min(config.depths)
        least = min(d for d in config.depths if d >= i)
        needs = ("depth", least) if later else None
        choices.append(Choice(f"layer{i}.ffn", config.ffn, "ffn", needs))
    return SearchSpace(tuple(choices))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``."""
    model = make_network(config, Decoder, _initialise)
    space = make_space(config)
    layers = range(1, len(model.layers) + 1)
    edits: list[Edit] = [Drop("layers", follow(space.choice("depth"), int))]
    for i in layers:
        edits += _ffn_rows(f"layers.{i - 1}.ffn", space.choice(f"layer{i}.ffn"))
    return Supernet(
        model,
        space,
        edits,
        units=["embedding", *(f"layers.{i - 1}" for i in layers), "head"],
        inputs=InputSpec((config.context,), torch.int64),
        no_decay=["model.embedding.tokens.weight", "model.embedding.positions"],
    )


def _ffn_rows(path: str, choice: Choice) -> list[Edit]:
    hidden = follow(choice, int)
    return [
        Cut(f"{path}.up.weight", 0, hidden),
        Cut(f"{path}.up.bias", 0, hidden),
        Set(f"{path}.up", "out_features", hidden),
        Cut(f"{path}.down.weight", 1, hidden),
        Set(f"{path}.down", "in_features", hidden),
    ]


def _initialise(model: Decoder) -> None:
    """Unit-variance projections; what is added to the residual stream shrinks with the depth."""
    for name, parameter in model.named_parameters():
        if name.startswith("embedding."):
            nn.init.normal_(parameter, std=0.02)
        elif parameter.dim() == 2:
            std = parameter.shape[1] ** -0.5
            if name.endswith(("attention.out.weight", "ffn.down.weight")):
                std /= (2 * len(model.layers)) ** 0.5
            nn.init.normal_(parameter, std=std)
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


# -- uniform members -----------------------------------------------------------------------------


def list_granularities(space: SearchSpace) -> tuple[int, ...]:
    """List the FFN hidden sizes a layer may have, smallest first."""
    return tuple(int(value) for value in space.choice("layer1.ffn").values)


def make_uniform(space: SearchSpace, granularity: int, depth: int | None = None) -> Architecture:
    """Make the architecture with one FFN size in every layer (MatFormer, section 3.2).

    Args:
        space: The space of a MatLM supernet.
        granularity: Position among :func:`list_granularities`, from 0; negative ones count from
            the end.
        depth: Number of layers; all of them by default.

    Raises:
        InputError: No such granularity or depth.
    """
    sizes = list_granularities(space)
    if not -len(sizes) <= granularity < len(sizes):
        raise InputError(
            f"granularity {granularity} does not exist; there are {len(sizes)}, counted from 0"
        )
    values: dict[str, Value] = {
        name: sizes[granularity] for name in space.names if name.endswith(".ffn")
    }
    values["depth"] = space.choice("depth").values[-1] if depth is None else depth
    return space.architecture(values)
