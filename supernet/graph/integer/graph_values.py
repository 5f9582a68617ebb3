"""Values of a graph's stored tensors and inputs as torch tensors, checked against the graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from supernet.errors import InputError
from supernet.graph.language import Graph


def read_stored(graph: Graph, values: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Values of a graph's weights and constants by name; those of 4 bits as int8.

    Raises:
        InputError: if a weight is missing or has another shape.
    """
    stored = {c.name: to_tensor(c.array()) for c in graph.constants}
    for spec in graph.weights:
        value = values.get(spec.name)
        if value is None:
            raise InputError(f"weight {spec.name!r} has no values; pass those of all weights")
        if tuple(value.shape) != spec.shape:
            raise InputError(
                f"weight {spec.name!r} has shape {tuple(value.shape)}; the graph needs {spec.shape}"
            )
        stored[spec.name] = to_tensor(value)
    return stored


def read_inputs(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Values of a graph's inputs by name.

    Raises:
        InputError: if an input is missing or of another element type.
    """
    read: dict[str, Tensor] = {}
    for spec in graph.inputs:
        value = inputs.get(spec.name)
        if value is None:
            raise InputError(f"graph input {spec.name!r} has no values; pass those of all inputs")
        if value.dtype.name != spec.dtype:
            raise InputError(
                f"graph input {spec.name!r} is {value.dtype.name}; the graph needs {spec.dtype}"
            )
        read[spec.name] = to_tensor(value)
    return read


def to_tensor(array: np.ndarray) -> Tensor:
    """A copy of an array; whole numbers of 4 bits as int8."""
    # torch knows no type of 4 bits.
    known = array.astype(np.int8) if array.dtype.name == "int4" else array
    return torch.from_numpy(np.array(known, order="C"))
