"""The supernet: the weights of the largest network and the table of what each choice cuts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.costs.cost_model import CostModel
from supernet.costs.enumeration import build_cost_model, trace_network
from supernet.costs.workloads import Workload
from supernet.elastic.edit_index import index_edits
from supernet.elastic.edits import Edit
from supernet.elastic.slicing import Shell, build_shell
from supernet.graph.language import Graph
from supernet.space import Architecture, SearchSpace

SHELLS_KEPT = 16


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What one sample looks like.

    Args:
        shape: ``(channels, height, width)`` of pixels in 0...1, or ``(length,)`` of token ids.
        dtype: ``torch.float32`` for pixels, ``torch.int64`` for token ids.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class OnePass:
    """How the largest network answers for several architectures in one forward pass.

    Args:
        places: Where in the list of logits that the model then returns each architecture's are.
        options: Keyword arguments of the model's forward that make it return that list.
    """

    places: Mapping[Architecture, int]
    options: Mapping[str, Any]


class Supernet(nn.Module):
    """A network that contains every subnetwork of a space.

    The architecture is an argument of the forward pass, never state: nothing is switched on or
    off, so several architectures may be in flight at once, activation checkpointing included.

    Gradients of a subnetwork are accumulated straight into the ``.grad`` of the supernet's
    parameters, zero outside the kept part. Optimisers, gradient clipping and gradient scaling
    work as usual; hooks on the parameters and ``torch.autograd.grad`` with respect to them do
    not see these gradients.

    Args:
        model: The plain largest network. It is used as it is and keeps its module classes.
        space: The choices.
        edits: The table.
        units: Module paths that partition the network into pieces with a latency of their own,
            in the order they run.
        inputs: What one sample looks like, at the largest resolution.
        shared: Parameters that only ``Derive`` rows use; they are trained with the rest.
        no_decay: Names of parameters (as in ``named_parameters``) to keep out of weight decay,
            besides normalisation and biases.
        upgrade: Gives tensors of earlier releases, by the names of ``state_dict`` then, the names
            and shapes that they have now, and leaves others as they are. Called with weights, and
            with what an optimiser knows of each.
        one_pass: How one forward pass answers for several architectures, where it can.

    Raises:
        InputError: The table does not fit the model or the space.
    """

    def __init__(
        self,
        model: nn.Module,
        space: SearchSpace,
        edits: Sequence[Edit],
        *,
        units: Sequence[str],
        inputs: InputSpec,
        shared: Mapping[str, nn.Parameter] | None = None,
        no_decay: Sequence[str] = (),
        upgrade: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict,
        one_pass: OnePass | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.shared = nn.ParameterDict(dict(shared or {}))
        self.space = space
        self.edits = tuple(edits)
        self.units = tuple(units)
        self.inputs = inputs
        self.no_decay = frozenset(no_decay)
        self.upgrade = upgrade
        self.one_pass = one_pass
        self.edit_index = index_edits(model, self.shared, space, self.edits)
        self._shells: OrderedDict[Architecture, Shell] = OrderedDict()

    # -- running -------------------------------------------------------------------------------

    def forward(self, inputs: Tensor, architecture: Architecture, **options: Any) -> Any:
        """Run one subnetwork.

        Args:
            inputs: A batch at the architecture's resolution (see :meth:`prepare`):
                ``(batch, channels, height, width)`` pixels or ``(batch, length)`` token ids.
            architecture: A member of ``space``.
            options: Passed on to the model's forward.

        Returns:
            What the model returns: ``(batch, classes)`` or ``(batch, length, vocabulary)`` logits.

        Raises:
            InputError: The architecture belongs to another space.
        """
        shell = self.shell(architecture)
        self.release_gradients()
        shell.refresh()
        outputs = shell.network(inputs, **options)
        if torch.is_grad_enabled():
            shell.watch(outputs)
        return outputs

    def answers_together(self, architectures: Sequence[Architecture]) -> bool:
        """Whether one forward pass answers for all of several architectures."""
        known = {} if self.one_pass is None else self.one_pass.places
        return len(architectures) > 1 and all(a in known for a in architectures)

    def run_together(self, inputs: Tensor, architectures: Sequence[Architecture]) -> list[Tensor]:
        """Run several architectures in one forward pass of the largest.

        Args:
            inputs: A batch, as for :meth:`forward`.
            architectures: Those that :meth:`answers_together` says yes to.

        Returns:
            The logits of each.
        """
        assert self.one_pass is not None, "answers_together says no"
        found = self(inputs, self.space.largest, **self.one_pass.options)
        return [found[self.one_pass.places[architecture]] for architecture in architectures]

    def shell(self, architecture: Architecture) -> Shell:
        """The live module tree of an architecture; its tensors are views into the supernet."""
        shell = self._shells.get(architecture)
        if shell is not None and not shell.is_stale():
            self._shells.move_to_end(architecture)
            return shell
        self.space.check(architecture)
        shell = build_shell(self.model, self.shared, self.edit_index, architecture, copied=False)
        self._shells[architecture] = shell
        while len(self._shells) > SHELLS_KEPT:
            self._shells.popitem(last=False)
        return shell

    def forget_shells(self) -> None:
        """Drop cached module trees; needed after changing attributes or hooks of modules."""
        self._shells.clear()

    def release_gradients(self) -> None:
        """Let subnetworks go of gradients that the parameters have dropped, which frees them.

        Forward passes do so; needed only where that would be too late.
        """
        for shell in self._shells.values():
            shell.release()

    def prepare(self, inputs: Tensor, architecture: Architecture) -> Tensor:
        """Bring a batch to the architecture's input size.

        Images of another size are resized with anti-aliased bilinear interpolation; integer
        pixels become floats in 0...1. Token ids pass.
        """
        if inputs.dtype == torch.uint8:
            inputs = inputs.to(torch.float32) / 255
        size = self.input_shape(architecture)[1:]
        if inputs.ndim != 4 or inputs.shape[-2:] == size:
            return inputs
        return F.interpolate(
            inputs, size=size, mode="bilinear", antialias=True, align_corners=False
        )

    def input_shape(self, architecture: Architecture) -> tuple[int, ...]:
        """Shape of one sample, without the batch dimension."""
        if self.edit_index.resize is None:
            return self.inputs.shape
        size = int(architecture[self.edit_index.resize])
        return (self.inputs.shape[0], size, size)

    def example(self, architecture: Architecture, batch: int) -> Tensor:
        """A batch of zeros of the right shape and type."""
        return torch.zeros((batch, *self.input_shape(architecture)), dtype=self.inputs.dtype)

    # -- extraction and counting -----------------------------------------------------------------

    def extract(self, architecture: Architecture) -> nn.Module:
        """A stand-alone network with copied weights and no trace of elasticity.

        Normalisation statistics are copied too; they are those of the mixture of subnetworks seen
        in training, so recalibrate before use.

        Raises:
            InputError: The architecture belongs to another space.
        """
        self.space.check(architecture)
        shell = build_shell(self.model, self.shared, self.edit_index, architecture, copied=True)
        return shell.network

    def graph(self, architecture: Architecture, workload: Workload | None = None) -> Graph:
        """The whole subnetwork as a graph without weight values, with a dynamic batch.

        Args:
            architecture: The subnetwork.
            workload: What it is asked to do; by default to read a whole input.

        Raises:
            InputError: The network cannot do the workload.
        """
        return trace_network(self, architecture, workload)

    def cost_model(self, workload: Workload | None = None) -> CostModel:
        """Every variant of every unit, ready to be profiled and added up.

        Args:
            workload: What networks are asked to do; by default to read whole inputs.

        Raises:
            InputError: Networks cannot do the workload.
        """
        return build_cost_model(self, workload)

    def parameter_count(self, architecture: Architecture) -> int:
        """Number of learned weights of the extracted network."""
        return self.graph(architecture).parameters

    def macs(self, architecture: Architecture) -> int:
        """Multiply-accumulates of the extracted network for one sample."""
        return self.graph(architecture).macs

    # -- torch plumbing ----------------------------------------------------------------------------

    def _apply(self, fn: Any, recurse: bool = True) -> Supernet:
        self._shells.clear()
        super()._apply(fn, recurse)
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_shells"] = OrderedDict()
        return state
