"""From the names and shapes of a released Once-for-All supernet to a configuration of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from types import ModuleType
from typing import Any

from torch import Tensor

from supernet.errors import InputError
from supernet.families import ofa_mobilenetv3, ofa_proxyless, ofa_resnet50
from supernet.families._mobile import make_divisible
from supernet.importing.state_dicts import shorten_names

Tensors = Mapping[str, Tensor]
# What the releases were trained on (Cai et al. 2020, section 4.1, and the authors' model zoo). A
# file has the largest network only, so smaller options are taken to be these.
DEPTHS, EXPANDS = (2, 3, 4), (3, 4, 6)
MULTIPLIERS = (1.0, 1.2, 1.3, *(k / 20 for k in range(1, 61)))


def infer_config(found: Tensors, source: str) -> tuple[ModuleType, Any]:
    """Infer the family whose largest network the tensors are, and its configuration.

    Where a tensor that would tell is missing, the published value stands in.

    Args:
        found: Tensors by canonical name.
        source: What messages call the file.

    Raises:
        InputError: Not a supernet of the ``ofa`` package, or of widths it cannot have.
    """
    starts = {name.split(".")[0] for name in found}
    if "input_stem" in starts:
        return ofa_resnet50, _infer_resnet(found, source)
    if "final_expand_layer" in starts or any(".depth_conv.se." in name for name in found):
        return ofa_mobilenetv3, _infer_mobilenet(found, source)
    if "first_conv" in starts and "blocks" in starts:
        return ofa_proxyless, _infer_proxyless(found, source)
    raise InputError(
        f"{source} is not a supernet of the ofa package (MobileNetV3, ProxylessNAS or ResNet50): "
        f"its tensors are called {shorten_names(list(found))}"
    )


def _infer_mobilenet(found: Tensors, source: str) -> ofa_mobilenetv3.Config:
    base = ofa_mobilenetv3.Config()
    blocks = _count_blocks(found)
    depth = max(1, ceil((blocks - 1) / len(base.stages)))
    final = {"final_expand_layer.conv.weight": base.final_width}
    fields = _read_mobile_fields(found, base, depth, final, source)
    return replace(base, depths=_cut_options(DEPTHS, depth), **fields)


def _infer_proxyless(found: Tensors, source: str) -> ofa_proxyless.Config:
    base = ofa_proxyless.Config()
    *elastic, last = base.stages
    depth = max(1, ceil((_count_blocks(found) - 2) / len(elastic)))
    stages = (*(replace(s, depths=_cut_options(DEPTHS, depth)) for s in elastic), last)
    return replace(base, stages=stages, **_read_mobile_fields(found, base, depth, {}, source))


def _read_mobile_fields(
    found: Tensors,
    base: ofa_mobilenetv3.Config | ofa_proxyless.Config,
    depth: int,
    more: Mapping[str, int],
    source: str,
) -> dict[str, Any]:
    """What both mobile families read in the same way.

    Args:
        found: Tensors by canonical name.
        base: The published configuration.
        depth: Blocks of every elastic stage.
        more: Further tensors and their published widths.
        source: What messages call the file.
    """
    kernels, expands = _find_block_options(found, base.kernels, base.expands)
    places = {
        "first_conv.conv.weight": base.stem_width,
        "blocks.0.conv.point_linear.conv.weight": base.first_width,
        **more,
        "feature_mix_layer.conv.weight": base.feature_width,
    }
    for index, width in enumerate([stage.width for stage in base.stages]):
        places[f"blocks.{1 + index * depth}.conv.point_linear.conv.weight"] = width
    return {
        "classes": _find_size(found, "classifier.linear.bias", 0, base.classes),
        "channels": _find_size(found, "first_conv.conv.weight", 1, base.channels),
        "width_multiplier": _find_multiplier(found, places, source),
        "kernels": kernels,
        "expands": expands,
    }


def _infer_resnet(found: Tensors, source: str) -> ofa_resnet50.Config:
    base = ofa_resnet50.Config()
    least = [min(stage.depths) for stage in base.stages]
    extra = max(0, ceil((_count_blocks(found) - sum(least)) / len(least)))
    depths = [_cut_options((n, n + 1, n + 2), n + extra) for n in least]
    places = {"input_stem.2.conv.weight": base.stem_width}
    start = 0
    for stage, options in zip(base.stages, depths, strict=True):
        places[f"blocks.{start}.conv3.conv.weight"] = stage.width
        start += max(options)
    ratio = max(base.expands)
    outputs, hidden = (_find_size(found, "blocks.0.conv3.conv.weight", dim, 0) for dim in (0, 1))
    if outputs and hidden:
        fits = [e for e in base.expands if make_divisible(round(outputs * e)) == hidden]
        ratio = fits[-1] if fits else hidden / outputs
    return replace(
        base,
        classes=_find_size(found, "classifier.linear.bias", 0, base.classes),
        channels=_find_size(found, "input_stem.0.conv.weight", 1, base.channels),
        stages=tuple(replace(s, depths=d) for s, d in zip(base.stages, depths, strict=True)),
        widths=_cut_options(base.widths, _find_multiplier(found, places, source)),
        expands=_cut_options(base.expands, ratio),
    )


def _find_size(found: Tensors, name: str, dim: int, default: int) -> int:
    tensor = found.get(name)
    return default if tensor is None or tensor.ndim <= dim else tensor.shape[dim]


def _count_blocks(found: Tensors) -> int:
    numbers = [int(m[1]) for name in found if (m := re.match(r"blocks\.(\d+)\.", name))]
    # A strange number in a name must not make a strangely deep network.
    return min(max(numbers, default=0) + 1, len(found))


def _find_block_options(
    found: Tensors, kernels: tuple[int, ...], expands: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Kernels and expand ratios of the mobile families, from the first elastic block."""
    block = "blocks.1.conv"
    widest = _find_size(found, f"{block}.depth_conv.conv.weight", 3, 0)
    if widest:
        matrices = re.findall(rf"{block}\.depth_conv\.conv\.(\d+)to(\d+)_matrix", " ".join(found))
        kernels = tuple(sorted({widest, *(int(size) for pair in matrices for size in pair)}))
    hidden, inputs = (
        _find_size(found, f"{block}.inverted_bottleneck.conv.weight", dim, 0) for dim in (0, 1)
    )
    if hidden and inputs:
        fits = [e for e in range(1, 17) if make_divisible(round(inputs * e)) == hidden]
        expands = _cut_options(EXPANDS, fits[0] if fits else max(1, hidden // inputs))
    return kernels, expands


def _find_multiplier(found: Tensors, places: Mapping[str, int], source: str) -> float:
    """The width multiplier under which every place has the channels it has."""
    widths = {place: _find_size(found, place, 0, 0) for place in places if place in found}
    for multiplier in MULTIPLIERS:
        if all(make_divisible(places[p] * multiplier) == w for p, w in widths.items()):
            return multiplier
    shown = ", ".join(map(str, widths.values()))
    raise InputError(f"the widths of {source} ({shown}) are no multiple of the published ones")


def _cut_options(options: Sequence[Any], largest: Any) -> tuple[Any, ...]:
    return (*(option for option in options if option < largest), largest)
