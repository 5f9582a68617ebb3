"""A small additive space, and imaginary devices whose true latencies are known."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hardware.device import Device
from hardware.testing.toy_space import ToySpace
from supernet.space import Architecture

BUSY = Path(__file__).parent / "laboratory" / "busy.py"


class Toy(ToySpace):
    """The toy space, and what its networks take on the imaginary device."""

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
        (folder / "backend.py").write_text(BUSY.read_text())
        monkeypatch.syspath_prepend(str(tmp_path / "modules"))
        module = importlib.import_module(f"{package}.backend")
        for key, value in settings.items():
            setattr(module, key, value)
        return Device(name=name, backend=module.__name__)

    return make


@pytest.fixture
def positions(toy: Toy) -> np.ndarray:
    return toy.space.sample(np.random.default_rng(0), 50)
