"""Files of a user's own that are called like this project's packages: never run in their place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supernet import __version__
from supernet.own_packages import PACKAGES, leave_working_directory, require_own_packages

ROOT = Path(__file__).parents[2]
RAN = "print('RAN', __name__)\n"


def run(folder: Path, *arguments: str, path: str = str(ROOT)) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_command_is_ours_whatever_lies_in_the_working_directory(tmp_path: Path) -> None:
    for name in (*PACKAGES, "typer", "click", "pathlib"):
        (tmp_path / f"{name}.py").write_text(RAN)
    result = run(tmp_path, "-m", "supernet", "pick", "--run", "none", "--knee")
    assert (result.returncode, result.stdout) == (2, "")
    # Before it, what it is at: that it loads libraries.
    said = result.stderr.splitlines()[-1]
    assert said.startswith("error: none is not a run directory"), result.stderr
    assert run(tmp_path, "-m", "supernet", "--version").stdout.strip() == __version__


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("place", ["{}.py", "{}/__init__.py"])
def test_a_file_that_python_finds_first_is_named_and_not_run(
    tmp_path: Path, name: str, place: str
) -> None:
    file = tmp_path / "theirs" / place.format(name)
    file.parent.mkdir(parents=True)
    file.write_text(RAN)
    path = os.pathsep.join((str(tmp_path / "theirs"), str(ROOT)))
    # Both ways to start the command, the second as the installed script does it.
    for start in (("-m", "supernet"), ("-c", "from supernet.__main__ import main; main()")):
        result = run(tmp_path, *start, "--version", path=path)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.splitlines() == [f"error: {explain(file, name)}"]


def test_a_script_beside_such_a_file_is_told_which_file_it_imports(tmp_path: Path) -> None:
    file = tmp_path / "search.py"
    file.write_text("HERE = 1\n")
    script = tmp_path / "script.py"
    # A file of one's own may be meant: it is imported, with a word.
    script.write_text("import supernet\nfrom search import HERE\nprint(HERE)\n")
    result = run(tmp_path, str(script))
    assert (result.returncode, result.stdout) == (0, "1\n")
    assert f"{script}:2: UserWarning: {explain(file, 'search')}" in result.stderr
    # Where a package of ours would get it, nothing is imported.
    file.write_text(RAN)
    script.write_text("from app.jobs.search import search_job\n")
    result = run(tmp_path, str(script))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == (
        f"supernet.errors.InputError: {explain(file, 'search')}"
    )
    # A name that nobody imports disturbs nobody.
    script.write_text("import supernet.space\nprint('well')\n")
    result = run(tmp_path, str(script))
    assert (result.returncode, result.stdout, result.stderr) == (0, "well\n", "")


def explain(file: Path, name: str) -> str:
    return (
        f"{file} is found in the place of supernet's package {name!r}; rename it, or take its "
        "folder off Python's path (PYTHONPATH, or the folder of the script)"
    )


def test_only_a_working_directory_that_is_not_ours_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for here, first, left in (
        (tmp_path, str(tmp_path), True),
        (tmp_path, "", True),
        (tmp_path, str(ROOT), False),
        (ROOT, str(ROOT), False),
    ):
        monkeypatch.chdir(here)
        monkeypatch.setattr(sys, "path", [first, "further"])
        leave_working_directory()
        assert sys.path == (["further"] if left else [first, "further"])


def test_our_own_packages_are_no_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    require_own_packages()
    for name in PACKAGES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    require_own_packages()
