"""Released Once-for-All supernets: their names and shapes, and what they are here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from supernet.errors import InputError
from supernet.families import ofa_resnet50
from supernet.importing.ofa_sizes import infer_config
from supernet.importing.state_dicts import shorten_names, strip_wrappers
from supernet.supernet import Supernet

CUSTOM = "custom"

# Parts of our names -> parts of theirs.
_MOBILE = (
    (r"^model\.stem\.", "first_conv."),
    (r"^model\.first\.", "blocks.0.conv."),
    (r"^model\.head\.expand\.", "final_expand_layer."),
    (r"^model\.head\.mix\.weight$", "feature_mix_layer.conv.weight"),
    (r"^model\.head\.mix\.", "feature_mix_layer."),
    (r"^model\.head\.classifier\.", "classifier.linear."),
    (r"(?<=\.conv)\.expand\.", ".inverted_bottleneck."),
    (r"(?<=\.conv)\.depthwise\.", ".depth_conv."),
    (r"(?<=\.conv)\.squeeze\.", ".depth_conv.se.fc."),
    (r"(?<=\.conv)\.project\.", ".point_linear."),
)
_RESNET = (
    (r"^model\.stem\.first\.", "input_stem.0."),
    (r"^model\.stem\.optional\.0\.body\.", "input_stem.1.conv."),
    (r"^model\.stem\.last\.", "input_stem.2."),
    (r"^model\.head\.classifier\.", "classifier.linear."),
    (r"\.reduce\.", ".conv1."),
    (r"\.convolve\.", ".conv2."),
    (r"\.expand\.", ".conv3."),
    (r"\.shortcut\.", ".downsample."),
)


@dataclass(frozen=True)
class Recognised:
    """What a state dict is.

    Args:
        source: What messages call it.
        tensors: Tensors by canonical name.
        family: A module in ``supernet/families``.
        preset: Name of a preset of the family, or ``"custom"`` for sizes that none has.
        config: Configuration of the family, with the classes and channels of the file.
    """

    source: str
    tensors: Mapping[str, Tensor]
    family: ModuleType
    preset: str
    config: Any

    @property
    def family_name(self) -> str:
        """The module's own name."""
        return self.family.__name__.rpartition(".")[2]

    @property
    def assumed(self) -> str:
        """What no file says: the smaller options."""
        names = ("widths", "kernels", "expands")
        found = {n: getattr(self.config, n) for n in names if hasattr(self.config, n)}
        options = {"depths of a stage": self.config.stage_depths[0], **found}
        shown = "; ".join(f"{n} {', '.join(map(str, values))}" for n, values in options.items())
        return f"a checkpoint does not tell its smaller options, taken as published: {shown}"


def recognise(tensors: Mapping[str, Tensor], source: str) -> Recognised:
    """Recognise family, preset and sizes of a published state dict.

    Width, classes and the largest depth, kernel and expand ratio are read from names and shapes;
    smaller options are those of the publication.

    Args:
        tensors: The state dict, of ``OFAMobileNetV3``, ``OFAProxylessNASNets`` or ``OFAResNets``
            of the ``ofa`` package, in its older or newer spelling, also wrapped.
        source: What messages call it.

    Raises:
        InputError: Another kind of checkpoint.
    """
    found = {canonicalise(name): tensor for name, tensor in strip_wrappers(tensors).items()}
    family, config = infer_config(found, source)
    return Recognised(source, found, family, _find_preset(family, config), config)


def load_supernet(recognised: Recognised, config: Any | None = None) -> Supernet:
    """Build the supernet with the weights of a file, in eval mode.

    Args:
        recognised: The file.
        config: Replaces the file's own, to have other resolutions, say.

    Raises:
        InputError: Tensors are missing, unknown or of other shapes; the message names the first.
    """
    family, found, source = recognised.family, recognised.tensors, recognised.source
    config = recognised.config if config is None else config
    supernet: Supernet = family.build(config)
    state = supernet.state_dict()
    names = map_names(family, config, state)
    _check_names(found, names, source)
    with torch.no_grad():
        for theirs, ours in names.items():
            if theirs not in found:
                continue
            here, there = tuple(state[ours].shape), tuple(found[theirs].shape)
            if here != there:
                raise InputError(
                    f"{source} has {theirs} of shape {there}; the network of its other tensors "
                    f"has {here}"
                )
            state[ours].copy_(found[theirs])
    return supernet.eval()


def canonicalise(name: str) -> str:
    """Spell a published name in one way: releases nest wrapped layers to different depths."""
    name = name.replace(".mobile_inverted_conv.", ".conv.")
    return re.sub(r"(\.(?:conv|bn|linear))\1+(?=\.)", r"\1", name)


def map_names(family: ModuleType, config: Any, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Map published (canonical) names of a supernet's tensors to ours.

    Args:
        family: One of the three OFA families.
        config: Configuration of the family.
        state: The supernet's state dict.
    """
    resnet = family is ofa_resnet50
    starts = [0 if resnet else 1]
    for depths in config.stage_depths:
        starts.append(starts[-1] + max(depths))
    names = {}
    for ours in state:
        if not ours.startswith("model.normalize."):
            names[canonicalise(_translate_name(ours, starts, config, resnet))] = ours
    return names


def _translate_name(name: str, starts: Sequence[int], config: Any, resnet: bool) -> str:
    matrix = re.fullmatch(r"shared\.stage(\d+)_block(\d+)_kernel(\d+)", name)
    if matrix is not None:
        stage, block, kernel = map(int, matrix.groups())
        larger = min(k for k in config.kernels if k > kernel)
        return (
            f"blocks.{starts[stage - 1] + block - 1}.conv.depth_conv.conv.{larger}to{kernel}_matrix"
        )
    match = re.match(r"model\.stages\.(\d+)\.(\d+)\.", name)
    if match is not None:
        stage, block = map(int, match.groups())
        inner = "" if resnet else "conv."
        name = f"blocks.{starts[stage] + block}.{inner}{name[match.end() :]}"
    for pattern, replacement in _RESNET if resnet else _MOBILE:
        name = re.sub(pattern, replacement, name)
    return name


def _check_names(found: Mapping[str, Tensor], names: Mapping[str, str], source: str) -> None:
    # Old versions of torch did not count batches.
    needed = [name for name in names if not name.endswith("num_batches_tracked")]
    missing = [name for name in needed if name not in found]
    if missing:
        raise InputError(
            f"{source} is incomplete: {len(missing)} of {len(needed)} tensors are missing "
            f"({shorten_names(missing)})"
        )
    unknown = [name for name in found if name not in names]
    if unknown:
        raise InputError(
            f"{source} has {len(unknown)} tensors that this network does not have "
            f"({shorten_names(unknown)})"
        )


def _find_preset(family: ModuleType, config: Any) -> str:
    for name, preset in family.PRESETS.items():
        if replace(preset, classes=config.classes, channels=config.channels) == config:
            return str(name)
    return CUSTOM
