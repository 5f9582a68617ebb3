"""The rows of a supernet's table: what each choice does to the plain largest network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from torch import Tensor

from supernet.space import Choice, Value


@dataclass(frozen=True, slots=True)
class Rule:
    """A quantity that follows one or more choices, as a table rather than as code.

    Args:
        choices: Names of the choices, in the order of the keys.
        values: What the quantity is, for every combination of the choices' values.
    """

    choices: tuple[str, ...]
    values: Mapping[tuple[Value, ...], Any]


def follow(choice: Choice, quantity: Callable[[Any], Any]) -> Rule:
    """Make the rule ``quantity(value)`` over all values of one choice."""
    return Rule((choice.name,), {(value,): quantity(value) for value in choice.values})


def follow_all(choices: Sequence[Choice], quantity: Callable[..., Any]) -> Rule:
    """Make the rule ``quantity(*values)`` over all combinations of several choices' values."""
    combinations = product(*(choice.values for choice in choices))
    names = tuple(choice.name for choice in choices)
    return Rule(names, {values: quantity(*values) for values in combinations})


@dataclass(frozen=True, slots=True)
class Cut:
    """Keep the first entries of one dimension of a parameter or buffer.

    Rows that share one ``Rule`` object speak of one set of channels (a producer's outputs, their
    normalisation, a consumer's inputs); re-organisation permutes such a set as a whole.

    Args:
        tensor: Name within the model (``"stages.0.0.project.weight"``).
        dim: The dimension to cut.
        size: Number of entries kept, per block.
        blocks: The dimension is this many equal blocks in a row (3 for a fused q, k, v) and each
            keeps its first ``size`` entries.
    """

    tensor: str
    dim: int
    size: Rule
    blocks: int = 1


@dataclass(frozen=True, slots=True)
class Set:
    """Give an attribute the value that goes with the choices (``groups``, ``num_heads``)."""

    module: str
    attribute: str
    value: Rule


@dataclass(frozen=True, slots=True)
class Drop:
    """Keep only the first modules of a ``Sequential`` or ``ModuleList``."""

    stack: str
    keep: Rule


@dataclass(frozen=True, slots=True)
class Pick:
    """Put one child of a module in that module's place (operations, optional layers).

    Args:
        slot: Path of a module whose children are the candidates
            (:class:`supernet.elastic.alternatives.Alternatives`).
        child: Name of the child that stays. Rows may speak of tensors of any candidate; they
            count when it is the one that stays.
    """

    slot: str
    child: Rule


@dataclass(frozen=True, slots=True)
class Derive:
    """Compute a parameter from what is left of it after the cuts (kernel crop).

    Several rows on one parameter apply in the order of the table.

    Args:
        tensor: Name of the parameter within the model.
        choices: Names of the choices the function looks at.
        function: ``function(tensor, values, *shared)``, pure and differentiable, where ``values``
            are those of ``choices``.
        shared: Names of parameters that belong to the supernet alone (kernel transforms); they
            shape the result and leave no trace in an extracted network.
        reshapes: Whether the choices decide on the shape of the result. Where they decide on its
            entries alone, what the layer costs does not depend on them.
        alike: Those of ``shared`` that are weights like the tensor itself, entry for entry (its
            other experts), and are trained as it is.
    """

    tensor: str
    choices: tuple[str, ...]
    function: Callable[..., Tensor]
    shared: tuple[str, ...] = ()
    reshapes: bool = True
    alike: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quantize:
    """Let a module, and all it contains, compute in the number format that goes with the choices.

    Args:
        module: Path of a cost unit, or of a single layer.
        format: Rule that gives a :class:`supernet.quantization.formats.Format`.
        per_layer: The module is a single layer; what lies between two of those belongs to both.
    """

    module: str
    format: Rule
    per_layer: bool = False


@dataclass(frozen=True, slots=True)
class Resize:
    """The spatial size of images follows a choice (square images, in pixels).

    Args:
        choice: Name of the choice.
        inside: Path of the module that resizes within the network; its attribute ``size`` follows
            the choice and inputs keep the network's native size. ``None``: inputs are resized.
    """

    choice: str
    inside: str | None = None


Edit = Cut | Set | Drop | Pick | Derive | Quantize | Resize


def list_choices(edit: Edit) -> tuple[str, ...]:
    """List the names of the choices a row looks at."""
    if isinstance(edit, Cut):
        return edit.size.choices
    if isinstance(edit, Set):
        return edit.value.choices
    if isinstance(edit, Drop):
        return edit.keep.choices
    if isinstance(edit, Pick):
        return edit.child.choices
    if isinstance(edit, Derive):
        return edit.choices
    if isinstance(edit, Quantize):
        return edit.format.choices
    return (edit.choice,)
