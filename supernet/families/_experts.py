"""Layers whose weights are mixed for each architecture (Mixture-of-Supernets, Jawahar et al. 2023).

A linear layer has several weights, its experts. A small router reads the architecture and says how
much of each goes into the weight that is used, of the whole layer or of every output neuron
(sections 3.2 and 3.3): subnetworks of different sizes then need not agree on one weight. In the
table that is a ``Derive`` row: what is extracted has the mixed weight alone, and costs what any
subnetwork of its sizes costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.elastic.edits import Derive
from supernet.errors import InputError
from supernet.families._transformer_rows import list_projections
from supernet.space import SearchSpace, Value

ROUTINGS = ("layer", "neuron")
ROUTER_WIDTH = 16


def check_experts(experts: int, routing: str) -> None:
    """InputError unless there is an expert, and a router of a kind that there is."""
    if experts < 1:
        raise InputError(f"experts = {experts} must be at least 1")
    if routing not in ROUTINGS:
        raise InputError(f"routing = {routing!r} is unknown; it is one of {', '.join(ROUTINGS)}")


@dataclass(frozen=True)
class Mixed:
    """What experts add to a supernet.

    Args:
        rows: Of its table.
        shared: Further experts and the routers, by name.
        no_decay: Names of parameters to keep out of weight decay, as in ``named_parameters``:
            decay would bring routers back to equal shares.
    """

    rows: tuple[Derive, ...]
    shared: Mapping[str, nn.Parameter]
    no_decay: tuple[str, ...]


def mix_layers(
    model: nn.Module,
    layers: Sequence[str],
    space: SearchSpace,
    *,
    experts: int,
    routing: str,
    seed: int,
) -> Mixed:
    """Give linear layers experts that start as equals, and routers that start at random.

    Networks then compute at first what they would without; the routers' different shares are what
    makes experts differ later.

    Args:
        model: The plain largest network, whose weights are the first experts.
        layers: Paths of its linear layers that get experts.
        space: The choices, all of which the routers read.
        experts: Weights of each layer; one adds nothing.
        routing: ``"layer"`` or ``"neuron"``.
        seed: Of the routers' weights.
    """
    rows: list[Derive] = []
    shared: dict[str, nn.Parameter] = {}
    routers: list[str] = []
    generator = torch.Generator().manual_seed(seed)
    choices = tuple(choice.name for choice in space.choices)
    ranges = tuple((_number(c.values[0]), _number(c.values[-1])) for c in space.choices)
    for path in layers if experts > 1 else ():
        weight = model.get_parameter(f"{path}.weight")
        place = path.replace(".", ":")
        twins = {
            f"expert{number}|{place}": nn.Parameter(weight.detach().clone())
            for number in range(2, experts + 1)
        }
        router = _make_router(len(choices), experts, len(weight), routing, generator)
        named = {f"router|{place}|{name}": nn.Parameter(p.to(weight)) for name, p in router.items()}
        shared |= twins | named
        routers += named
        rows.append(
            Derive(
                f"{path}.weight",
                choices,
                Mixture(ranges, routing == "neuron"),
                (*named, *twins),
                reshapes=False,
                alike=tuple(twins),
            )
        )
    return Mixed(tuple(rows), shared, tuple(f"shared.{name}" for name in routers))


class HasExperts(Protocol):
    """A family's configuration whose layers may have experts."""

    @property
    def experts(self) -> int:
        """Weights of each layer."""

    @property
    def routing(self) -> str:
        """One of :data:`ROUTINGS`."""

    @property
    def seed(self) -> int:
        """Of all initial weights."""


def mix_stack(
    model: nn.Module, layers: nn.ModuleList, space: SearchSpace, config: HasExperts
) -> Mixed:
    """Give all projections of a model's stack ``layers`` the experts that a configuration asks for.

    See :func:`mix_layers`.
    """
    return mix_layers(
        model,
        list_projections(layers, "layers"),
        space,
        experts=config.experts,
        routing=config.routing,
        seed=config.seed,
    )


@dataclass(frozen=True)
class Mixture:
    """The weight of one architecture: its experts by the shares that the router gives them.

    Args:
        ranges: The least and the largest value of each choice, between which it is normalised.
        by_neuron: Whether every output neuron has shares of its own.
    """

    ranges: tuple[tuple[float, float], ...]
    by_neuron: bool

    def __call__(self, weight: Tensor, values: tuple[Value, ...], *shared: Tensor) -> Tensor:
        """Mix a weight.

        Args:
            weight: The first expert ``(outputs, inputs)``, as it is cut to a subnetwork.
            values: Of all choices; those that do not matter stand at their least.
            *shared: The router (weight and bias of its hidden layer, and of its scores), then the
                further experts, whole.

        Returns:
            ``(outputs, inputs)``.
        """
        shares = self.share(weight, values, *shared[:4])
        rows, columns = weight.shape
        mixed = shares[0] * weight
        for share, expert in zip(shares[1:], shared[4:], strict=True):
            mixed = mixed + share * expert[:rows, :columns]
        return mixed

    def share(self, weight: Tensor, values: tuple[Value, ...], *router: Tensor) -> Tensor:
        """Compute what each expert contributes to a weight ``(outputs, inputs)``.

        Returns:
            ``(experts, 1, 1)``, or ``(experts, outputs, 1)`` by neuron; over experts they add up
            to 1.
        """
        inner, inner_bias, outer, outer_bias = router
        features = _normalise(values, self.ranges, weight.dtype, weight.device)
        hidden = F.relu(F.linear(features, inner, inner_bias))
        if self.by_neuron:
            outer, outer_bias = outer[:, : len(weight)], outer_bias[:, : len(weight)]
        scores = outer @ hidden + outer_bias
        return scores.softmax(0).view(len(scores), -1, 1)


def _make_router(
    features: int, experts: int, outputs: int, routing: str, generator: torch.Generator
) -> dict[str, Tensor]:
    """Weights of a router: normal, so that scores vary by about 1 between experts."""
    scores = (experts, outputs) if routing == "neuron" else (experts,)
    inner = torch.randn(ROUTER_WIDTH, features, generator=generator) * (2 / features) ** 0.5
    # Small architectures have features near 0; biases tell their experts apart as well.
    inner_bias = torch.randn(ROUTER_WIDTH, generator=generator) * 0.5
    outer = torch.randn(*scores, ROUTER_WIDTH, generator=generator) * (2 / ROUTER_WIDTH) ** 0.5
    return {
        "inner": inner,
        "inner_bias": inner_bias,
        "outer": outer,
        "outer_bias": torch.zeros(scores),
    }


@lru_cache(maxsize=256)
def _normalise(
    values: tuple[Value, ...],
    ranges: tuple[tuple[float, float], ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Values between 0 for the least of a choice and 1 for the largest, ``(choices,)``."""
    scaled = [
        (_number(value) - low) / (high - low) if high > low else 0.0
        for value, (low, high) in zip(values, ranges, strict=True)
    ]
    # Kept across calls, so it must not be born as an inference tensor.
    with torch.inference_mode(False):
        return torch.tensor(scaled, dtype=dtype, device=device)


def _number(value: Value) -> float:
    assert not isinstance(value, str), "choices of sizes are numbers"
    return float(value)
