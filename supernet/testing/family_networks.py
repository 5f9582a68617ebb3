"""Networks, batches and places that the checks of families are made with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from supernet.elastic import edit_index, slicing
from supernet.elastic.edit_index import Values, find_source_path
from supernet.elastic.edits import Cut, Derive
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.exactness import in_double


def build_randomised(family: ModuleType, preset: str) -> Supernet:
    """Build a supernet in which every weight and statistic matters."""
    net: Supernet = family.build(family.PRESETS[preset])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 1 / max(1, parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.3
            parameter.add_(noise * scale)
        for name, buffer in net.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("running_mean"):
                buffer.normal_(0, 0.2, generator=generator)
    return net.eval()


@cache
def build_shared(family: ModuleType, preset: str) -> Supernet:
    """Build a randomised supernet once, for checks that leave it as it is."""
    return build_randomised(family, preset)


@cache
def build_double(family: ModuleType, preset: str) -> Supernet:
    """Build the same in double precision, for checks that leave it as it is."""
    return in_double(build_shared(family, preset))


def make_batch(net: Supernet, architecture: Architecture, count: int = 3) -> torch.Tensor:
    """Draw a batch of pixels or token numbers in the shape that an architecture takes."""
    generator = torch.Generator().manual_seed(5)
    shape = (count, *net.input_shape(architecture))
    if net.inputs.dtype.is_floating_point:
        return torch.rand(shape, generator=generator)
    return torch.randint(0, 20, shape, generator=generator)


def sample_architectures(net: Supernet, count: int, seed: int = 0) -> list[Architecture]:
    """Draw ``count`` architectures; the smallest and the largest come before them."""
    drawn = net.space.decode(net.space.sample(np.random.default_rng(seed), count))
    return [net.space.smallest, net.space.largest, *drawn]


def count_macs(network: nn.Module, x: torch.Tensor) -> int:
    """Count multiply-accumulates by torch's own counter while the network runs."""
    # Fused attention on a CPU escapes torch's counter; the plain one is made of counted products.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network.eval()(x)
    return counter.get_total_flops() // 2


def name_as_inside(
    net: Supernet, architecture: Architecture, alone: nn.Module
) -> dict[str, nn.Parameter]:
    """Name the parameters of an extracted network as in the full model."""
    values = Values(architecture)
    named = alone.named_parameters()
    return {find_source_path(net.edit_index, values, name): parameter for name, parameter in named}


def find_places(net: Supernet, architecture: Architecture) -> dict[str, torch.Tensor]:
    """Find where in the whole network each entry of an extracted one comes from.

    A copy whose parameters hold their own positions is extracted, so nothing but extraction itself
    is asked. What rows derive (kernels) comes from no single place.

    Returns:
        Flat positions by the parameter's name in the full model, in the extracted shape.
    """
    numbered = in_double(net)
    derived = {row.tensor for row in net.edits if isinstance(row, Derive)}
    with torch.no_grad():
        for parameter in numbered.model.parameters():
            parameter.copy_(torch.arange(parameter.numel()).view_as(parameter))
    alone = numbered.extract(architecture)
    named = name_as_inside(net, architecture, alone)
    return {name: p.detach().long() for name, p in named.items() if name not in derived}


def extract_shifted(net: Supernet, architecture: Architecture, row: Cut) -> nn.Module | None:
    """Extract a network in which one row of the table keeps the wrong entries: each one further on.

    Returns None when the row says nothing of this architecture (it concerns what is dropped).
    """
    met = []

    def view_cuts(tensor: torch.Tensor, cuts: Sequence[Cut], values: Values) -> torch.Tensor:
        if any(cut is row for cut in cuts):
            met.append(row)
            tensor = tensor.roll(-1, row.dim)
        return edit_index.view_cuts(tensor, cuts, values)

    with patch.object(slicing, "view_cuts", view_cuts):
        wrong = net.extract(architecture)
    return wrong if met else None
