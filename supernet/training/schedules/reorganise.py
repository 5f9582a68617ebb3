"""Channels in the order of their importance, so that a narrow network keeps those that matter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from supernet.elastic.edits import Cut, Derive, Rule
from supernet.errors import InputError
from supernet.space import Value
from supernet.supernet import Supernet

KINDS = ("expand", "ffn")

Measure = Literal["readers", "weights", "activations"]


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Tensors that carry one set of channels: what makes them, normalises them and reads them.

    Args:
        rows: The table's rows that share one rule.
        consumers: Those of them whose tensors read the channels: input columns of convolutions
            and linear layers.
        block: Channels that move together: the entries of an attention head, else 1.
        streams: Block *i* may only go where block *i* + a multiple of ``streams`` is: query heads
            that share a key-value head are that far apart.
    """

    rows: tuple[Cut, ...]
    consumers: tuple[Cut, ...]
    block: int = 1
    streams: int = 1

    @property
    def rule(self) -> Rule:
        """How many channels are kept."""
        return self.rows[0].size


@dataclass(frozen=True, eq=False)
class Reordering:
    """A group and its new order: entry *i* says which channel moved to place *i*."""

    group: ChannelGroup
    order: Tensor


def find_channel_groups(supernet: Supernet, kinds: Sequence[str] = KINDS) -> list[ChannelGroup]:
    """Find the sets of channels that may be permuted without changing what is computed.

    A set is all rows of the table that share one ``Rule`` object. Sets without a layer that makes
    them or one that reads them are left out (a flattening may stand between the two), and so are
    channels that grouped convolutions or group normalisation tie to their neighbours.

    Args:
        supernet: The supernet whose table is read.
        kinds: Kinds of choices whose channels are meant. Those of ``"heads"`` move by whole heads,
            and only among the query heads that share a key-value head.

    Raises:
        InputError: A layer has experts, which a permutation of the model's own weights would leave
            behind.
    """
    for edit in supernet.edits:
        if isinstance(edit, Derive) and edit.alike:
            layer = edit.tensor.rpartition(".")[0]
            raise InputError(
                f"layer {layer} has several experts, whose channels cannot be sorted; "
                "train it without phases = 'progressive', or give it one expert"
            )
    wanted = {choice.name for choice in supernet.space.choices if choice.kind in kinds}
    rows: dict[int, list[Cut]] = {}
    for edit in supernet.edits:
        if isinstance(edit, Cut) and wanted.intersection(edit.size.choices):
            rows.setdefault(id(edit.size), []).append(edit)
    tensors = _name_tensors(supernet.model)
    groups = []
    for cuts in rows.values():
        consumers = _find_consumers(supernet, cuts, tensors)
        made = any(_makes(supernet.model, cut, tensors) for cut in cuts)
        if consumers and made and not any(_is_tied(supernet.model, cut) for cut in cuts):
            block, streams = _find_blocks(supernet, cuts, tensors)
            if block:
                groups.append(ChannelGroup(tuple(cuts), tuple(consumers), block, streams))
    return groups


@torch.no_grad()
def reorganise(
    supernet: Supernet,
    *,
    kinds: Sequence[str] = KINDS,
    trained: Mapping[str, Sequence[Value]] | None = None,
    measure: Measure = "readers",
    batches: Iterable[Tensor] = (),
) -> tuple[Reordering, ...]:
    """Sort channels by importance, in place, before options that cut them are trained.

    The importance of a channel is the L1 norm of the weights that read it, by default; that of an
    attention head is the sum over its channels. Networks of full width
    compute what they did before. So do those of every width in ``trained``: channels move only
    between two neighbouring widths that are trained already (Cai et al., "Once-for-All", section
    3.2; its released code orders bands of channels in the same way).

    Parameters keep their storage. Whoever holds other tensors of the same layout (averaged
    weights, moments of an optimiser) permutes them with :func:`permute`, or starts them afresh.

    Args:
        supernet: The supernet whose parameters and buffers are permuted.
        kinds: Kinds of choices whose channels are sorted.
        trained: Values that were trained so far, by the name of the choice; choices not named
            were trained at their largest value alone.
        measure: What makes a channel important. ``"readers"``: the L1 norm of what reads it.
            ``"weights"``: that times the L1 norm of what makes it, biases included, after the
            rewiring of ViT-ResNAS (Liao et al. 2021); its released code adds the two, and only
            the product is indifferent to which of them holds a common factor. ``"activations"``:
            the first times the channel's root mean square over ``batches``.
        batches: Inputs that the largest network is run on to measure activations.

    Returns:
        What was done: equal on all ranks that hold equal weights (and saw equal batches).

    Raises:
        InputError: ``trained`` names an unknown choice or value, ``measure`` is unknown,
            activations are to be measured without batches, or a layer has experts.
    """
    if measure not in get_args(Measure):
        raise InputError(
            f"measure = {measure!r} is unknown; it must be one of {', '.join(get_args(Measure))}"
        )
    values: dict[str, tuple[Value, ...]] = {
        choice.name: choice.values[-1:] for choice in supernet.space.choices
    }
    for name, some in (trained or {}).items():
        if name not in values:
            supernet.space.restrict({name: some})  # says what is wrong with the name
        choice = supernet.space.choice(name)
        values[name] = tuple(choice.values[choice.position(value)] for value in some)
    tensors = _name_tensors(supernet.model)
    done = []
    groups = find_channel_groups(supernet, kinds)
    # What passes is measured while nothing has moved yet.
    inputs = _measure_inputs(supernet.model, groups, batches) if measure == "activations" else {}
    for group in groups:
        importance = _measure_importance(group, tensors, inputs)
        if measure == "weights":
            importance = importance * _measure_makers(supernet.model, group, tensors)
        order = _sort_blocks(group, importance, _find_trained_sizes(group.rule, values))
        done.append(Reordering(group, torch.from_numpy(order)))
        _apply(done[-1], tensors)
    return tuple(done)


@torch.no_grad()
def permute(reorderings: Sequence[Reordering], tensors: Mapping[str, Tensor]) -> None:
    """Re-order tensors laid out like the supernet's own, in place.

    Args:
        reorderings: What :func:`reorganise` returned.
        tensors: Tensors by names as in ``supernet.named_parameters()``
            (``"model.stem.conv.weight"``); some may be missing.
    """
    prefix = "model."
    known = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    for reordering in reorderings:
        _apply(reordering, known)


def _name_tensors(model: nn.Module) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    return tensors | dict(model.named_buffers(remove_duplicate=False))


def _find_consumers(
    supernet: Supernet, cuts: Sequence[Cut], tensors: Mapping[str, Tensor]
) -> list[Cut]:
    readers = [cut for cut in cuts if cut.dim == 1 and tensors[cut.tensor].ndim > 1]

    def leaves(cut: Cut) -> bool:
        # Channels inside a squeeze-excite come back to where they started: it reads the channels
        # only to scale them, and what it makes of them is cut by the same choice.
        outputs = [c for c in supernet.edit_index.cuts[cut.tensor] if c.dim == 0]
        return not any(set(c.size.choices) == set(cut.size.choices) for c in outputs)

    return [cut for cut in readers if leaves(cut)] or readers


def _makes(model: nn.Module, cut: Cut, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a layer makes the channels out of others; a depthwise one only passes them on."""
    return (
        cut.dim == 0 and tensors[cut.tensor].ndim > 1 and not _is_depthwise(_find_owner(model, cut))
    )


def _is_tied(model: nn.Module, cut: Cut) -> bool:
    """Whether a layer treats neighbouring channels as one group."""
    module = _find_owner(model, cut)
    if isinstance(module, nn.GroupNorm):
        return 1 < module.num_groups < module.num_channels
    return isinstance(module, _ConvNd) and module.groups > 1 and not _is_depthwise(module)


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and (
        1 < module.groups == module.in_channels == module.out_channels
    )


def _find_owner(model: nn.Module, cut: Cut) -> nn.Module:
    return model.get_submodule(cut.tensor.rpartition(".")[0])


def _find_blocks(
    supernet: Supernet, cuts: Sequence[Cut], tensors: Mapping[str, Tensor]
) -> tuple[int, int]:
    """Channels that move together, and how far apart those are that may change places.

    A block of 0 where a rule does not say how large a head is.
    """
    rule = cuts[0].size
    heads = [n for n in rule.choices if supernet.space.choice(n).kind == "heads"]
    if not heads:
        return 1, 1
    if len(rule.choices) > 1 or any(size % int(key[0]) for key, size in rule.values.items()):
        return 0, 1
    blocks = {size // int(key[0]) for key, size in rule.values.items()}
    makers = [cut for cut in cuts if _makes(supernet.model, cut, tensors)]
    # A module of attention whose key-value heads are shared says how many there are.
    paths = {cut.tensor.rsplit(".", 2)[0] for cut in makers}
    streams = {int(getattr(supernet.model.get_submodule(p), "groups", 1)) for p in paths}
    # Where keys are cut along with queries, each query head has its own.
    own = 1 if len(makers) > 1 else max(streams)
    return (blocks.pop(), own) if len(blocks) == 1 else (0, own)


def _sum_per_channel(cut: Cut, tensor: Tensor) -> Tensor:
    """L1 norm of the part of a tensor that belongs to each channel, ``(channels,)`` of float64."""
    parts = tensor.detach().double().cpu().abs().movedim(cut.dim, 0)
    return parts.reshape(len(parts), -1).sum(1).view(cut.blocks, -1).sum(0)


def _measure_importance(
    group: ChannelGroup, tensors: Mapping[str, Tensor], inputs: Mapping[str, Tensor]
) -> np.ndarray:
    """L1 norm of what reads each channel, shape ``(channels,)``; float64, in a fixed order.

    Args:
        group: The channels.
        tensors: Of the model, by name.
        inputs: How large the channels are that a tensor reads; 1 for those not named.
    """
    sums = []
    for cut in group.consumers:
        norms = _sum_per_channel(cut, tensors[cut.tensor])
        sums.append(norms * inputs[cut.tensor] if cut.tensor in inputs else norms)
    return torch.stack(sums).sum(0).numpy()


def _measure_makers(
    model: nn.Module, group: ChannelGroup, tensors: Mapping[str, Tensor]
) -> np.ndarray:
    """L1 norm of what makes each channel, biases included, shape ``(channels,)``; float64."""
    made = {id(_find_owner(model, cut)) for cut in group.rows if _makes(model, cut, tensors)}
    rows = [c for c in group.rows if c.dim == 0 and id(_find_owner(model, c)) in made]
    return torch.stack([_sum_per_channel(c, tensors[c.tensor]) for c in rows]).sum(0).numpy()


def _measure_inputs(
    model: nn.Module, groups: Sequence[ChannelGroup], batches: Iterable[Tensor]
) -> dict[str, Tensor]:
    """Root mean squares of the channels that tensors read, by name: ``(channels,)`` of float64."""
    squares: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def observe(name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        channels = given[0].detach().double().cpu()
        channels = channels.movedim(1 if isinstance(module, _ConvNd) else -1, 0).flatten(1)
        squares[name] = squares.get(name, 0) + channels.square().sum(1)
        counts[name] = counts.get(name, 0) + channels.shape[1]

    readers = [cut for group in groups for cut in group.consumers if cut.blocks == 1]
    handles = [
        _find_owner(model, cut).register_forward_pre_hook(partial(observe, cut.tensor))
        for cut in readers
    ]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        seen = 0
        for batch in batches:
            model(batch)
            seen += len(batch)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    if not seen:
        raise InputError("measure = 'activations' needs batches; pass some inputs of the network")
    return {name: (total / counts[name]).sqrt() for name, total in squares.items()}


def _sort_blocks(group: ChannelGroup, importance: np.ndarray, trained: Sequence[int]) -> np.ndarray:
    """Channels in their new order: whole blocks, each stream of them sorted by itself."""
    block, streams = group.block, group.streams
    blocks = importance.reshape(-1, streams, block).sum(2)
    sizes = [size // (block * streams) for size in trained]
    orders = [_sort_channels(blocks[:, s], sizes) * streams + s for s in range(streams)]
    moved = np.stack(orders, axis=1).reshape(-1, 1)
    return (moved * block + np.arange(block)).flatten()


def _find_trained_sizes(rule: Rule, values: Mapping[str, Sequence[Value]]) -> list[int]:
    """Sizes of a rule that the trained values lead to, falling; the first is the full width."""
    sizes = {
        int(size)
        for key, size in rule.values.items()
        if all(v in values[name] for name, v in zip(rule.choices, key, strict=True))
    }
    return sorted(sizes | {int(max(rule.values.values()))}, reverse=True)


def _sort_channels(importance: np.ndarray, trained: Sequence[int]) -> np.ndarray:
    """Channels of each band between trained widths, most important first; ties keep their order."""
    band = np.zeros(len(importance), dtype=np.intp)
    for number, (outer, inner) in enumerate(pairwise(trained), start=1):
        # Bands further out come later; the numbers fall from the outermost inwards.
        band[inner:outer] = len(trained) - number
    return np.lexsort((np.arange(len(importance)), -importance, band))


def _apply(reordering: Reordering, tensors: Mapping[str, Tensor]) -> None:
    done: set[tuple[int, int]] = set()
    for cut in reordering.group.rows:
        tensor = tensors.get(cut.tensor)
        # Tied weights have several names and one storage.
        if tensor is None or (tensor.data_ptr(), cut.dim) in done:
            continue
        done.add((tensor.data_ptr(), cut.dim))
        order = reordering.order.to(tensor.device)
        if cut.blocks > 1:
            starts = torch.arange(cut.blocks, device=order.device) * len(order)
            order = (starts[:, None] + order).flatten()
        tensor.detach().copy_(tensor.detach().index_select(cut.dim, order))
