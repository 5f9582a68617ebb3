"""The example scripts run as a user would run them, only shorter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def example(name: str, *arguments: object) -> str:
    """Standard output of an example script that must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_train_supernet(tmp_path: Path) -> None:
    out = example("train_supernet.py", "--out", tmp_path / "run", "--steps", 10)
    assert " subnetworks share " in out
    assert out.count(" parameters, accuracy 0.") == 2
    assert (tmp_path / "run" / "checkpoints" / "10" / "weights.safetensors").exists()


def test_search_latency_budget(tmp_path: Path) -> None:
    out = example(
        "search_latency_budget.py", "--out", tmp_path / "run", "--latency-ms", 5, "--steps", 10,
        "--evaluations", 30, "--passes", 2,
    )  # fmt: skip
    assert "after 30 evaluations" in out
    assert "within 5 ms: " in out
    (folder,) = (tmp_path / "run" / "exports").iterdir()
    assert (folder / "model.onnx").exists()


def test_explore(finished_run: Path) -> None:
    out = example("explore.py", finished_run, "--print-only")
    assert "search default on cpu: accuracy against latency_ms" in out
    assert " ms\n" in out
