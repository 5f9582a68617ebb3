"""Weight precision as an ordinary choice: fake quantisation as rows of the table."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from supernet.elastic.edits import Derive, follow
from supernet.quantization.weights import quantize_weight
from supernet.space import Choice, Value


def fake_quantize(weight: Tensor, values: tuple[Value, ...]) -> Tensor:
    """Round a weight to symmetric signed integers of some bits, per output channel.

    The scale is the largest magnitude of the channel over ``2**(bits - 1) - 1``, recomputed from
    the cut weight, so that it belongs to the subnetwork. Gradients pass straight through the
    rounding (Bengio et al. 2013, section 4; LSQ and EQ-Net use the same estimator).

    Args:
        weight: ``(out, ...)``.
        values: ``(bits,)``; 32 leaves the weight alone.

    Returns:
        The same shape, at most ``2**bits - 1`` levels per output channel.
    """
    return quantize_weight(weight, int(values[0]))


def quantise_weights(choice: Choice, tensors: Sequence[str]) -> tuple[Derive, ...]:
    """Make rows that store the named weights at the bits of ``choice``."""
    bits = follow(choice, int)
    return tuple(Derive(name, (choice.name,), fake_quantize, bits=bits) for name in tensors)
