"""What the mobile Once-for-All families share: choices, rows and the familiar dictionary form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from supernet.elastic.edits import Drop, Edit, Resize, follow
from supernet.errors import InputError
from supernet.families._configuration import describe_images
from supernet.families._mobile import InvertedResidual, make_divisible
from supernet.families._mobile_rows import hidden_rows, kernel_rows
from supernet.quantization.formats import FLOAT_BITS
from supernet.space import Architecture, Choice, SearchSpace, Value
from supernet.supernet import Supernet


class MobileConfig(Protocol):
    """What is read of a configuration of a mobile network of stages."""

    @property
    def channels(self) -> int:
        """Channels of an image."""
        ...

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the image in pixels, rising."""
        ...

    @property
    def kernels(self) -> tuple[int, ...]:
        """Sides of depthwise filters, rising."""
        ...

    @property
    def stage_depths(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of blocks each stage may have."""
        ...


def make_stage_choices(
    stage: int,
    depths: Sequence[int],
    kernels: Sequence[int],
    expands: Sequence[int],
) -> list[Choice]:
    """Make the choices of one stage: its depth, then kernel and expand ratio of blocks.

    A stage whose depth is fixed has no choice of depth.

    Args:
        stage: Number of the stage, from 1.
        depths: Numbers of blocks, rising.
        kernels: Sides of depthwise filters, rising.
        expands: Hidden channels per input channel, rising.
    """
    choices = []
    depth = Choice(f"stage{stage}.depth", tuple(depths), "depth")
    if len(depths) > 1:
        choices.append(depth)
    for block in range(1, max(depths) + 1):
        needs = find_block_needs(depth, block)
        prefix = f"stage{stage}.block{block}"
        choices.append(Choice(f"{prefix}.kernel", tuple(kernels), "kernel", needs))
        choices.append(Choice(f"{prefix}.expand", tuple(expands), "expand", needs))
    return choices


def find_block_needs(depth: Choice, block: int) -> tuple[str, Value] | None:
    """Find what the choices of a stage's block number ``block`` (from 1) need to matter."""
    if block == 1 or block <= int(depth.values[0]):
        return None
    return (depth.name, min(int(value) for value in depth.values if int(value) >= block))


def list_block_prefixes(depths: Sequence[Sequence[int]]) -> list[str]:
    """List what names of choices begin with, for every block of every stage.

    Args:
        depths: Numbers of blocks each stage may have.
    """
    return [
        f"stage{s}.block{b}"
        for s, options in enumerate(depths, start=1)
        for b in range(1, max(options) + 1)
    ]


def make_kernel_matrices(prefix: str, kernels: Sequence[int]) -> dict[str, nn.Parameter]:
    """Make the identity matrices of one block's kernel transforms, largest kernel first.

    Args:
        prefix: What the names of the block's choices begin with (``"stage1.block2"``).
        kernels: Sides of its filters; all but the largest have a matrix.
    """
    name = prefix.replace(".", "_")
    smaller = sorted(kernels, reverse=True)[1:]
    return {f"{name}_kernel{k}": nn.Parameter(torch.eye(k * k)) for k in smaller}


def block_rows(
    path: str,
    prefix: str,
    block: InvertedResidual,
    space: SearchSpace,
    matrices: Sequence[str],
) -> list[Edit]:
    """Make all rows of one block with choices ``PREFIX.kernel`` and ``PREFIX.expand``.

    Args:
        path: Path of the block in the model.
        prefix: What the names of its choices begin with.
        block: The block at its largest.
        space: Where the choices are.
        matrices: Names of its kernel transforms.
    """
    expand, kernel = space.choice(f"{prefix}.expand"), space.choice(f"{prefix}.kernel")
    widest = block.depthwise if block.expand is None else block.expand
    convolution = widest[0]
    assert isinstance(convolution, nn.Conv2d)
    inputs = convolution.in_channels
    hidden = follow(expand, lambda e: make_divisible(round(inputs * e)))
    rows = hidden_rows(path, block, hidden)
    rows += kernel_rows(f"{path}.depthwise", kernel, matrices)
    return rows


def stage_rows(
    stages: nn.ModuleList, space: SearchSpace, kernels: Sequence[int]
) -> tuple[list[Edit], dict[str, nn.Parameter], list[str]]:
    """Make the rows, shared kernel transforms and unit paths of all elastic stages.

    Args:
        stages: The child ``stages`` of the model, each a ``Sequential`` of blocks.
        space: A space made of :func:`make_stage_choices`.
        kernels: Sides of depthwise filters, rising.
    """
    rows: list[Edit] = []
    shared: dict[str, nn.Parameter] = {}
    units = []
    for s, stage in enumerate(stages, start=1):
        assert isinstance(stage, nn.Sequential)
        if f"stage{s}.depth" in space.names:
            rows.append(Drop(f"stages.{s - 1}", follow(space.choice(f"stage{s}.depth"), int)))
        for b, block in enumerate(stage, start=1):
            assert isinstance(block, InvertedResidual)
            path, prefix = f"stages.{s - 1}.{b - 1}", f"stage{s}.block{b}"
            units.append(path)
            matrices = make_kernel_matrices(prefix, kernels)
            shared.update(matrices)
            rows += block_rows(path, prefix, block, space, tuple(matrices))
    return rows, shared, units


def assemble(config: MobileConfig, model: nn.Module, space: SearchSpace) -> Supernet:
    """Assemble a network of ``normalize``, ``stem``, ``first``, ``stages`` and ``head``.

    Args:
        config: What the network was made of.
        model: The plain network, initialised.
        space: Has the choices of :func:`make_stage_choices` and ``resolution``.
    """
    stages = model.get_submodule("stages")
    assert isinstance(stages, nn.ModuleList)
    rows, shared, units = stage_rows(stages, space, config.kernels)
    return Supernet(
        model,
        space,
        [Resize("resolution"), *rows],
        units=["normalize", "stem", "first", *units, "head"],
        inputs=describe_images(config.channels, config.resolutions[-1]),
        shared=shared,
        # Decay would pull the matrices from the identity to zero.
        no_decay=[f"shared.{name}" for name in shared],
    )


# -- the familiar dictionary form ----------------------------------------------------------------


def to_ofa(config: MobileConfig, architecture: Architecture) -> dict[str, Any]:
    """Write an architecture as ``{"ks", "e", "d", "r"}``, like the ``ofa`` package.

    Args:
        config: The configuration of its supernet.
        architecture: A member of a space made of :func:`make_stage_choices`.

    Returns:
        Kernels and expand ratios of every block, depths of every stage, and the resolution; blocks
        that are not there hold the first option.
    """
    depths = config.stage_depths
    prefixes = list_block_prefixes(depths)
    return {
        "ks": [architecture[f"{prefix}.kernel"] for prefix in prefixes],
        "e": [architecture[f"{prefix}.expand"] for prefix in prefixes],
        "d": [
            architecture[f"stage{s}.depth"] if len(options) > 1 else options[0]
            for s, options in enumerate(depths, start=1)
        ],
        "r": [architecture["resolution"]],
    }


def from_ofa(config: MobileConfig, space: SearchSpace, record: Mapping[str, Any]) -> Architecture:
    """Read ``{"ks", "e", "d", "r"}``; ``r`` may be a number or a list of one, or missing.

    Args:
        config: The configuration of the supernet.
        space: Its space.
        record: What :func:`to_ofa` or the ``ofa`` package wrote.

    Raises:
        InputError: A list is missing, has the wrong length or holds an illegal value; or the
            record asks for weights of few bits, as records of earlier releases could.
    """
    bits = record.get("weight_bits", FLOAT_BITS)
    if bits != FLOAT_BITS:
        raise InputError(
            f"the record asks for weights of {bits!r} bits, and bits are the number format of a "
            "unit, no part of these records; leave weight_bits out, and give the supernet formats "
            "such as --precision w4a32,w8a32,fp32"
        )
    depths = config.stage_depths
    prefixes = list_block_prefixes(depths)
    resolution = record.get("r", [space.choice("resolution").values[-1]])
    values: dict[str, Value] = {
        "resolution": resolution[0] if isinstance(resolution, (list, tuple)) else resolution
    }
    counts = {"ks": len(prefixes), "e": len(prefixes), "d": len(depths)}
    for key, count in counts.items():
        if len(record.get(key, ())) != count:
            raise InputError(f"{key!r} must list {count} values, one per block or stage")
    for s, (options, depth) in enumerate(zip(depths, record["d"], strict=True), start=1):
        if len(options) > 1:
            values[f"stage{s}.depth"] = depth
        elif depth not in options:
            raise InputError(f"stage {s} always has {options[0]} blocks; the record has {depth}")
    for prefix, kernel, expand in zip(prefixes, record["ks"], record["e"], strict=True):
        values[f"{prefix}.kernel"] = kernel
        values[f"{prefix}.expand"] = expand
    return space.architecture(values)
