"""Token ids as they are given to a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from supernet.errors import InputError


def list_token_ids(ids: Sequence[int] | Tensor, size: int) -> list[int]:
    """List token ids as whole numbers.

    Args:
        ids: In one dimension.
        size: Of the vocabulary.

    Raises:
        InputError: One is none of ``0 .. size - 1``.
    """
    found: list[int] = ids.tolist() if isinstance(ids, Tensor) else list(ids)
    for number in found:
        if not 0 <= number < size:
            raise InputError(
                f"{number} is no token of a vocabulary of {size}; ids run from 0 to {size - 1}"
            )
    return found
