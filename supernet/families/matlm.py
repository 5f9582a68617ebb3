"""MatLM: a decoder with nested FFNs per layer and elastic depth (MatFormer, Devvrit 2023).

The network is the decoder that language models are built as now (:mod:`_decoder`): RMSNorm, rotary
positions, grouped-query attention and gated feed-forwards. What a configuration turns off of these
gives the MatLM of earlier releases, whose records and weights are still read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from supernet.data import TEXT, DataShape
from supernet.dataclass_json import decode_dataclass
from supernet.elastic.edits import Cut, Drop, Edit, Rule, Set, follow
from supernet.errors import InputError
from supernet.families._checks import check_dropout, check_options, check_positive
from supernet.families._configuration import fit_text, make_network
from supernet.families._decoder import (
    Attention,
    Decoder,
    Embedding,
    FeedForward,
    GatedFeedForward,
    Head,
    Layer,
)
from supernet.families._experts import check_experts, mix_stack
from supernet.families._transformer_rows import (
    find_need,
    input_rows,
    norm_rows,
    output_rows,
)
from supernet.family_config import WHERE
from supernet.space import Architecture, Choice, SearchSpace, Value
from supernet.supernet import InputSpec, Supernet

TASK = TEXT
SUMMARY = "Decoder language model, elastic FFN and heads per layer, depth and width (MatFormer)"
DEFAULT_PRESET = "tiny"
CONTRACT_PRESETS = ("tiny", "wide", "classic")
NORMS = ("rms", "layer")
POSITIONS = ("rotary", "learned")
ACTIVATIONS = ("swiglu", "gelu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one MatLM supernet.

    Args:
        vocabulary: Number of distinct tokens.
        context: Most tokens the model sees at once.
        widths: Widths the residual stream may have, rising; each is a prefix of the next.
        heads: Numbers of query heads a layer may have, rising multiples of ``groups``.
        groups: Key-value heads of every layer, each shared by an equal number of query heads.
        head_size: Entries of a head.
        ffn: Hidden sizes a layer may have, rising; each is a prefix of the next.
        depths: Numbers of layers the model may have, rising; the first layers stay.
        norm: ``"rms"`` (RMSNorm) or ``"layer"`` (LayerNorm).
        positions: ``"rotary"``, or ``"learned"`` vectors.
        activation: ``"swiglu"``, a gated feed-forward, or ``"gelu"``.
        bias: Whether projections have biases.
        tied: Whether the output layer shares the vectors of tokens.
        qk_norm: Whether queries and keys are normalised.
        window: Tokens that one sees in most layers, itself included; 0 for all before it.
        global_every: With a window, every so manieth layer sees all tokens; 0 for none.
        rotary_base: Of the wavelengths of rotary positions.
        dropout: Dropout of the embedding and of what every block adds to the residual stream.
        experts: Weights of every projection of a layer, which a router mixes for each architecture
            (Mixture-of-Supernets, Jawahar et al. 2023); 1 for plain ones.
        routing: With experts, ``"layer"`` mixes whole weights, ``"neuron"`` every row by itself.
        seed: Seed of the initial weights.

    Raises:
        InputError: A field makes no network; the message names it.
    """

    vocabulary: int = 256
    context: int = 64
    widths: tuple[int, ...] = (64,)
    heads: tuple[int, ...] = (2, 4)
    groups: int = 2
    head_size: int = 16
    ffn: tuple[int, ...] = (32, 64, 96, 192)
    depths: tuple[int, ...] = (2, 3, 4)
    norm: str = "rms"
    positions: str = "rotary"
    activation: str = "swiglu"
    bias: bool = False
    tied: bool = False
    qk_norm: bool = False
    window: int = 0
    global_every: int = 0
    rotary_base: float = 10000.0
    dropout: float = 0.0
    experts: int = 1
    routing: str = "layer"
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(
            vocabulary=self.vocabulary,
            context=self.context,
            groups=self.groups,
            head_size=self.head_size,
        )
        check_options(self, "widths", "heads", "ffn", "depths")
        for name in ("widths", "heads", "ffn", "depths"):
            if min(getattr(self, name)) < 1:
                values = list(getattr(self, name))
                raise InputError(f"{name} = {values} must be rising numbers from 1 up")
        for name, options in (
            ("norm", NORMS),
            ("positions", POSITIONS),
            ("activation", ACTIVATIONS),
        ):
            if getattr(self, name) not in options:
                raise InputError(
                    f"{name} = {getattr(self, name)!r} is unknown; it is one of "
                    f"{', '.join(options)}"
                )
        odd = [count for count in self.heads if count % self.groups]
        if odd:
            raise InputError(
                f"heads = {list(self.heads)} do not divide into {self.groups} key-value heads: "
                f"{odd[0]} is no multiple of {self.groups}"
            )
        if self.positions == "rotary" and self.head_size % 2:
            raise InputError(
                f"head_size = {self.head_size} is odd; rotary positions turn pairs of entries"
            )
        if self.rotary_base <= 1:
            raise InputError(f"rotary_base = {self.rotary_base} must be above 1")
        for name in ("window", "global_every"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} = {getattr(self, name)} must be at least 0")
        check_dropout(self.dropout)
        check_experts(self.experts, self.routing)


PRESETS: dict[str, Config] = {
    "tiny": Config(),
    "wide": Config(
        widths=(32, 48, 64), heads=(2, 4), tied=True, qk_norm=True, window=16, global_every=2
    ),
    "classic": Config(
        heads=(4,),
        groups=4,
        ffn=(32, 64, 128, 256),
        norm="layer",
        positions="learned",
        activation="gelu",
        bias=True,
    ),
    "experts": Config(experts=2, routing="neuron"),
    "small": Config(
        context=128,
        widths=(256,),
        heads=(4, 8),
        groups=4,
        head_size=32,
        ffn=(96, 192, 384, 768),
        depths=(4, 5, 6),
        dropout=0.1,
    ),
    "base": Config(
        context=512,
        widths=(512,),
        heads=(4, 8),
        groups=4,
        head_size=64,
        ffn=(192, 352, 704, 1408),
        depths=(6, 7, 8),
        qk_norm=True,
        dropout=0.1,
    ),
    "large": Config(
        context=1024,
        widths=(1024,),
        heads=(8, 16),
        groups=4,
        head_size=64,
        ffn=(352, 704, 1408, 2816),
        depths=(12, 14, 16),
        tied=True,
        qk_norm=True,
        window=256,
        global_every=4,
    ),
}


def configure(preset: str, shape: DataShape) -> Config:
    """Fit a preset to the vocabulary and context of a text.

    Raises:
        InputError: Unknown preset, or data that is not text.
    """
    return fit_text(PRESETS, preset, shape, "matlm")


def from_json(payload: Mapping[str, Any]) -> Config:
    """Make a configuration of its record, also of one that an earlier release has written.

    That had a single ``width`` and number of ``heads``, and no choice of normalisation, positions
    or activation: LayerNorm, learned positions, GELU, biases, and a key-value head per head.

    Raises:
        InputError: A field is unknown, missing, of another type or refused.
    """
    if "width" not in payload:
        return decode_dataclass(Config, payload, WHERE)
    width, heads = payload["width"], payload.get("heads", 4)
    if type(width) is not int or type(heads) is not int or heads < 1 or width % heads:
        raise InputError(
            f"{WHERE} has width {width!r} and heads {heads!r}; a width is a multiple of its heads"
        )
    known = ("vocabulary", "context", "width", "heads", "ffn", "depths", "dropout", "seed")
    for name in payload:
        if name not in known:
            raise InputError(
                f"{WHERE} has both width, of an earlier release, and {name!r}, which that has not"
            )
    kept = {name: value for name, value in payload.items() if name not in ("width", "heads")}
    former = {"ffn": [32, 64, 128, 256]}
    style = {"norm": "layer", "positions": "learned", "activation": "gelu", "bias": True}
    attention = {"widths": [width], "heads": [heads], "groups": heads, "head_size": width // heads}
    return decode_dataclass(Config, {**former, **kept, **style, **attention}, WHERE)


# -- the plain network ---------------------------------------------------------------------------


def make_decoder(config: Config) -> Decoder:
    """Make the largest network of a configuration, with whatever weights torch gives it."""
    width = config.widths[-1]
    embedding = Embedding(
        config.vocabulary, config.context, width, config.dropout, config.positions == "learned"
    )
    layers = [_make_layer(config, place) for place in range(1, config.depths[-1] + 1)]
    head = Head(_make_norm(config), width, config.vocabulary)
    return Decoder(embedding, layers, head, tied=config.tied)


def _make_layer(config: Config, place: int) -> Layer:
    width = config.widths[-1]
    sees_all = config.global_every and place % config.global_every == 0
    attention = Attention(
        width,
        config.heads[-1],
        config.groups,
        config.head_size,
        bias=config.bias,
        base=config.rotary_base if config.positions == "rotary" else 0.0,
        normalized=config.qk_norm,
        window=0 if sees_all else config.window,
    )
    block = GatedFeedForward if config.activation == "swiglu" else FeedForward
    ffn = block(width, config.ffn[-1], config.bias)
    return Layer((_make_norm(config), _make_norm(config)), attention, ffn, config.dropout)


def _make_norm(config: Config) -> nn.Module:
    width = config.widths[-1]
    return nn.RMSNorm(width, eps=1e-6) if config.norm == "rms" else nn.LayerNorm(width)


# -- the table -----------------------------------------------------------------------------------


def make_space(config: Config) -> SearchSpace:
    """Make the space: ``depth``, then ``width``, ``layer1.heads``, ``layer1.ffn`` and so on.

    Of width and heads there is a choice where there is more than one option.
    """
    choices = [Choice("depth", config.depths, "depth")]
    if len(config.widths) > 1:
        choices.append(Choice("width", config.widths, "width"))
    for i in range(1, max(config.depths) + 1):
        needs = find_need(config.depths, i)
        if len(config.heads) > 1:
            choices.append(Choice(f"layer{i}.heads", config.heads, "heads", needs))
        choices.append(Choice(f"layer{i}.ffn", config.ffn, "ffn", needs))
    return SearchSpace(tuple(choices))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``."""
    model = make_network(config, make_decoder, _initialise)
    space = make_space(config)
    width = follow(space.choice("width"), int) if "width" in space.names else None
    layers = range(1, len(model.layers) + 1)
    edits: list[Edit] = [Drop("layers", follow(space.choice("depth"), int))]
    for i in layers:
        edits += _list_layer_rows(config, space, i, width)
    if width is not None:
        edits += _list_outer_rows(model, width)
    mixed = mix_stack(model, model.layers, space, config)
    no_decay = ["model.embedding.tokens.weight", *mixed.no_decay]
    if model.embedding.positions is not None:
        no_decay.append("model.embedding.positions")
    return Supernet(
        model,
        space,
        [*edits, *mixed.rows],
        units=["embedding", *(f"layers.{i - 1}" for i in layers), "head"],
        inputs=InputSpec((config.context,), torch.int64),
        shared=mixed.shared,
        no_decay=no_decay,
        upgrade=_split_projections,
    )


def _list_layer_rows(
    config: Config, space: SearchSpace, place: int, width: Rule | None
) -> list[Edit]:
    """The rows of one layer; ``width`` is that of the residual stream where it is a choice."""
    path = f"layers.{place - 1}"
    attention, ffn = f"{path}.attention", f"{path}.ffn"
    hidden = follow(space.choice(f"layer{place}.ffn"), int)
    wide = ("gate", "up") if config.activation == "swiglu" else ("up",)
    rows: list[Edit] = []
    for name in wide:
        rows += output_rows(f"{ffn}.{name}", hidden, bias=config.bias)
    rows += input_rows(f"{ffn}.down", hidden)
    if f"layer{place}.heads" in space.names:
        size = follow(space.choice(f"layer{place}.heads"), lambda n: int(n) * config.head_size)
        rows += output_rows(f"{attention}.query", size, bias=config.bias)
        rows += input_rows(f"{attention}.out", size)
    if width is not None:
        for name in ("query", "key", "value"):
            rows += input_rows(f"{attention}.{name}", width)
        rows += output_rows(f"{attention}.out", width, bias=config.bias)
        for name in wide:
            rows += input_rows(f"{ffn}.{name}", width)
        rows += output_rows(f"{ffn}.down", width, bias=config.bias)
        for name in ("norm1", "norm2"):
            rows += norm_rows(f"{path}.{name}", width, bias=config.norm == "layer")
    return rows


def _list_outer_rows(model: Decoder, width: Rule) -> list[Edit]:
    """The rows of what is before and after the layers."""
    rows: list[Edit] = [
        Cut("embedding.tokens.weight", 1, width),
        Set("embedding.tokens", "embedding_dim", width),
    ]
    if model.embedding.positions is not None:
        rows.append(Cut("embedding.positions", 1, width))
    rows += norm_rows("head.norm", width, bias=isinstance(model.head.norm, nn.LayerNorm))
    return [*rows, *input_rows("head.scores", width)]


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


def _split_projections(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give weights of earlier releases, whose queries, keys and values were one, their names."""
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        before, fused, kind = name.partition(".attention.qkv.")
        if not fused:
            found[name] = tensor
            continue
        # What an optimiser counts (its steps) is one number for the three of them.
        pieces = tensor.chunk(3) if tensor.ndim else (tensor,) * 3
        for part, piece in zip(("query", "key", "value"), pieces, strict=True):
            found[f"{before}.attention.{part}.{kind}"] = piece
    return found


# -- uniform members -----------------------------------------------------------------------------


def list_granularities(space: SearchSpace) -> tuple[int, ...]:
    """List the FFN hidden sizes a layer may have, smallest first."""
    return tuple(int(value) for value in space.choice("layer1.ffn").values)


def make_uniform(space: SearchSpace, granularity: int, depth: int | None = None) -> Architecture:
    """Make the architecture with one FFN size in every layer (MatFormer, section 3.2).

    It has all heads and the whole width.

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
        name: sizes[granularity] if name.endswith(".ffn") else space.choice(name).values[-1]
        for name in space.names
    }
    values["depth"] = space.choice("depth").values[-1] if depth is None else depth
    return space.architecture(values)
