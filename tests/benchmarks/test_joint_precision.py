"""The benchmark of joint search: policies drawn, parts put together, volumes compared."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from supernet.space import Choice, SearchSpace
from tests.benchmarks.loading import FOLDER, load_benchmark

FORMATS = ("w4a8", "int8", "fp32")
DEPTH = Choice("depth", (1, 2, 3), "depth")
WIDTH = Choice("width", (8, 16, 24, 32), "width")
PRECISIONS = tuple(
    Choice(f"block{i}.precision", FORMATS, "precision", ("depth", i) if i > 1 else None)
    for i in (1, 2, 3)
)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return load_benchmark("joint_precision")


class _Toy:
    """Larger networks are better, fewer bits smaller, 8 bits fastest."""

    def __init__(self) -> None:
        self.space = SearchSpace((DEPTH, WIDTH, *PRECISIONS))
        self.supernet = SimpleNamespace(space=self.space)
        self.judged = 0

    def _units(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there = np.arange(3) <= rows[:, :1]
        return there * (1.0 + rows[:, 1:2]), rows[:, 2:]

    def judge(self, rows: np.ndarray, split: str) -> np.ndarray:
        assert split == "val"
        self.judged += len(rows)
        size, form = self._units(rows)
        return np.exp(-0.3 * (size * np.array([0.9, 1.0, 1.0])[form]).sum(1))

    def predict(self, rows: np.ndarray) -> np.ndarray:
        size, form = self._units(rows)
        return (size * np.array([1.1, 1.0, 2.0])[form]).sum(1)

    def size_bytes(self, rows: np.ndarray) -> np.ndarray:
        size, form = self._units(rows)
        return (size * np.array([4.0, 8.0, 32.0])[form]).sum(1)


@pytest.fixture
def arena(benchmark):
    toy = _Toy()
    return benchmark.Arena(SearchSpace((DEPTH, WIDTH)), toy, toy, toy)


def test_one_precision_leaves_the_architecture_alone(arena) -> None:
    rows = arena.plain.sample(np.random.default_rng(0), 20)
    for position, name in enumerate(FORMATS):
        wide = arena.widen(rows, name)
        assert (wide[:, :2] == rows).all()
        for row in arena.space.decode(wide):
            assert {v for k, v in row.to_dict().items() if "precision" in k} == {name}
        assert (wide[:, 2] == position).all()


def test_every_policy_is_drawn_where_there_are_few(benchmark, arena) -> None:
    space = arena.space
    rows = arena.widen(np.array([[2, 1], [0, 3]], np.int16), "fp32")
    found = benchmark.draw_policies(space, rows, np.random.default_rng(0))
    # 27 policies of three blocks, and 3 of the one block that the other network has.
    assert len(found) == 30
    assert {tuple(row) for row in found[:, :2]} == {(2, 1), (0, 3)}


def test_uniform_policies_are_always_drawn(benchmark, arena, monkeypatch) -> None:
    monkeypatch.setattr(benchmark, "POOL", 20)
    rows = arena.widen(np.array([[2, 1]], np.int16), "fp32")
    found = {
        row.tobytes()
        for row in benchmark.draw_policies(arena.space, rows, np.random.default_rng(0))
    }
    assert len(found) < 24
    for name in FORMATS:
        assert arena.widen(rows[:, :2], name).tobytes() in found


@pytest.mark.parametrize("name", ["search_jointly", "search_uniform", "search_architecture_first"])
def test_searches_spend_the_same_and_find_their_kind(benchmark, arena, name: str) -> None:
    share = (0.5,) if name == "search_architecture_first" else ()
    most = {"search_uniform": 12}.get(name, 16)
    front = getattr(benchmark, name)(arena, most, 0, *share)
    assert arena.judge.judged <= most
    assert len(front)
    used = {v for a in arena.space.decode(front) for k, v in a.to_dict().items() if "prec" in k}
    assert used == {"int8"} if name == "search_uniform" else len(used) > 1


def test_volumes_share_one_reference(benchmark) -> None:
    points = {
        "joint": np.array([[0.0, 0.0, 0.0]]),
        "architecture_first": np.array([[0.0, 0.0, 0.55]]),
        "uniform_int8": np.array([[1.0, 1.0, 1.0]]),
    }
    found = benchmark.compare(points)
    # The reference is a tenth of the range beyond the worst: 1.1 in all three.
    assert found["architecture_first"] == pytest.approx(2.0)
    assert found["uniform_int8"] == pytest.approx(11.0**3)
    assert set(found) == {"architecture_first", "uniform_int8"}


def test_missing_data_is_said(benchmark, capsys, tmp_path: Path) -> None:
    missing = str(tmp_path / "nothing")
    assert benchmark.main(["--data", "cifar10", "--sheets", missing]) == 0
    assert missing in capsys.readouterr().out
