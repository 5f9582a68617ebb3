"""The example scripts run as a user would run them, only shorter."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs an example script in this process; gives its standard output."""

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_train_supernet(example, tmp_path: Path) -> None:
    out = example("train_supernet.py", "--out", tmp_path / "run", "--steps", 10)
    assert " subnetworks share " in out
    assert out.count(" parameters, accuracy 0.") == 2
    assert (tmp_path / "run" / "checkpoints" / "10" / "weights.safetensors").exists()


def test_search_latency_budget(tmp_path: Path) -> None:
    """In a process of its own, as users run them all."""
    flags = ["--out", str(tmp_path / "run"), "--latency-ms", "5", "--steps", "10",
             "--evaluations", "30", "--passes", "2"]  # fmt: skip
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "search_latency_budget.py"), *flags],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "after 30 evaluations" in result.stdout
    assert "within 5 ms: " in result.stdout
    (folder,) = (tmp_path / "run" / "exports").iterdir()
    assert (folder / "model.onnx").exists()


def test_explore(example, finished_run: Path) -> None:
    out = example("explore.py", finished_run, "--print-only")
    assert "search default on cpu: accuracy against latency_ms" in out
    assert " ms\n" in out
