"""The one place that builds a shrunken network: shells, out of views of its tensors.

A *shell* is the module tree of a subnetwork. Forward passes, extraction, cost counting and
quantization all go through the shells made here, so they cannot disagree about what a choice
does. A live shell shares storage with the supernet; an extracted one holds copies.
"""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from supernet.elastic import depthwise, pointwise
from supernet.elastic.edit_index import (
    EditIndex,
    Values,
    find_source_path,
    merge_blocks,
    view_cuts,
)
from supernet.elastic.edits import Cut, Derive
from supernet.elastic.precision import find_formats, list_steps
from supernet.quantization.execution import Execution
from supernet.quantization.formats import Format
from supernet.quantization.tracking import name_layer
from supernet.space import Architecture, Value

IMMUTABLE = frozenset((int, float, complex, str, bytes, bool, type(None), tuple, frozenset))
MODULE_STATE = nn.Module().__dict__
MODULE_KEYS = frozenset(MODULE_STATE)
# Hooks belong to the module they were registered on; a stand-alone network starts without.
HOOKS = tuple(name for name in MODULE_STATE if name.endswith("_hooks") or "_hooks_" in name)


Step = tuple[Callable[..., Tensor], tuple[Value, ...], tuple[Tensor, ...]]


@dataclass
class Leaf:
    """A piece of one supernet parameter that autograd treats as a parameter of its own.

    Its gradient is a view into the gradient of the whole parameter, at the same place. Autograd
    accumulates into an existing gradient in place, so a backward pass writes the subnetwork's
    gradients where they belong, without padding each to full size and adding it up.

    Those of ``spare`` pieces, which not every architecture that has them uses (kernel
    transforms), are made when the first entry arrives, so that unused ones keep none.
    """

    whole: nn.Parameter
    piece: nn.Parameter
    view: Callable[[Tensor], Tensor]
    pointer: int
    spare: bool
    gradient: Tensor | None = None

    def attach(self, _: Tensor | None = None) -> None:
        """Let the piece's gradient be a view into that of the whole."""
        if not self.piece.requires_grad:
            return
        if self.whole.grad is None:
            self.whole.grad = torch.zeros_like(self.whole)
        if self.gradient is not self.whole.grad or self.piece.grad is None:
            self.gradient = self.whole.grad
            self.piece.grad = self.view(self.whole.grad)


@dataclass
class Derived:
    """A tensor that must be computed anew in every forward pass."""

    module: nn.Module
    name: str
    source: Tensor
    steps: list[Step]
    layer: str

    def compute(self) -> Tensor:
        """The tensor as the weights are now."""
        tensor = self.source
        for function, values, shared in self.steps:
            tensor = function(tensor, values, *shared)
        name_layer(tensor, self.layer)
        return tensor


@dataclass
class Shell:
    """A subnetwork whose tensors live in the supernet."""

    network: nn.Module
    leaves: list[Leaf]
    derived: list[Derived]
    twins: list[tuple[dict[str, Any], dict[str, Any]]]

    def is_stale(self) -> bool:
        """Whether a parameter of the supernet has moved to other storage since."""
        return any(leaf.whole.data_ptr() != leaf.pointer for leaf in self.leaves)

    def refresh(self) -> None:
        """Bring modes, frozen flags and derived tensors up to date; before every forward pass."""
        for ours, theirs in self.twins:
            ours["training"] = theirs["training"]
        for leaf in self.leaves:
            if leaf.piece.requires_grad != leaf.whole.requires_grad:
                leaf.piece.requires_grad_(leaf.whole.requires_grad)
        for derived in self.derived:
            derived.module.__dict__[derived.name] = derived.compute()

    def release(self) -> None:
        """Let go of gradients that the supernet has dropped; they would fill memory unseen."""
        for leaf in self.leaves:
            if leaf.gradient is not None and leaf.gradient is not leaf.whole.grad:
                leaf.gradient = leaf.piece.grad = None

    def watch(self, outputs: Any) -> None:
        """Attach gradients when a backward pass enters; after every forward pass.

        Not before: between the two a user may drop all gradients with ``zero_grad``.
        """
        tensors = (outputs,) if isinstance(outputs, Tensor) else tree_leaves(outputs)
        for tensor in tensors:
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(self._attach_gradients)

    def _attach_gradients(self, _: Tensor) -> None:
        for leaf in self.leaves:
            if not leaf.spare:
                leaf.attach()


def build_shell(
    model: nn.Module,
    shared: Mapping[str, nn.Parameter] | nn.ParameterDict,
    edit_index: EditIndex,
    architecture: Architecture,
    *,
    copied: bool,
) -> Shell:
    """Build the module tree of one architecture.

    Args:
        model: The plain largest network.
        shared: Parameters that only derivations use, by name.
        edit_index: The table, sorted by what it touches.
        architecture: Says what to keep.
        copied: ``True`` for a stand-alone network with copies of everything, ``False`` for one
            whose tensors are views into the model's.

    Returns:
        The shell; its ``leaves``, ``derived`` and ``twins`` are empty when copied.
    """
    return _Builder(model, shared, edit_index, Values(architecture), copied).build()


class _Builder:
    """One walk over the module tree, with what the walk has to remember."""

    def __init__(
        self,
        model: nn.Module,
        shared: Mapping[str, nn.Parameter] | nn.ParameterDict,
        edit_index: EditIndex,
        values: Values,
        copied: bool,
    ) -> None:
        self.model, self.shared, self.edit_index = model, shared, edit_index
        self.values, self.copied = values, copied
        self.shell = Shell(model, [], [], [])
        self.modules: dict[int, nn.Module] = {}
        self.pieces: dict[int, Any] = {}
        self.attribute_copies: dict[int, Any] = {}
        self.formats = find_formats(edit_index, values)

    def build(self) -> Shell:
        # What is made under inference mode could never be trained, and shells outlive the mode.
        with torch.inference_mode(False), torch.no_grad():
            self.shell.network = self.module(self.model, "")
            if self.formats:
                self.quantize()
        return self.shell

    def quantize(self) -> None:
        """Let the network compute in its number formats."""
        network = self.shell.network
        formats: dict[str, Format] = {}
        for path, module in network.named_modules(remove_duplicate=False):
            # Below a picked candidate, rows speak of the path in the full model.
            source = find_source_path(self.edit_index, self.values, path)
            form = self.formats.get(path) or self.formats.get(source)
            # A unit that is left out, or an identity in its place, has nothing to be rounded.
            if form and any(isinstance(m, (nn.Conv2d, nn.Linear)) for m in module.modules()):
                formats[path] = form
        if not formats:
            return
        execution = Execution(
            formats, per_layer=any(row.per_layer for row in self.edit_index.formats.values())
        )
        if not self.copied:
            execution.convolve = pointwise.convolve
        weights, ranges = list_steps(self.shared, self.edit_index, formats.values())
        execution.steps = {key: self.step(name, cuts) for key, (name, cuts) in weights.items()}
        execution.ranges = {key: self.step(name, ()) for key, name in ranges.items()}
        execution.attach(network)

    def step(self, name: str, cuts: Sequence[Cut]) -> Tensor:
        """The part of trained steps that belongs to the subnetwork."""
        whole = self.shared[name]
        if self.copied:
            return view_cuts(whole.detach(), cuts, self.values).clone()
        return self._leaf(whole, cuts, spare=True)

    def module(self, source: nn.Module, path: str) -> nn.Module:
        pick = self.edit_index.picks.get(path)
        if pick is not None:
            name = self.values.find(pick.child)
            child = source._modules[name]
            assert child is not None
            return self.module(child, f"{path}.{name}")
        known = self.modules.get(id(source))
        if known is not None:
            return known
        result: nn.Module = source.__class__.__new__(source.__class__)
        self.modules[id(source)] = result
        state = self._attributes(source)
        object.__setattr__(result, "__dict__", state)
        prefix = f"{path}." if path else ""
        state["_parameters"] = {}
        state["_buffers"] = {}
        for name, parameter in source._parameters.items():
            self.parameter(result, name, prefix + name, parameter)
        for name, buffer in source._buffers.items():
            state["_buffers"][name] = self.buffer(prefix + name, buffer)
        children = list(source._modules.items())
        if path in self.edit_index.drops:
            children = children[: self.values.find(self.edit_index.drops[path].keep)]
        state["_modules"] = {
            name: None if child is None else self.module(child, prefix + name)
            for name, child in children
        }
        for setting in self.edit_index.settings.get(path, ()):
            state[setting.attribute] = self.values.find(setting.value)
        if not self.copied:
            self.shell.twins.append((state, source.__dict__))
            if depthwise.is_depthwise(result) and not self.formats:
                state["forward"] = depthwise.make_fast_forward(result)
            elif pointwise.is_strided_pointwise(result) and not self.formats:
                state["forward"] = pointwise.make_safe_forward(result)
        return result

    def _attributes(self, source: nn.Module) -> dict[str, Any]:
        state = source.__dict__.copy()
        for name in HOOKS:
            if name in state:
                # A hook put on a subnetwork while it runs must not reach the others.
                state[name] = OrderedDict() if self.copied else state[name].copy()
        if not self.copied:
            return state
        state["_non_persistent_buffers_set"] = set(state["_non_persistent_buffers_set"])
        for name in state.keys() - MODULE_KEYS:
            value = state[name]
            if type(value) not in IMMUTABLE and not callable(value):
                # One copy per network, not per module: all layers refer to the same config.
                state[name] = copy.deepcopy(value, self.attribute_copies)
        return state

    def parameter(
        self, owner: nn.Module, name: str, path: str, source: nn.Parameter | None
    ) -> None:
        if source is None:
            owner._parameters[name] = None
            return
        derivations = self.edit_index.derivations.get(path, ())
        layer = path.rpartition(".")[0]
        if self.copied:
            copied = owner._parameters[name] = self._copy(path, source, derivations)
            name_layer(copied, layer)
            return
        cuts = self.edit_index.cuts.get(path, ())
        leaf = self._leaf(source, cuts)
        merged = any(cut.blocks != 1 for cut in cuts)
        steps: list[Step] = [
            (d.function, self.values.find_choices(d.choices), tuple(map(self._shared, d.shared)))
            for d in derivations
        ]
        if merged:
            steps.insert(0, (lambda tensor, _: merge_blocks(tensor, cuts), (), ()))
        if steps:
            self.shell.derived.append(Derived(owner, name, leaf, steps, layer))
        else:
            owner._parameters[name] = leaf
            name_layer(leaf, layer)

    def _shared(self, name: str) -> nn.Parameter:
        return self._leaf(self.shared[name], (), spare=True)

    def _leaf(
        self, whole: nn.Parameter, cuts: Sequence[Cut], *, spare: bool = False
    ) -> nn.Parameter:
        known = self.pieces.get(id(whole))
        if known is not None:
            piece: nn.Parameter = known
            return piece
        values = self.values
        piece = nn.Parameter(view_cuts(whole.detach(), cuts, values))
        if not piece.is_contiguous():
            _spend_layout_warning()
        self.pieces[id(whole)] = piece
        leaf = Leaf(whole, piece, lambda t: view_cuts(t, cuts, values), whole.data_ptr(), spare)
        if spare:
            piece.register_hook(leaf.attach)
        piece.requires_grad_(whole.requires_grad)
        self.shell.leaves.append(leaf)
        return piece

    def _copy(self, path: str, source: nn.Parameter, derivations: Sequence[Derive]) -> nn.Parameter:
        known = self.pieces.get(id(source))
        if known is not None:
            return known
        cuts = self.edit_index.cuts.get(path)
        kept: Tensor = source
        if cuts:
            kept = merge_blocks(view_cuts(source, cuts, self.values), cuts)
        if not derivations:
            kept = kept.clone()
        else:
            for row in derivations:
                shared = [self.shared[name] for name in row.shared]
                kept = row.function(kept, self.values.find_choices(row.choices), *shared)
            if kept.untyped_storage().data_ptr() == source.untyped_storage().data_ptr():
                kept = kept.clone()
        copied = self.pieces[id(source)] = nn.Parameter(kept, source.requires_grad)
        return copied

    def buffer(self, path: str, source: Tensor | None) -> Tensor | None:
        if source is None:
            return None
        cuts = self.edit_index.cuts.get(path)
        kept = view_cuts(source, cuts, self.values) if cuts else source
        if self.copied:
            return (merge_blocks(kept, cuts) if cuts else kept).clone()
        return kept


@cache
def _spend_layout_warning() -> None:
    """Let torch give its one warning per process about gradients of strided pieces here.

    It advises that such gradients may be slower to accumulate; they are what saves us from
    padding every gradient to full size, and the user can do nothing about them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        piece = torch.zeros(2, 2)[:, :1].requires_grad_()
        piece.grad = torch.zeros(2, 2)[:, :1]
        with torch.enable_grad():
            piece.sum().backward()
