"""Modules of a user's own: named on the command line they are used, named by a file alone not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.runs import plugins
from app.runs.directory import open_run
from app.runs.latency_table import open_table
from app.runs.trained import build, open_run_data
from supernet import checksums
from tests.app.conftest import EVALUATIONS, PROFILE, SEARCH, Command, contents

ROOT = Path(__file__).parents[2]
# Imported, such a module leaves a trace.
TRACE = "from pathlib import Path\nPath(__file__).with_suffix('.trace').touch()\n"
FAMILY = "from supernet.families.ofa_mobilenetv3 import *\n"
BACKEND = "from hardware.devices.onnx_runtime import *\n"
PREDICTOR = """
from pathlib import Path
from predictors.models import ridge
def fit(space, positions, values, *, seed, statistics=None):
    Path(__file__).with_suffix('.fitted').touch()
    return ridge.fit(space, positions, values, seed=seed, statistics=statistics)
"""
STRATEGY = "from search.strategies.nsga2 import *\nfrom search.strategies.nsga2 import build\n"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Write a module of a package in the working directory."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def write(path: str, source: str) -> Path:
        file = folder.joinpath(*path.split(".")).with_suffix(".py")
        file.parent.mkdir(exist_ok=True)
        file.write_text(TRACE + source)
        # Another test's module of the same name must not be found again.
        for name in [n for n in sys.modules if n.split(".")[0] == path.split(".")[0]]:
            monkeypatch.delitem(sys.modules, name)
        return file

    return write


def was_imported(file: Path) -> bool:
    return file.with_suffix(".trace").exists()


def edit(file: Path, *keys: str, value: str) -> None:
    content = checksums.read_json(file)
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    file.write_text(json.dumps(content))


def test_names_are_own_when_they_lead_out_of_the_project() -> None:
    own = ("my.family", "my.deep.module", "my.data:load", "data:load")
    ours = (
        "ofa_mobilenetv3",
        "../x",
        "a.b/c",
        "",
        "digits",
        "folder:/tmp/x",
        "my.",
        ":load",
        "9.x",
    )
    assert all(map(plugins.is_own, own))
    assert not any(map(plugins.is_own, ours))


@pytest.mark.parametrize(
    "kind", [plugins.FAMILY, plugins.STRATEGY, plugins.PREDICTOR, plugins.BACKEND]
)
def test_every_kind_is_listed_summed_up_and_refused_by_name(kind: plugins.Kind) -> None:
    known = plugins.list_names(kind)
    assert known
    assert all(plugins.read_summary(kind, name) for name in known)
    wrong = known[0] + "x"
    with pytest.raises(ValueError, match=f"unknown {kind.word} '{wrong}'.*did you mean") as error:
        plugins.load_module(kind, wrong)
    assert f"{kind.plural} are {', '.join(known)}" in str(error.value)
    with pytest.raises(ValueError, match=f"module 'json.tool' is no {kind.word}: it lacks"):
        plugins.load_module(kind, "json.tool")
    with pytest.raises(ValueError, match=f"there is no module 'no.such' for the {kind.word}"):
        plugins.load_module(kind, "no.such")


def test_a_family_that_only_run_json_names_is_refused_and_not_imported(
    command: Command, refused: Callable[..., str], a_run: Path, own: Callable[[str, str], Path]
) -> None:
    file = own("mine1.family", FAMILY)
    edit(a_run / "run.json", "family", value="mine1.family")
    before = contents(a_run)
    for arguments in (
        ("evaluate", "--arch", "smallest"),
        ("export", "--arch", "smallest"),
        ("profile", "--replace"),
        ("search", "--name", "other"),
        ("audit",),
    ):
        said = refused(*arguments, "--run", a_run)
        assert "run.json names the family 'mine1.family'" in said
        assert "--trust mine1.family" in said
    refused("train", "--out", a_run, "--resume")
    refused("evaluate", "--run", a_run, "--arch", "smallest", "--trust", "mine1")
    assert not was_imported(file)
    assert contents(a_run) == before
    trusted = command(
        "evaluate", "--run", a_run, "--arch", "smallest", "--trust", "mine1.family", "--json"
    )
    assert trusted.code == 0, trusted.err
    assert was_imported(file)


def test_a_family_that_was_typed_needs_no_more(
    command: Command, tmp_path: Path, own: Callable[[str, str], Path]
) -> None:
    file = own("mine2.family", FAMILY)
    out = tmp_path / "run"
    flags = ("train", "--family", "mine2.family", "--out", out, "--steps", 2, "--batch-size", 32)
    assert command(*flags).code == 0
    assert was_imported(file)
    assert json.loads((out / "run.json").read_text())["family"] == "mine2.family"
    assert command(*flags, "--resume").code == 0


def test_a_sampler_that_only_run_json_names_is_not_imported(
    refused: Callable[..., str], a_run: Path, own: Callable[[str, str], Path]
) -> None:
    file = own("mine3.sampler", "from supernet.training.samplers.uniform import *\n")
    edit(a_run / "run.json", "recipe", "sampler", value="mine3.sampler")
    said = refused("train", "--out", a_run, "--resume")
    assert "names the sampler 'mine3.sampler'" in said
    assert "names the sampler" in refused("audit", "--run", a_run)
    assert not was_imported(file)


def test_a_sampler_that_is_trusted_is_found_in_the_working_directory(
    command: Command, tmp_path: Path, own: Callable[[str, str], Path]
) -> None:
    source = "from supernet.training.samplers.uniform import LARGEST_FIRST, build\n"
    file = own("mine12.sampler", source)
    flags = ("train", "--out", tmp_path / "run", "--steps", 2, "--batch-size", 32)
    assert command(*flags, "--recipe", "digits+spos+mine12.sampler").code == 0
    file.with_suffix(".trace").unlink()
    # As a new process begins: nothing imported, and the working directory not on the path.
    for name in ("mine12", "mine12.sampler"):
        sys.modules.pop(name)
    sys.path.remove(str(Path.cwd()))
    resumed = ("train", "--out", tmp_path / "run", "--resume")
    outcome = command(*resumed, "--trust", "mine12.sampler")
    assert outcome.code == 0, outcome.err
    assert was_imported(file)


def test_a_run_of_an_own_sampler_is_audited(
    command: Command,
    refused: Callable[..., str],
    a_run: Path,
    own: Callable[[str, str], Path],
) -> None:
    source = "from supernet.training.samplers.sandwich import LARGEST_FIRST, build\n"
    file = own("mine13.sampler", source)
    edit(a_run / "run.json", "recipe", "sampler", value="mine13.sampler")
    flags = ("audit", "--run", a_run, "--networks", 4, "--probes", 0)
    # As a new process begins: the working directory is not on the path.
    sys.path[:] = [place for place in sys.path if place != str(Path.cwd())]
    short = ("--recipe-part", "steps=1,batch_size=16", "--trust", "mine13.sampler")
    outcome = command(*flags, *short)
    assert outcome.code == 0, outcome.err
    found = json.loads((a_run / "audits/default/audit.json").read_text())
    assert found["training"]["passes"] > 0
    # One that is gone is missed before anything is trained.
    for name in ("mine13", "mine13.sampler"):
        sys.modules.pop(name)
    file.unlink()
    assert "there is no module" in refused(*flags, *short, "--name", "second")
    assert not (a_run / "audits/second").exists()


@pytest.mark.parametrize("name", ["x; touch y #", "$(touch y)", "a.b`c`", "../x", "a b.c", ""])
def test_what_cannot_be_a_module_is_not_offered_for_copying(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a module of your own") as error:
        plugins.require_trust("family", name, (), Path("run.json"))
    assert "--trust" not in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ("pick", "--knee"),
        pytest.param(
            ("search", "--evaluations", EVALUATIONS + 2, "--workers", 2),
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(
                    sys.version_info < (3, 11), reason="workers have a safe path from 3.11 on"
                ),
            ],
        ),
    ],
)
def test_files_of_the_working_directory_are_no_modules_of_the_command(
    a_run: Path, tmp_path: Path, arguments: tuple[object, ...]
) -> None:
    """Neither in ``python -m supernet`` nor in the processes that evaluate for it."""
    folder = tmp_path / "here"
    folder.mkdir()
    # Names of a package of this project, of a library and of what Python's workers import.
    for name in ("app", "search", "optuna", "ray", "socket", "random"):
        (folder / f"{name}.py").write_text(TRACE)
    done = subprocess.run(
        [sys.executable, "-m", "supernet", *map(str, arguments), "--run", str(a_run)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.glob("*.trace"))


def test_data_that_only_run_json_names_is_not_imported(
    a_run: Path, own: Callable[[str, str], Path]
) -> None:
    file = own("mine4.data", "def load():\n    raise AssertionError\n")
    edit(a_run / "run.json", "data", "spec", value="mine4.data:load")
    with pytest.raises(ValueError, match=r"run.json names the data 'mine4.data:load'.*--trust"):
        open_run_data(open_run(a_run))
    assert not was_imported(file)
    # A folder by a name that could be a function's is a folder.
    edit(a_run / "run.json", "data", "spec", value="folder:photos")
    with pytest.raises(ValueError, match="photos") as error:
        open_run_data(open_run(a_run))
    assert "--trust" not in str(error.value)


def test_a_backend_is_used_when_typed_and_refused_when_only_a_table_names_it(
    command: Command, refused: Callable[..., str], a_run: Path, own: Callable[[str, str], Path]
) -> None:
    file = own("mine5.backend", BACKEND)
    flags = ("profile", "--run", a_run, "--device", "phone", "--backend", "mine5.backend")
    profiled = command(*flags, *PROFILE)
    assert profiled.code == 0, profiled.err
    device = json.loads((a_run / "devices/phone/device.json").read_text())
    assert (device["name"], device["backend"]) == ("phone", "mine5.backend")
    file.with_suffix(".trace").unlink()
    del sys.modules["mine5.backend"]
    search = ("search", "--run", a_run, "--device", "phone", "--name", "on-phone", *SEARCH)
    said = refused(*search)
    assert "device.json names the device backend 'mine5.backend'" in said
    assert "names the device backend" in refused("profile", "--run", a_run, "--device", "phone")
    assert not was_imported(file)
    run = open_run(a_run, ("mine5.backend",))
    table = open_table(run, "phone", lambda _: build(run).cost_model(), lambda _: None)
    assert table.device.backend == "mine5.backend"


def test_an_unknown_backend_is_refused_with_what_there_is(
    refused: Callable[..., str], a_run: Path
) -> None:
    said = refused("profile", "--run", a_run, "--backend", "onnx_runtim")
    assert "unknown device backend 'onnx_runtim' (did you mean 'onnx_runtime'?)" in said


def test_a_predictor_is_part_of_a_search(
    command: Command, refused: Callable[..., str], a_run: Path, own: Callable[[str, str], Path]
) -> None:
    file = own("mine6.predictor", PREDICTOR)
    flags = ("search", "--run", a_run, "--evaluations", EVALUATIONS, "--name", "by-mine")
    found = command(*flags, "--predictor", "mine6.predictor")
    assert found.code == 0, found.err
    assert file.with_suffix(".fitted").exists()
    front = json.loads((a_run / "searches/by-mine/front.json").read_text())
    assert front["report"]["accuracy"]["model"] == "ridge"
    plan = json.loads((a_run / "searches/by-mine/search.json").read_text())
    assert plan["config"]["predictor"] == "mine6.predictor"
    said = refused(*flags)
    assert "predictor: mine6.predictor -> auto" in said
    said = refused("report", "--run", a_run, "--search", "by-mine")
    assert "search.json names the predictor 'mine6.predictor'" in said


def test_a_strategy_that_only_search_json_names_is_not_imported(
    refused: Callable[..., str], a_run: Path, own: Callable[[str, str], Path]
) -> None:
    file = own("mine7.strategy", STRATEGY)
    for key in ("strategy", "engine"):
        path = a_run / "searches/default/search.json"
        before = path.read_text()
        edit(path, "config", key, value="mine7.strategy")
        said = refused("report", "--run", a_run)
        assert f"search.json names the {key} 'mine7.strategy'" in said
        path.write_text(before)
    assert not was_imported(file)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--predictor", "ridgee"), "unknown predictor 'ridgee' (did you mean 'ridge'?)"),
        (("--engine", "nsga22"), "unknown engine 'nsga22' (did you mean 'nsga2'?)"),
        (
            ("--strategy", "nsga2", "--predictor", "ridge"),
            "strategy 'nsga2' fits no predictor; leave out --predictor",
        ),
        (
            ("--strategy", "nsga2", "--engine", "nsga3"),
            "strategy 'nsga2' has no engine that evolves on predictions; leave out --engine",
        ),
    ],
)
def test_what_a_search_cannot_use_is_refused(
    refused: Callable[..., str], finished_run: Path, flags: tuple[str, ...], said: str
) -> None:
    assert said in refused("search", "--run", finished_run, "--name", "other", *flags)


def test_an_engine_is_part_of_a_search(command: Command, a_run: Path) -> None:
    fronts = []
    for name, flags in (("by-array", ()), ("by-nsga3", ("--engine", "nsga3"))):
        out = command("search", "--run", a_run, *SEARCH, "--name", name, *flags)
        assert out.code == 0, out.err
        plan = json.loads((a_run / "searches" / name / "search.json").read_text())
        fronts.append((plan["config"]["engine"], (a_run / "searches" / name / "front.json")))
    assert [engine for engine, _ in fronts] == ["array", "nsga3"]


def test_a_search_from_before_there_was_a_choice_is_the_same_search(
    command: Command, a_run: Path
) -> None:
    path = a_run / "searches/default/search.json"
    plan = checksums.read_json(path)
    del plan["config"]["predictor"], plan["config"]["engine"]
    path.write_text(json.dumps(plan))
    out = command("search", "--run", a_run, *SEARCH)
    assert (out.code, "already complete" in out.err) == (0, True), out.err


@pytest.mark.parametrize("name", ["odd{n}.x-y", "odd{n}.x@cpu", "odd{n}.", "odd{n}..x", ".odd{n}"])
def test_no_spelling_of_a_name_in_a_file_runs_code(
    refused: Callable[..., str], a_run: Path, own: Callable[[str, str], Path], name: str
) -> None:
    """Importing ``package.x-y`` fails, but not before ``package`` has run."""
    # Modules stay imported, so that every case has a package of its own.
    number = sum(map(ord, name))
    file = own(f"odd{number}.__init__", "")
    named = name.format(n=number)
    record, plan = a_run / "run.json", a_run / "searches/default/search.json"
    places = [
        (record, ("family",), ("evaluate", "--run", a_run, "--arch", "smallest")),
        (record, ("recipe", "sampler"), ("train", "--out", a_run, "--resume")),
        (plan, ("config", "strategy"), ("report", "--run", a_run)),
        (plan, ("config", "engine"), ("report", "--run", a_run)),
        (plan, ("config", "predictor"), ("report", "--run", a_run)),
        (plan, ("config", "objectives"), ("report", "--run", a_run)),
    ]
    for path, keys, command in places:
        before = path.read_text()
        value = ["accuracy", named] if keys[-1] == "objectives" else named
        edit(path, *keys, value=value)  # type: ignore[arg-type]
        assert "Traceback" not in refused(*command)
        path.write_text(before)
    for load in (plugins.load_backend, plugins.load_family, plugins.load_predictor):
        with pytest.raises(ValueError, match=r"device backend|family|predictor"):
            load(named)
    with pytest.raises(ValueError, match="the device backend"):
        plugins.require_trust("device backend", named, (), Path("device.json"))
    assert not was_imported(file)


def test_a_family_that_could_not_be_read_back_is_refused_before_it_is_trained(
    refused: Callable[..., str], tmp_path: Path, own: Callable[[str, str], Path]
) -> None:
    hidden = (
        "from typing import TYPE_CHECKING\n"
        "from supernet.families import resnet\n"
        "from supernet.families.resnet import TASK, SUMMARY, PRESETS, DEFAULT_PRESET, configure\n"
        "if TYPE_CHECKING:\n"
        "    from supernet.families.resnet import Config\n"
        "def build(config: 'Config'):\n"
        "    return resnet.build(config)\n"
    )
    own("mine8.hidden", hidden)
    said = refused("train", "--family", "mine8.hidden", "--out", tmp_path / "run", "--steps", 2)
    assert "does not say what its configuration is" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--objectives", "accuracy,.foo"), "there is no module '.foo' for the objective"),
        (("--evaluations", "99999999999999999999"), "evaluations = 99999999999999999999 is imp"),
        (("--stagnation", "99999999999999999999"), "stagnation = 99999999999999999999 is imposs"),
    ],
)
def test_odd_names_and_numbers_are_one_sentence(
    refused: Callable[..., str], a_run: Path, flags: tuple[str, ...], said: str
) -> None:
    assert said in refused("search", "--run", a_run, "--name", "other", *flags)


OBJECTIVE = """
from app.records.quantities import Quantity
from app.searching.objectives import Analytic
import numpy as np
QUANTITY = Quantity(name="q", unit="u", direction="minimize", title="q", write=str)
def obtain(network):
    {0}
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "obtain must return an Analytic"),
        ("return Analytic(lambda rows: np.full(len(rows), np.nan))", "not all of them finite"),
        ("return Analytic(lambda rows: np.zeros((len(rows), 2)))", "one finite number for each"),
        ("return Analytic(lambda rows: ['x'] * len(rows))", "one finite number for each"),
        ("return Analytic(lambda rows: rows[:, 0] * 1j)", "one finite number for each"),
    ],
)
def test_an_objective_that_gives_no_numbers_is_refused_before_anything_is_evaluated(
    refused: Callable[..., str], a_run: Path, own: Callable[[str, str], Path], body: str, said: str
) -> None:
    own("mine9.nonsense", OBJECTIVE.format(body))
    before = (a_run / "evaluations.jsonl").read_bytes()
    flags = ("--objectives", "accuracy,mine9.nonsense", "--name", "other")
    found = refused("search", "--run", a_run, *flags)
    assert "objective 'mine9.nonsense'" in found
    assert said in found
    assert (a_run / "evaluations.jsonl").read_bytes() == before
    assert not (a_run / "searches" / "other").exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def load(:\n", "is no Python that can be read"),
        ("import sys; sys.exit(3)\n", "ends the program when imported"),
        ("import nosuchthing\n", "needs nosuchthing, which is not installed"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(
    own: Callable[[str, str], Path], source: str, said: str
) -> None:
    own("mine10.broken", source)
    with pytest.raises((ValueError, ModuleNotFoundError), match=said) as error:
        plugins.load_own("mine10.broken", "strategy", ("build",))
    assert "mine10.broken" in str(error.value)


@pytest.mark.parametrize("engine", ["math.sqrt", "json.dumps", "sklearn.svm.SVR"])
def test_what_is_no_engine_is_refused(
    refused: Callable[..., str], a_run: Path, engine: str
) -> None:
    flags = ("--objectives", "accuracy,macs", "--name", "other", "--engine", engine)
    assert f"{engine!r} is no engine" in refused("search", "--run", a_run, *flags)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("def load(*_): return None", "load gave None, which cannot be called"),
        ("def load(*_): return lambda: -5", "took -5; it must be a whole number"),
        ("def load(*_): return lambda: 0.5", "took 0.5; it must be a whole number"),
        ("def describe(_): return None", "describe gave None"),
        ("def choose_clock(_): return 5", "has clock 5; it must be thread-cpu or wall"),
        ("def list_providers(): return 7", "list_providers gave 7"),
    ],
)
def test_a_backend_that_gives_nonsense_is_refused(
    refused: Callable[..., str],
    a_run: Path,
    own: Callable[[str, str], Path],
    change: str,
    said: str,
) -> None:
    own("mine11.nonsense", f"{BACKEND}{change}\n")
    flags = ("--device", "phone", "--backend", "mine11.nonsense", *PROFILE)
    assert said in refused("profile", "--run", a_run, *flags)
