"""A table sorted by what it touches, and what an architecture makes of each tensor."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from supernet.elastic.alternatives import Alternatives
from supernet.elastic.edits import Cut, Derive, Drop, Edit, Pick, Quantize, Rule, Set, follow
from supernet.errors import InputError
from supernet.space import Architecture, SearchSpace, Value


@dataclass
class EditIndex:
    """The table, sorted by what it touches; built once per supernet."""

    cuts: dict[str, list[Cut]] = field(default_factory=dict)
    derivations: dict[str, list[Derive]] = field(default_factory=dict)
    settings: dict[str, list[Set]] = field(default_factory=dict)
    drops: dict[str, Drop] = field(default_factory=dict)
    picks: dict[str, Pick] = field(default_factory=dict)
    formats: dict[str, Quantize] = field(default_factory=dict)
    resize: str | None = None


def index_edits(
    model: nn.Module,
    shared: Mapping[str, nn.Parameter] | nn.ParameterDict,
    space: SearchSpace,
    edits: Sequence[Edit],
) -> EditIndex:
    """Sort and check a table against the model and the space it speaks of.

    Raises:
        InputError: A row names a tensor, module, attribute, shared parameter or choice that does
            not exist, keeps more than there is, or keeps less for a larger option.
    """
    tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors.update(model.named_buffers(remove_duplicate=False))
    modules = dict(model.named_modules(remove_duplicate=False))
    index = EditIndex()
    for edit in edits:
        if isinstance(edit, Cut):
            _check_known(edit.tensor, tensors, "tensor")
            _check_sizes(edit, tensors[edit.tensor], space)
            index.cuts.setdefault(edit.tensor, []).append(edit)
        elif isinstance(edit, Derive):
            _check_known(edit.tensor, tensors, "tensor")
            for name in edit.shared:
                _check_known(name, list(shared), "shared parameter")
            index.derivations.setdefault(edit.tensor, []).append(edit)
        elif isinstance(edit, Set):
            _check_known(edit.module, modules, "module")
            if not hasattr(modules[edit.module], edit.attribute):
                raise InputError(f"module {edit.module!r} has no attribute {edit.attribute!r}")
            index.settings.setdefault(edit.module, []).append(edit)
        elif isinstance(edit, Drop):
            _check_known(edit.stack, modules, "module")
            index.drops[edit.stack] = edit
        elif isinstance(edit, Pick):
            _check_known(edit.slot, modules, "module")
            _check_candidates(edit, modules[edit.slot], space)
            index.picks[edit.slot] = edit
        elif isinstance(edit, Quantize):
            _check_known(edit.module, modules, "module")
            index.formats[edit.module] = edit
        elif edit.inside is None:
            index.resize = edit.choice
        else:
            _check_known(edit.inside, modules, "module")
            size = follow(space.choice(edit.choice), int)
            index.settings.setdefault(edit.inside, []).append(Set(edit.inside, "size", size))
    for rows in index.cuts.values():
        # From the last dimension to the first: splitting one into blocks must not move the rest.
        rows.sort(key=lambda cut: -cut.dim)
    return index


def _check_known(name: str, table: Container[str], kind: str) -> None:
    if name not in table:
        raise InputError(f"the table names {kind} {name!r}, which the model does not have")


def _check_candidates(pick: Pick, slot: nn.Module, space: SearchSpace) -> None:
    for name in pick.child.values.values():
        if name not in slot._modules:
            raise InputError(
                f"the table picks {name!r} for {pick.slot}; candidates are "
                f"{', '.join(slot._modules)}"
            )
    largest = Values(space.largest).find(pick.child)
    if isinstance(slot, Alternatives) and slot.default != largest:
        raise InputError(
            f"{pick.slot} is {slot.default!r} by itself, and {largest!r} in the largest "
            "architecture; the model must be the largest network"
        )


def _check_sizes(cut: Cut, tensor: Tensor, space: SearchSpace) -> None:
    whole = tensor.shape[cut.dim]
    if whole % cut.blocks:
        raise InputError(
            f"{cut.tensor} has {whole} entries in dimension {cut.dim}, "
            f"not a multiple of {cut.blocks} blocks"
        )
    most = max(cut.size.values.values())
    if most != whole // cut.blocks:
        raise InputError(
            f"the largest option keeps {most} of {whole // cut.blocks} entries of {cut.tensor} "
            f"in dimension {cut.dim}; the model must be the largest network"
        )


class Values:
    """Values of rules under one architecture, each looked up once."""

    def __init__(self, architecture: Architecture) -> None:
        self._choices = dict(zip(architecture.names, architecture.values, strict=True))
        self._known: dict[int, Any] = {}

    def find(self, rule: Rule) -> Any:
        """Find what a rule's quantity is."""
        key = id(rule)
        if key not in self._known:
            self._known[key] = rule.values[tuple(self._choices[name] for name in rule.choices)]
        return self._known[key]

    def find_choices(self, names: Sequence[str]) -> tuple[Value, ...]:
        """Find the values of some choices."""
        return tuple(self._choices[name] for name in names)


def view_cuts(tensor: Tensor, cuts: Sequence[Cut], values: Values) -> Tensor:
    """View what the cuts leave of a tensor, sharing its storage.

    A dimension of several blocks comes back as two, ``(blocks, size)``, because the rows that are
    kept do not lie at equal distances; :func:`merge_blocks` joins them in a copy.
    """
    for cut in cuts:
        size = values.find(cut.size)
        if cut.blocks == 1:
            if size != tensor.shape[cut.dim]:
                tensor = tensor.narrow(cut.dim, 0, size)
        else:
            tensor = tensor.unflatten(cut.dim, (cut.blocks, -1)).narrow(cut.dim + 1, 0, size)
    return tensor


def merge_blocks(tensor: Tensor, cuts: Sequence[Cut]) -> Tensor:
    """Join dimensions that :func:`view_cuts` has split into ``(blocks, size)``; a copy if any."""
    for cut in reversed(cuts):
        if cut.blocks != 1:
            tensor = tensor.flatten(cut.dim, cut.dim + 1)
    return tensor


def find_source_path(index: EditIndex, values: Values, path: str) -> str:
    """Find the path in the full model of a tensor or module of a subnetwork.

    They differ below picked candidates, which in a subnetwork stand in the place of the slot.
    """
    done = ""
    for part in path.split("."):
        done = f"{done}.{part}" if done else part
        while done in index.picks:
            done = f"{done}.{values.find(index.picks[done].child)}"
    return done
