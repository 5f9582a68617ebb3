"""Number formats of a subnetwork's units, and the trained steps that go with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import nn

from supernet.elastic.edit_index import EditIndex, Values
from supernet.elastic.edits import Cut, Edit, Quantize
from supernet.quantization.formats import FP32, Format

WEIGHTS, RANGES = "step|", "range|"


def find_formats(index: EditIndex, values: Values) -> dict[str, Format]:
    """Find the format of each module that does not compute in float, by its path."""
    found = {path: values.find(row.format) for path, row in index.formats.items()}
    return {path: form for path, form in found.items() if form != FP32}


def name_step(prefix: str, key: str, bits: int) -> str:
    """Name the parameter that holds trained steps; names of parameters have no dots.

    Args:
        prefix: ``WEIGHTS`` or ``RANGES``.
        key: Name of a layer, or of an activation.
        bits: Bits of the format they belong to.
    """
    return f"{prefix}{key.replace('.', ':')}@{bits}"


def is_step(name: str) -> bool:
    """Whether a name in ``shared`` is one of trained steps, of weights or of activations."""
    return name.startswith((WEIGHTS, RANGES))


def can_learn_steps(edits: Iterable[Edit]) -> bool:
    """Whether a table has formats with steps that can be trained."""
    return any(
        form.learns_steps
        for edit in edits
        if isinstance(edit, Quantize)
        for form in edit.format.values.values()
    )


def list_steps(
    shared: Mapping[str, nn.Parameter] | nn.ParameterDict,
    index: EditIndex,
    formats: Iterable[Format],
) -> tuple[dict[str, tuple[str, tuple[Cut, ...]]], dict[str, str]]:
    """List the trained steps that some formats use.

    Args:
        shared: The parameters that belong to the supernet alone.
        index: The table, whose cuts of a weight's output channels are those of its steps.
        formats: The formats in use.

    Returns:
        Of weights ``{"LAYER@BITS": (name in shared, cuts)}``, of activations
        ``{"KEY@BITS": name in shared}``.
    """
    used = list(formats)
    weight_bits = {form.weight_bits for form in used if form.learns_steps}
    activation_bits = {form.activation_bits for form in used if form.quantizes_activations}
    weights: dict[str, tuple[str, tuple[Cut, ...]]] = {}
    ranges: dict[str, str] = {}
    for name in shared:
        prefix, bar, rest = name.partition("|")
        key, _, bits = rest.replace(":", ".").rpartition("@")
        if prefix + bar == WEIGHTS and int(bits) in weight_bits:
            cuts = index.cuts.get(f"{key}.weight", ())
            # A step per output channel; one for the whole tensor has no dimension to cut.
            own = [replace(c, tensor=name) for c in cuts if c.dim == 0 and shared[name].dim()]
            weights[f"{key}@{bits}"] = (name, tuple(own))
        elif prefix + bar == RANGES and int(bits) in activation_bits:
            ranges[f"{key}@{bits}"] = name
    return weights, ranges
