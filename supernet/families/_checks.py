"""What fields of a configuration must be; each check names the field that is not."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Protocol

from supernet.errors import InputError


def check_rising(**lists: Sequence[float]) -> None:
    """InputError unless the values of every list rise, without repeats."""
    for name, values in lists.items():
        if list(values) != sorted(set(values)):
            raise InputError(f"{name} = {list(values)} must be rising, without repeats")


def check_filled(**lists: Sequence[object]) -> None:
    """InputError when a list is empty."""
    for name, values in lists.items():
        if not values:
            raise InputError(f"{name} is empty; a supernet needs at least one value")


def check_options(config: object, *fields: str) -> None:
    """InputError unless fields that list options are filled and rising."""
    lists = {name: getattr(config, name) for name in fields}
    check_filled(**lists)
    check_rising(**lists)


def check_positive(**numbers: int) -> None:
    """InputError when a number is below 1."""
    for name, value in numbers.items():
        if value < 1:
            raise InputError(f"{name} = {value} must be at least 1")


def check_heads(width: int, heads: int) -> None:
    """InputError unless a width divides into attention heads of one size."""
    if width % heads:
        raise InputError(
            f"width = {width} does not divide into {heads} heads; use a multiple of {heads}"
        )


def check_dropout(dropout: float) -> None:
    """InputError unless a share of what training drops is at least 0 and below 1."""
    if not 0 <= dropout < 1:
        raise InputError(f"dropout = {dropout} must be at least 0 and below 1")


def check_kernels(kernels: Sequence[int]) -> None:
    """InputError unless all kernels are odd."""
    if any(kernel % 2 == 0 or kernel < 1 for kernel in kernels):
        raise InputError(f"kernels = {list(kernels)} must be odd")


class DeepStage(Protocol):
    """A stage that may have several numbers of blocks."""

    @property
    def depths(self) -> tuple[int, ...]:
        """Numbers of blocks, rising."""
        ...


def check_stages(stages: Sequence[DeepStage]) -> None:
    """InputError unless there are stages, all with rising depths of at least one block."""
    check_filled(stages=stages)
    check_depths([stage.depths for stage in stages])


def check_depths(depths: Sequence[Sequence[int]]) -> None:
    """InputError unless every stage has rising depths, of at least one block."""
    for stage, options in enumerate(depths, start=1):
        if not options or min(options) < 1:
            raise InputError(
                f"depths = {list(options)} of stage {stage} gives a stage without blocks"
            )
        if list(options) != sorted(set(options)):
            raise InputError(
                f"depths = {list(options)} of stage {stage} must be rising, without repeats"
            )


class StridedStage(Protocol):
    """A stage whose first layer may shrink the image."""

    @property
    def stride(self) -> int:
        """Factor by which it shrinks the sides."""
        ...


def check_resolutions(
    resolutions: Sequence[int], *strides: int, stages: Sequence[StridedStage] = ()
) -> None:
    """InputError unless the total stride of the network is positive and fits the smallest image.

    Args:
        resolutions: Sides of the images in pixels.
        *strides: The strides of all further layers that shrink the image, in any order.
        stages: Stages, whose strides count as well.
    """
    total = prod(strides) * prod(stage.stride for stage in stages)
    if total < 1:
        raise InputError(f"the strides multiply to {total}; every stride must be at least 1")
    if total > min(resolutions):
        raise InputError(
            f"resolution {min(resolutions)} is below the total stride {total}; "
            "nothing would be left of the image"
        )
