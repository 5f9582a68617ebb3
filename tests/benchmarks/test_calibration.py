"""What calibration adds, on answers whose truth is known; and what is missing is said."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from supernet.space import Choice, SearchSpace
from tests.benchmarks.loading import FOLDER, load_benchmark

SPACE = SearchSpace(
    (
        Choice("resolution", (8, 16), "resolution"),
        *(Choice(f"width{i}", (1, 2, 3), "width") for i in range(4)),
    )
)
SAMPLES = 3000


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return load_benchmark("calibration")


def draw(benchmark: ModuleType) -> tuple[object, np.ndarray]:
    """Networks of two resolutions; shared weights make the larger one look worse."""
    rng = np.random.default_rng(0)
    rows = np.unique(SPACE.sample(rng, 60), axis=0)[:32]
    widths = rows[:, 1:].sum(axis=1)
    true = 1 / (1 + np.exp(-(0.5 + 0.25 * widths + 0.8 * rows[:, 0])))
    inherited = 1 / (1 + np.exp(-(0.5 + 0.25 * widths - 0.8 * rows[:, 0])))
    macs = 1e5 * (widths + 4.0) * (1 + rows[:, 0])
    right = rng.random((len(rows), 2, SAMPLES)) < true[:, None, None]
    supernets = rng.random((1, len(rows), SAMPLES)) < inherited[:, None]
    truth = benchmark.Truth(SPACE, rows, macs, right, np.arange(SAMPLES))
    return truth, supernets


def test_calibration_finds_what_shared_weights_get_wrong(benchmark: ModuleType) -> None:
    truth, supernets = draw(benchmark)
    rows = {
        (row["ranked_by"], row["trained"]): row
        for row in benchmark.compare(truth, supernets, (8,), 2)
    }
    inherited, calibrated = rows["inherited", 0], rows["the model", 8]
    assert calibrated["tau"] > inherited["tau"] + 0.2
    assert calibrated["unseen"] > inherited["unseen"] + 0.2
    assert calibrated["top"] > inherited["top"]
    assert calibrated["error"] < 0.5 * inherited["error"]
    assert calibrated["covered"] > 0.8
    assert rows["all trained", 32]["tau"] > calibrated["tau"]
    assert benchmark.measure_regret(truth, truth.mean) == 0
    worst = benchmark.measure_regret(truth, -truth.mean)
    assert 0 <= calibrated["regret"] < 0.1 * 100 * worst
    table = benchmark.write_table(
        {
            "networks": 32,
            "truth": {"one": 0.7, "mean": 0.8, "ceiling": 0.9},
            "rows": [{"recipe": "spos", **inherited, "covered": None}],
        }
    )
    assert "| `spos` | inherited | 0 |" in table


def test_what_is_missing_is_said(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--recipes", "spos", "--seeds", "1", "--networks", "4", "--keep", str(tmp_path)]
    assert benchmark.main([*flags, "--counts", "4"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "lacks 9 trainings, the first of them clutter: spos for 2800 steps, seed 0" in said.err
    with pytest.raises(SystemExit):
        benchmark.main([*flags, "--counts", "5"])
    assert "at most the 4 networks" in capsys.readouterr().err
