"""What configurations of image families share: checks, and fitting a preset to a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from supernet.data import DataShape
from supernet.space import nearest

Config = TypeVar("Config")


def check_rising(**lists: Sequence[float]) -> None:
    """ValueError unless the values of every list rise, without repeats."""
    for name, values in lists.items():
        if list(values) != sorted(set(values)):
            raise ValueError(f"{name} = {list(values)} must be rising, without repeats")


def check_filled(**lists: Sequence[object]) -> None:
    """ValueError when a list is empty."""
    for name, values in lists.items():
        if not values:
            raise ValueError(f"{name} is empty; a supernet needs at least one value")


def check_kernels(kernels: Sequence[int]) -> None:
    """ValueError unless all kernels are odd."""
    if any(kernel % 2 == 0 or kernel < 1 for kernel in kernels):
        raise ValueError(f"kernels = {list(kernels)} must be odd")


def check_stages(depths: Sequence[Sequence[int]]) -> None:
    """ValueError unless every stage has rising depths, of at least one block."""
    for stage, options in enumerate(depths, start=1):
        if not options or min(options) < 1:
            raise ValueError(
                f"depths = {list(options)} of stage {stage} gives a stage without blocks"
            )
        if list(options) != sorted(set(options)):
            raise ValueError(
                f"depths = {list(options)} of stage {stage} must be rising, without repeats"
            )


def check_resolutions(resolutions: Sequence[int], stride: int) -> None:
    """ValueError unless the total stride of the network is positive and fits the smallest image."""
    if stride < 1:
        raise ValueError(f"the strides multiply to {stride}; every stride must be at least 1")
    if stride > min(resolutions):
        raise ValueError(
            f"resolution {min(resolutions)} is below the total stride {stride}; "
            "nothing would be left of the image"
        )


def known_preset(presets: Mapping[str, Config], preset: str) -> Config:
    """The preset of that name; ValueError with the nearest name otherwise."""
    if preset not in presets:
        raise ValueError(
            f"unknown preset {preset!r}{nearest(preset, list(presets))}; "
            f"presets are {', '.join(presets)}"
        )
    return presets[preset]


def fitted(presets: Mapping[str, Config], preset: str, shape: DataShape) -> Config:
    """A preset with the classes, channels, resolutions and statistics of a data set.

    The configuration has the fields ``classes``, ``channels``, ``resolutions``, ``mean`` and
    ``std``. Its largest resolution becomes that of the data; the others keep their ratio to it.

    Raises:
        ValueError: Unknown preset, or images that are not square or too small for its strides.
    """
    base: Any = known_preset(presets, preset)
    side, largest = _side(shape), base.resolutions[-1]
    scaled = {max(1, round(r * side / largest)) for r in base.resolutions}
    config: Config = _for_data(base, shape, resolutions=tuple(sorted(scaled)))
    return config


def fitted_to_size(presets: Mapping[str, Config], preset: str, shape: DataShape) -> Config:
    """A preset with the classes, channels, image size and statistics of a data set.

    The configuration has the fields ``classes``, ``channels``, ``size``, ``mean`` and ``std``.

    Raises:
        ValueError: Unknown preset, or images that are not square or too small for its strides.
    """
    config: Config = _for_data(known_preset(presets, preset), shape, size=_side(shape))
    return config


def _side(shape: DataShape) -> int:
    _, height, width = shape.input
    if height != width:
        raise ValueError(f"images are {height}x{width}; this family takes square ones")
    return height


def _for_data(base: Any, shape: DataShape, **sizes: Any) -> Any:
    return replace(
        base,
        classes=shape.classes,
        channels=shape.input[0],
        mean=tuple(shape.mean),
        std=tuple(shape.std),
        **sizes,
    )
