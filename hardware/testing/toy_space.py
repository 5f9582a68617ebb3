"""A space of 340 small networks whose costs add up, written without torch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from supernet.costs.cost_model import CostModel, CostUnit, UnitVariants
from supernet.graph.language import BATCH, Graph, Node, TensorSpec
from supernet.space import Architecture, Choice, SearchSpace

WIDTHS = (16, 32, 64, 128)
DEPTHS = (1, 2, 3, 4)
OUTSIDE = 16


def dense_graph(widths: tuple[int, ...]) -> Graph:
    """Write pairs of fully connected layers, 16 -> width -> 16 for each width, with ReLUs between.

    Args:
        widths: Hidden width of each pair.
    """
    nodes: list[Node] = []
    weights: list[TensorSpec] = []
    tensor = "x"
    for i, width in enumerate(widths):
        weights.append(TensorSpec(f"w{i}", (OUTSIDE, width), "float32"))
        nodes.append(Node("MatMul", (tensor, f"w{i}"), (f"m{i}",), (), f"layer{i}"))
        nodes.append(Node("Relu", (f"m{i}",), (f"r{i}",), (), f"layer{i}"))
        weights.append(TensorSpec(f"v{i}", (width, OUTSIDE), "float32"))
        nodes.append(Node("MatMul", (f"r{i}", f"v{i}"), (f"o{i}",)))
        tensor = f"o{i}"
    macs = sum(2 * OUTSIDE * width for width in widths)
    return Graph(
        inputs=(TensorSpec("x", (BATCH, OUTSIDE), "float32"),),
        outputs=(TensorSpec(tensor, (BATCH, OUTSIDE), "float32"),),
        nodes=tuple(nodes),
        weights=tuple(weights),
        constants=(),
        macs=macs,
        parameters=macs,
    )


def _make_space() -> SearchSpace:
    others = (Choice(f"width{i}", WIDTHS, "width", ("depth", i + 1)) for i in DEPTHS[:-1])
    first = Choice("width0", WIDTHS, "width")
    return SearchSpace((Choice("depth", DEPTHS, "depth"), first, *others))


@dataclass(frozen=True)
class ToySpace:
    """Up to four layers of :func:`dense_graph`, each with a width of its own."""

    space: SearchSpace = field(default_factory=_make_space)

    def cost_model(self, widths: tuple[int, ...] = WIDTHS) -> CostModel:
        """Make the cost model of the space, one unit for each layer.

        Args:
            widths: What the layers measure, in place of the space's own widths.
        """
        made = {width: CostUnit(dense_graph((width,))) for width in widths}
        units = []
        for layer in range(len(DEPTHS)):
            variants = tuple(
                made[width] if depth > layer else None
                for depth, width in itertools.product(DEPTHS, widths)
            )
            names = ("depth", f"width{layer}")
            units.append(UnitVariants(f"layer{layer}", names, variants, (0,) * len(variants)))
        return CostModel(self.space, tuple(units))

    def graph(self, architecture: Architecture) -> Graph:
        """Write the whole network of an architecture."""
        depth = int(architecture["depth"])
        return dense_graph(tuple(int(architecture[f"width{i}"]) for i in range(depth)))
