"""What is known of a tensor on its way through a network that computes in integers."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from supernet.quantization.affine import Affine

_LAYER = "_layer"
CONVOLUTION, PRODUCT, ELEMENTWISE = "convolution", "product", "elementwise"


@dataclass
class State:
    """What is known of a tensor on its way.

    Args:
        key: Name of the tensor.
        kind: What made it, while it is pending: a ``CONVOLUTION``, ``PRODUCT`` or ``ELEMENTWISE``
            operator; empty when nothing is pending.
        bits: Levels it is rounded to.
        lowest: It is not below this.
        highest: It is not above this.
        affine: Its quantizer, when its values are rounded.
        rounded: The rounded tensor, once somebody has read it.
        source: The weight of the convolution whose result it is as such, into which normalisation
            folds.
        anchored: Hard swish alone reads it, so that level 0 may stand for -3.
        saturated: The rounded tensor that hard swish alone has read.
    """

    key: str
    kind: str = ""
    bits: int = 8
    lowest: float = -math.inf
    highest: float = math.inf
    affine: Affine | None = None
    rounded: Tensor | None = None
    source: Tensor | None = None
    anchored: bool = False
    saturated: Tensor | None = None

    @property
    def was_read(self) -> bool:
        """Whether somebody has read the tensor, so that nothing more is one piece with it."""
        return self.rounded is not None or self.saturated is not None


def _name_state() -> str:
    # Threads may share an input, of which each notes what its own network makes.
    return f"_quantization@{threading.get_ident()}"


def find_state(tensor: object) -> State | None:
    """Find what this thread knows of a tensor on its way."""
    found = getattr(tensor, "__dict__", {}).get(_name_state())
    return found if isinstance(found, State) else None


def mark(tensor: Tensor, state: State) -> Tensor:
    """Note what is known of a tensor, and return it."""
    tensor.__dict__[_name_state()] = state
    return tensor


def unmark(tensor: Tensor) -> None:
    """Forget what is known of a tensor."""
    tensor.__dict__.pop(_name_state(), None)


def name_layer(weight: Tensor, layer: str) -> None:
    """Note the name of the layer that a weight belongs to."""
    weight.__dict__[_LAYER] = layer


def find_layer(weight: Tensor) -> str:
    """Find the name of the layer that a weight belongs to; empty where nobody has noted it."""
    return str(getattr(weight, "__dict__", {}).get(_LAYER, ""))


def is_map(tensor: Tensor) -> bool:
    """Whether a tensor is a batch of maps ``(N, C, H, W)`` in float."""
    return tensor.dim() == 4 and tensor.is_floating_point()


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Replace the tensors in nested tuples, lists and dictionaries."""
    if isinstance(tree, Tensor):
        return function(tree)
    if type(tree) in (tuple, list):
        return type(tree)(map_tensors(function, part) for part in tree)
    if type(tree) is dict:
        return {key: map_tensors(function, part) for key, part in tree.items()}
    return tree


def list_tensors(tree: Any) -> list[Tensor]:
    """List the tensors in nested tuples, lists and dictionaries."""
    found: list[Tensor] = []
    map_tensors(found.append, tree)
    return found
