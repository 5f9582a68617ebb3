"""What is made ready while a browser is on its way, and what becomes of failures there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.explorer import opened, preload
from tests.toys.explored_runs import write_run


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server starts here, and nobody waits for a page to be drawn."""
    monkeypatch.setattr(preload, "_PATIENCE", 0.0)
    monkeypatch.setattr(preload, "_DRAWN", 0.0)


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    for name in ("first", "second"):
        write_run(tmp_path / name)
    return [tmp_path / "first", tmp_path / "second"]


def make_ready(*paths: Path) -> None:
    thread = preload.preload([str(path) for path in paths])
    thread.join(60)
    assert not thread.is_alive()


def test_the_run_that_is_shown_first_is_read(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(opened, "open_run", read.append)
    make_ready(runs[0].parent)
    assert read == [runs[0]]
    assert "app.explorer.screens.front" in sys.modules
    assert capfd.readouterr().err == ""


def test_what_fails_is_said_in_a_sentence(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path) -> None:
        raise ValueError(f"{path.name}\nis odd")

    usual = sys.getswitchinterval()
    monkeypatch.setattr(opened, "open_run", fail)
    make_ready(*runs)
    expected = "warning: the first page may take longer (ValueError: first is odd)\n"
    assert capfd.readouterr().err == expected
    assert sys.getswitchinterval() == usual


def test_another_streamlit_may_lack_what_tells_of_a_start(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr("streamlit.runtime.RuntimeState")
    make_ready(*runs)
    said = capfd.readouterr().err
    assert said.startswith("warning: the first page may take longer (ImportError: ")
    assert said.count("\n") == 1


def test_the_first_chart_needs_no_pandas(runs: list[Path]) -> None:
    page = Path(preload.__file__).with_name("page.py")
    code = (
        "import sys; from streamlit.testing.v1 import AppTest;"
        "sys.argv[:] = sys.argv[1:];"
        "page = AppTest.from_file(sys.argv[0], default_timeout=60).run();"
        "assert not page.exception and page.tabs; assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(page), str(runs[0])], check=True)


def test_a_server_is_started_without_reading_records(runs: list[Path]) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from app.commands.serve_explorer import prepare;"
        "assert prepare([Path(sys.argv[1])], None, True); assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(runs[0])], check=True)
