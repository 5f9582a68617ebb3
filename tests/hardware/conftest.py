"""A small additive space, and an imaginary device whose true latencies are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from hardware.device import Device
from supernet.costs.cost_model import CostModel, CostUnit, UnitVariants
from supernet.graph.language import BATCH, Constant, Graph, Node, TensorSpec
from supernet.space import Architecture, Choice, SearchSpace

WIDTHS = (16, 32, 64, 128)
DEPTHS = (1, 2, 3, 4)
IMAGINARY = '''
"""A device on which every node takes 3 us, every weight 2 ns and every call 5 us, give or take."""
from __future__ import annotations
import numpy as np
import onnx

SLOWDOWN = 1.0
CROOKED = False
STATE = {"calls": 0, "loads": 0}

def load(model, feeds, device):
    graph = onnx.load_from_string(model).graph
    weights = sum(int(np.prod(w.dims)) for w in graph.initializer)
    true = 5000 + 3000 * len(graph.node) + 2 * weights
    rng = np.random.default_rng(weights + STATE["loads"])
    STATE["loads"] += 1
    reference = graph.input[0].name == "input"
    if CROOKED and not reference:
        true = int(true * (0.4 + 1.2 * np.random.default_rng(weights * len(graph.node)).random()))
    session = 1 + 0.01 * rng.standard_normal()

    def timer():
        STATE["calls"] += 1
        busy = 1.6 if (STATE["calls"] // 400) % 3 else 1.0
        speed = SLOWDOWN if not reference else 1.0
        return int(true * speed * session * busy * (1 + 0.02 * abs(rng.standard_normal())))

    return timer

def describe(device):
    return {"imaginary": 1}
'''


def chain(widths: tuple[int, ...]) -> Graph:
    """Fully connected layers 16 -> widths[0] -> ... with ReLUs, written without torch."""
    nodes: list[Node] = []
    weights: list[TensorSpec] = []
    tensor, before = "x", 16
    for index, width in enumerate(widths):
        weights.append(TensorSpec(f"w{index}", (before, width), "float32"))
        nodes.append(Node("MatMul", (tensor, f"w{index}"), (f"m{index}",), (), f"layer{index}"))
        nodes.append(Node("Relu", (f"m{index}",), (f"r{index}",), (), f"layer{index}"))
        weights.append(TensorSpec(f"v{index}", (width, 16), "float32"))
        nodes.append(Node("MatMul", (f"r{index}", f"v{index}"), (f"o{index}",)))
        tensor, before = f"o{index}", 16
    constants: tuple[Constant, ...] = ()
    macs = sum(32 * w for w in widths)
    return Graph(
        (TensorSpec("x", (BATCH, 16), "float32"),), (TensorSpec(tensor, (BATCH, 16), "float32"),),
        tuple(nodes), tuple(weights), constants, macs, macs,
    )  # fmt: skip


@dataclass
class Toy:
    """A space of up to four layers with a width each: 340 networks."""

    space: SearchSpace = field(
        default_factory=lambda: SearchSpace(
            (
                Choice("depth", DEPTHS, "depth"),
                Choice("width0", WIDTHS, "width"),
                *(Choice(f"width{i}", WIDTHS, "width", ("depth", i + 1)) for i in (1, 2, 3)),
            )
        )
    )

    def cost_model(self, widths: tuple[int, ...] = WIDTHS) -> CostModel:
        made = {w: CostUnit(chain((w,))) for w in widths}
        units = []
        for layer in range(4):
            variants = tuple(
                made[w] if depth > layer else None for depth, w in itertools.product(DEPTHS, widths)
            )
            names = ("depth", f"width{layer}")
            units.append(UnitVariants(f"layer{layer}", names, variants, (0,) * len(variants)))
        return CostModel(self.space, tuple(units))

    def graph(self, architecture: Architecture) -> Graph:
        depth = int(architecture["depth"])
        return chain(tuple(int(architecture[f"width{i}"]) for i in range(depth)))

    def true_ms(self, architecture: Architecture) -> float:
        """Latency of the imaginary device, in milliseconds."""
        graph = self.graph(architecture)
        return (5000 + 3000 * len(graph.nodes) + 2 * graph.parameters) / 1e6


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def imaginary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Device]:
    """Makes devices backed by a module outside of the package, found by its dotted path."""
    made = itertools.count()

    def make(name: str = "imaginary", **settings: object) -> Device:
        package = f"laboratory{next(made)}_{abs(hash(str(tmp_path)))}"
        folder = tmp_path / "modules" / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        text = IMAGINARY
        for key, value in settings.items():
            text += f"\n{key} = {value!r}\n"
        (folder / "backend.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path / "modules"))
        return Device(name=name, backend=f"{package}.backend")

    return make


@pytest.fixture
def positions(toy: Toy) -> np.ndarray:
    return toy.space.sample(np.random.default_rng(0), 50)
