"""Any Hugging Face BERT made elastic in heads, FFN and depth by a table; needs ``supernet[hf]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import nn

from supernet.data import DataShape
from supernet.elastic.edits import Drop, Edit, Set, follow
from supernet.errors import InputError, MissingPackageError
from supernet.families._checks import check_dropout, check_filled, check_heads, check_positive
from supernet.families._configuration import find_preset
from supernet.families._transformer_rows import find_need, input_rows, output_rows
from supernet.space import Architecture, Choice, SearchSpace
from supernet.supernet import InputSpec, Supernet

TASK = "text-classification"
SUMMARY = "Hugging Face BERT with elastic heads and FFN size per layer and elastic depth"
DEFAULT_PRESET = "tiny"
REQUIRES = "transformers"


def _check_values(name: str, values: Sequence[int], own: int) -> None:
    rising = list(values) == sorted(set(values))
    if not values or not rising or values[0] < 1 or values[-1] != own:
        raise InputError(f"{name} = {list(values)} must be rising numbers from 1 up to {own}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A BERT with random weights and the choices it offers.

    Args:
        vocabulary: Number of distinct tokens.
        context: Tokens of one input.
        classes: Number of classes.
        width: Hidden size.
        heads: Numbers of attention heads a layer may have, rising; the first heads stay. The
            size of a head is ``width`` over the largest.
        ffn: Hidden sizes of a layer's feed-forward, rising.
        depths: Numbers of layers, rising; the first layers stay.
        dropout: Dropout after embeddings and every block, and of attention weights.
        seed: Seed of the initial weights.

    Raises:
        InputError: A field makes no network; the message names it.
    """

    vocabulary: int = 128
    context: int = 32
    classes: int = 2
    width: int = 64
    heads: tuple[int, ...] = (1, 2, 4)
    ffn: tuple[int, ...] = (64, 128, 256)
    depths: tuple[int, ...] = (1, 2, 3)
    dropout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(
            vocabulary=self.vocabulary,
            context=self.context,
            classes=self.classes,
            width=self.width,
        )
        check_filled(heads=self.heads, ffn=self.ffn, depths=self.depths)
        for name in ("heads", "ffn", "depths"):
            values = getattr(self, name)
            _check_values(name, values, values[-1])
        check_heads(self.width, self.heads[-1])
        check_dropout(self.dropout)


PRESETS: dict[str, Config] = {
    "tiny": Config(),
    "base": Config(
        vocabulary=30522,
        context=128,
        width=768,
        heads=(6, 8, 10, 12),
        ffn=(768, 1536, 2304, 3072),
        depths=(6, 8, 10, 12),
    ),
}


def configure(preset: str, shape: DataShape) -> Config:
    """Fit a preset to the context and number of classes of a data set.

    Raises:
        InputError: Unknown preset, or data that is not text to classify.
    """
    base = find_preset(PRESETS, preset)
    if shape.task != TASK:
        raise InputError(
            f"bert is for {TASK}; this data is for {shape.task}; "
            "train it through the Python API with your own batches"
        )
    return replace(base, context=shape.input[0], classes=shape.classes)


def build(config: Config) -> Supernet:
    """Build an elastic ``BertForSequenceClassification`` with random weights.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """
    transformers = _import_transformers()
    bert = transformers.BertConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.depths[-1],
        num_attention_heads=config.heads[-1],
        intermediate_size=config.ffn[-1],
        max_position_embeddings=config.context,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        num_labels=config.classes,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = transformers.BertForSequenceClassification(bert)
    return make_elastic(
        model, heads=config.heads, ffn=config.ffn, depth=config.depths, context=config.context
    )


# -- the table -----------------------------------------------------------------------------------


def make_elastic(
    model: nn.Module,
    *,
    heads: Sequence[int] | None = None,
    ffn: Sequence[int] | None = None,
    depth: Sequence[int] | None = None,
    context: int | None = None,
) -> Supernet:
    """Make a BERT elastic; it stays the module it is and keeps its weights.

    ``supernet(ids, architecture, attention_mask=..., labels=...)`` returns what the model returns.

    Args:
        model: ``BertModel``, or a model with one as ``.bert`` (``BertForSequenceClassification``).
        heads: Numbers of heads to offer in every layer, rising up to the model's own.
        ffn: Feed-forward sizes to offer in every layer, rising up to the model's own.
        depth: Numbers of layers to offer, rising up to the model's own.
        context: Tokens of one input, for cost and export; by default 128 or the model's limit.

    Raises:
        InputError: Not a BERT encoder, or values that do not rise up to the model's own.
        ModuleNotFoundError: transformers is not installed.
    """
    transformers = _import_transformers()
    inside = "" if isinstance(model, transformers.BertModel) else "bert"
    bert = model if inside == "" else getattr(model, inside, None)
    if not isinstance(bert, transformers.BertModel):
        raise InputError(f"{type(model).__name__} is no BERT: it has no BertModel as .bert")
    config = bert.config
    if config.is_decoder or config.add_cross_attention:
        raise InputError("this BERT is a decoder; elastic BERTs are encoders")
    offered = {
        "depth": _choose_offered("depth", depth, config.num_hidden_layers),
        "heads": _choose_offered("heads", heads, config.num_attention_heads),
        "ffn": _choose_offered("ffn", ffn, config.intermediate_size),
    }
    limit = config.max_position_embeddings
    length = min(128, limit) if context is None else context
    if not 1 <= length <= limit:
        raise InputError(f"context = {length} must be between 1 and the model's limit of {limit}")
    space = make_space(offered)
    path = f"{inside}." if inside else ""
    return Supernet(
        model,
        space,
        _rows(path, space, config.hidden_size // config.num_attention_heads),
        units=_list_units(model, path, config.num_hidden_layers),
        inputs=InputSpec((length,), torch.int64),
        no_decay=[f"model.{path}embeddings.position_embeddings.weight"],
    )


def make_space(offered: Mapping[str, Sequence[int]]) -> SearchSpace:
    """Make the space: ``depth``, then ``layer1.heads``, ``layer1.ffn`` and so on."""
    depths = tuple(offered["depth"])
    choices = [Choice("depth", depths, "depth")]
    for i in range(1, max(depths) + 1):
        needs = find_need(depths, i)
        for kind in ("heads", "ffn"):
            choices.append(Choice(f"layer{i}.{kind}", tuple(offered[kind]), kind, needs))
    return SearchSpace(tuple(choices))


def _rows(path: str, space: SearchSpace, head: int) -> list[Edit]:
    """The whole table; ``path`` leads to the ``BertModel``, ``head`` is the size of one head."""
    depth = space.choice("depth")
    rows: list[Edit] = [Drop(f"{path}encoder.layer", follow(depth, int))]
    for i in range(1, max(int(value) for value in depth.values) + 1):
        layer = f"{path}encoder.layer.{i - 1}"
        attention, heads = f"{layer}.attention.self", space.choice(f"layer{i}.heads")
        size = follow(heads, lambda count: count * head)
        for name in ("query", "key", "value"):
            rows += output_rows(f"{attention}.{name}", size)
        rows += input_rows(f"{layer}.attention.output.dense", size)
        rows += [
            Set(attention, "num_attention_heads", follow(heads, int)),
            Set(attention, "all_head_size", size),
        ]
        hidden = follow(space.choice(f"layer{i}.ffn"), int)
        rows += output_rows(f"{layer}.intermediate.dense", hidden)
        rows += input_rows(f"{layer}.output.dense", hidden)
    return rows


def _list_units(model: nn.Module, path: str, layers: int) -> list[str]:
    """Embeddings, every layer, and what comes after: pooler and the modules beside the BERT."""
    units = [f"{path}embeddings", *(f"{path}encoder.layer.{i}" for i in range(layers))]
    bert = model.get_submodule("bert") if path else model
    if bert.pooler is not None:
        units.append(f"{path}pooler")
    if path:
        beside = (name for name, _ in model.named_children() if name != "bert")
        units += [
            name for name in beside if any(True for _ in model.get_submodule(name).parameters())
        ]
    return units


# -- back to stock transformers ------------------------------------------------------------------


def to_transformers(supernet: Supernet, architecture: Architecture) -> nn.Module:
    """Write the subnetwork as a stock model of the supernet's class, of a smaller config.

    ``save_pretrained`` and everything else of transformers works on the result. A ``BertConfig``
    holds one number of heads and one FFN size for all layers and always divides the whole hidden
    size among the heads, so only architectures with every head and one FFN size can be expressed.
    Any other is available from :meth:`Supernet.extract`.

    Args:
        supernet: Made by :func:`make_elastic` or :func:`build`.
        architecture: A member of its space.

    Raises:
        InputError: The architecture cannot be expressed; the message says why.
    """
    supernet.space.check(architecture)
    model: Any = supernet.model
    values, config = architecture.to_dict(), model.config
    found = {
        kind: {value for name, value in values.items() if name.endswith(f".{kind}")}
        for kind in ("heads", "ffn")
    }
    if len(found["ffn"]) > 1:
        raise InputError(
            f"layers have different FFN sizes {sorted(found['ffn'])}, and a BertConfig has one "
            "intermediate_size; use extract() instead"
        )
    if found["heads"] != {config.num_attention_heads}:
        head = config.hidden_size // config.num_attention_heads
        raise InputError(
            f"layers have {sorted(found['heads'])} heads of size {head}, and a BertConfig makes "
            f"every head hidden_size / num_attention_heads wide, so that hidden_size "
            f"{config.hidden_size} means {config.num_attention_heads} heads; "
            "use extract() instead"
        )
    changes = {"num_hidden_layers": values["depth"], "intermediate_size": found["ffn"].pop()}
    smaller = type(config).from_dict({**config.to_dict(), **changes})
    smaller._attn_implementation = config._attn_implementation
    extracted = supernet.extract(architecture)
    with torch.random.fork_rng(devices=[]):
        if hasattr(model, "bert"):
            stock = type(model)(smaller)
        else:
            stock = type(model)(smaller, add_pooling_layer=model.pooler is not None)
    stock.to(next(extracted.parameters()))
    stock.load_state_dict(extracted.state_dict(), strict=True)
    return stock.train(extracted.training)


def _import_transformers() -> ModuleType:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "the bert family needs transformers; install it with: pip install 'supernet[hf]'"
        ) from error
    module: ModuleType = transformers
    return module


def _choose_offered(name: str, values: Sequence[int] | None, own: int) -> tuple[int, ...]:
    if values is None:
        return (own,)
    _check_values(name, values, own)
    return tuple(values)
