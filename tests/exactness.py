"""Whether two computations are one function, decided so that no processor can disturb it.

Kernels may sum in another order for a view than for a copy, so the last bits of float32 tell
processors apart, not networks. In double precision the same function agrees to some 1e-15 of its
largest output, and one wrong index does not agree at all.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from supernet.space import Architecture
from supernet.supernet import Supernet

# Between rounding (1e-15, times the depth of a network) and a wrong index (1e-4 and more).
TOLERANCE = 1e-12


def in_double(net: Supernet) -> Supernet:
    """A copy whose weights and statistics are the same numbers in double precision."""
    return copy.deepcopy(net).double()


def doubled(inputs: Tensor) -> Tensor:
    """Inputs of a network in double precision; token numbers stay as they are."""
    return inputs.double() if inputs.dtype.is_floating_point else inputs


def logits(output: object) -> Tensor:
    """The scores in what a network returns."""
    if isinstance(output, Tensor):
        return output
    tensor = output["logits"] if "logits" in output else output[0]  # type: ignore[operator,index]
    assert isinstance(tensor, Tensor)
    return tensor


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference of two float64 tensors, relative to the largest expected entry."""
    assert found.dtype == expected.dtype == torch.float64, "float32 says nothing about structure"
    assert found.shape == expected.shape
    scale = expected.abs().max()
    assert scale > 0
    return float((found - expected).abs().max() / scale)


def assert_same_outputs(found: Tensor, expected: Tensor) -> None:
    """Fail unless two float64 outputs are those of one function, which looks at its inputs."""
    assert relative_difference(found, expected) <= TOLERANCE
    # A network that gives the same answer to everything would pass the line above.
    answers = expected.flatten(0, -2)
    assert len(answers) == 1 or answers.std(dim=0).max() > 1e-3


def assert_extraction_is_exact(net: Supernet, architecture: Architecture, inputs: Tensor) -> Tensor:
    """Fail unless a subnetwork is one function inside and extracted; returns its outputs.

    Args:
        net: In double precision (:func:`in_double`), in evaluation mode.
        architecture: Of the subnetwork.
        inputs: A batch; floating-point ones are made double.
    """
    inputs = doubled(inputs)
    with torch.no_grad():
        inside = logits(net(inputs, architecture))
        assert_same_outputs(logits(net.extract(architecture)(inputs)), inside)
    return inside
