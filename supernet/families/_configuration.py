"""What families make of configurations: presets that fit the data, and seeded networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import nn

from supernet.data import TEXT, DataShape
from supernet.errors import InputError
from supernet.families._pixels import DIGITS, PixelStatistics
from supernet.space import nearest
from supernet.supernet import InputSpec

Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)


def find_preset(presets: Mapping[str, Config], preset: str) -> Config:
    """Find a preset by its name; InputError with the nearest name when there is none."""
    if preset not in presets:
        raise InputError(
            f"unknown preset {preset!r}{nearest(preset, list(presets))}; "
            f"presets are {', '.join(presets)}"
        )
    return presets[preset]


def fit_resolutions(presets: Mapping[str, Config], preset: str, shape: DataShape) -> Config:
    """Fit a preset to the classes, channels, resolutions and statistics of images.

    Args:
        presets: Configurations with the fields ``classes``, ``channels``, ``resolutions``
            and ``pixels``.
        preset: The name of one of them.
        shape: What the images look like.

    Returns:
        The preset with the side of the images as its largest resolution; its other resolutions
        keep their ratio to it.

    Raises:
        InputError: Unknown preset, or images that are not square or too small for its strides.
    """
    base: Any = find_preset(presets, preset)
    side, largest = _find_side(shape), base.resolutions[-1]
    scaled = {max(1, round(r * side / largest)) for r in base.resolutions}
    config: Config = _fit(base, preset, shape, resolutions=tuple(sorted(scaled)))
    return config


def fit_size(presets: Mapping[str, Config], preset: str, shape: DataShape) -> Config:
    """Fit a preset to the classes, channels, size and statistics of images.

    Args:
        presets: Configurations with the fields ``classes``, ``channels``, ``size`` and
            ``pixels``.
        preset: The name of one of them.
        shape: What the images look like.

    Raises:
        InputError: Unknown preset, or images that are not square or too small for its strides.
    """
    base = find_preset(presets, preset)
    config: Config = _fit(base, preset, shape, size=_find_side(shape))
    return config


def fit_text(presets: Mapping[str, Config], preset: str, shape: DataShape, family: str) -> Config:
    """Fit a preset to the vocabulary and context of a text.

    Args:
        presets: Configurations with the fields ``vocabulary`` and ``context``.
        preset: The name of one of them.
        shape: What the text looks like.
        family: The name of the family, for messages.

    Raises:
        InputError: Unknown preset, or data that is not text.
    """
    base: Any = find_preset(presets, preset)
    if shape.task != TEXT:
        raise InputError(f"{family} is for {TEXT}; this data is for {shape.task}, use text:PATH")
    fitted: Config = replace(base, vocabulary=shape.classes, context=shape.input[0])
    return fitted


def fit_to_digits(config: Config) -> Config:
    """Give a configuration the classes, channels and statistics of the built-in digits."""
    digits: Any = config
    changed: Config = replace(digits, classes=10, channels=1, pixels=DIGITS)
    return changed


def make_network(
    config: Any, network: Callable[[Any], Network], initialise: Callable[[Network], None]
) -> Network:
    """Make a network whose initial weights are a function of ``config.seed`` alone.

    Args:
        config: What the network is made of.
        network: Its class.
        initialise: Fills it with weights, from torch's global generator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = network(config)
        initialise(model)
    return model


def describe_images(channels: int, size: int) -> InputSpec:
    """Say that inputs are square images of ``channels`` channels and ``size`` pixels a side."""
    return InputSpec((channels, size, size), torch.float32)


def _find_side(shape: DataShape) -> int:
    _, height, width = shape.input
    if height != width:
        raise InputError(f"images are {height}x{width}; this family takes square ones")
    return height


def _fit(base: Any, preset: str, shape: DataShape, **sizes: Any) -> Any:
    try:
        return replace(
            base,
            classes=shape.classes,
            channels=shape.input[0],
            pixels=PixelStatistics(tuple(shape.mean), tuple(shape.std)),
            **sizes,
        )
    except InputError as error:
        size = "x".join(map(str, shape.input[1:]))
        raise InputError(
            f"preset {preset!r} is not for images of {size} pixels: {error}"
        ) from error
