"""The worked examples in the documentation run as they stand, and what it names exists."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from supernet.data import open_data
from supernet.families import ofa_mobilenetv3, resnet
from supernet.losses import adaptive_alpha
from supernet.quality.evaluate import evaluate
from supernet.training import METHODS, InPlace, Sandwich, TrainingMethod, find_recipe, train
from tests.toys.shortcuts import take_shortcuts

DOCS = Path(__file__).resolve().parents[1] / "docs"


class Example(NamedTuple):
    """A section of ``docs/extending.md`` about something of one's own."""

    title: str
    files: dict[str, str]
    scripts: list[str]
    commands: list[list[str]]


def read_blocks(text: str, language: str = "python") -> list[str]:
    """Code blocks of one language; ``""`` for those without."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == language]


def read_examples() -> list[Example]:
    examples = []
    for section in (DOCS / "extending.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        blocks = read_blocks(section)
        names = re.findall(r"`((?:my_package|tests)/\w+\.py)`", section)
        whole = [b for b in blocks if b.startswith(('"""', "import pytest"))]
        if not names:
            assert not whole, f"a file without a name: {section.splitlines()[0]}"
            continue
        files = dict(zip(dict.fromkeys(names), whole, strict=True))
        lines = "".join(read_blocks(section, "")).splitlines()
        commands = [shlex.split(line)[1:] for line in lines if line.startswith("supernet ")]
        scripts = [b for b in blocks if b not in whole]
        examples.append(Example(section.splitlines()[0], files, scripts, commands))
    return examples


EXAMPLES = read_examples()
BY_TITLE = {example.title: example for example in EXAMPLES}
TESTED = [e.title for e in EXAMPLES if any(name.startswith("tests/") for name in e.files)]
# What makes a documented command short; everything else is run as it is written.
SHORT = {
    "train": ["--steps", "20", "--batch-size", "32"],
    "profile": ["--passes", "2", "--networks", "4"],
    # Two more than the first sample, so that predictors and engines have a say.
    "search": ["--evaluations", "32"],
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with ``my_package``, its tests and a finished run of the digits."""
    from app.commands.main import run

    folder = tmp_path_factory.mktemp("workplace")
    for name, source in [item for example in EXAMPLES for item in example.files.items()]:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source, encoding="utf-8")
    (folder / "my_package" / "__init__.py").touch()
    with pytest.MonkeyPatch.context() as patch, take_shortcuts():
        patch.syspath_prepend(folder)
        patch.chdir(folder)
        for words in (
            # Of the fewest units: a slow device takes a while to time each.
            ["train", "--out", "runs/small", "--family", "superkernel"],
            # Of few units, and not always as many.
            ["train", "--out", "runs/quickstart", "--family", "resnet"],
            ["profile", "--run", "runs/quickstart"],
        ):
            assert run([*words, *SHORT[words[0]]]) == 0
        for name in ("quickstart", "small"):
            shutil.copytree(f"runs/{name}", f"runs/untouched/{name}")
        yield folder


def test_each_of_the_seven_kinds_has_a_whole_example() -> None:
    kinds = ("family", "sampler", "strategy", "predictor", "device", "data source", "objective")
    titles = [f"{'An' if kind[0] == 'o' else 'A'} {kind}" for kind in kinds]
    assert titles == [example.title for example in EXAMPLES][:7]
    for title in titles:
        example = BY_TITLE[title]
        assert example.commands or example.scripts
    assert titles[:5] == TESTED
    table = (DOCS / "extending.md").read_text(encoding="utf-8").split("\n## ")[0]
    assert re.findall(r"^\| \[([\w ]+)\]", table, flags=re.MULTILINE) == list(kinds)


@pytest.fixture(scope="module")
def verdicts(workplace: Path) -> list[tuple[str, str]]:
    """File and verdict of every documented test, all of them run by one process."""
    tests = [name for e in EXAMPLES for name in e.files if name.startswith("tests/")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-n", "0", "--rootdir", ".", *tests],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(workplace), str(DOCS.parent)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"^(\S+?)::.* ([A-Z]+) +\[ *\d+%\]$", done.stdout, flags=re.MULTILINE)


@pytest.mark.parametrize("title", TESTED)
def test_the_documented_test_of_an_example_passes(
    title: str, verdicts: list[tuple[str, str]]
) -> None:
    tests = {name for name in BY_TITLE[title].files if name.startswith("tests/")}
    assert {file for file, _ in verdicts} >= tests
    assert {verdict for file, verdict in verdicts if file in tests} == {"PASSED"}


# Where a run says that a command used what it names: file below ``runs``, keys, and what is there.
TRACES = {
    "A family": ("perceptron/run.json", ("family",), "my_package.perceptron"),
    "A sampler": ("ends/run.json", ("recipe", "sampler"), "my_package.ends"),
    "A strategy": (
        "quickstart/searches/hill/search.json",
        ("config", "strategy"),
        "my_package.hill_climbing",
    ),
    "A predictor": (
        "quickstart/searches/ridge/front.json",
        ("report", "accuracy", "model"),
        "bayesian_ridge",
    ),
    "A device": (
        "small/devices/reference/device.json",
        ("backend",),
        "my_package.reference",
    ),
    "A data source": ("stripes/run.json", ("data", "spec"), "my_package.stripes:stripes"),
    "An objective": (
        "quickstart/searches/energy/front.json",
        ("objectives", -1, "name"),
        "my_package.energy",
    ),
    "An engine": (
        "quickstart/searches/pruned/search.json",
        ("config", "engine"),
        "my_package.pruned_nsga2",
    ),
}


@pytest.mark.parametrize("title", [e.title for e in EXAMPLES if e.commands])
def test_the_documented_commands_of_an_example_work(
    title: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from app.commands.main import run

    for words in BY_TITLE[title].commands:
        if title == "A device":
            words = [word.replace("runs/quickstart", "runs/small") for word in words]
        assert run([*words, *SHORT[words[0]]]) == 0, capsys.readouterr().err
    file, keys, expected = TRACES[title]
    found: Any = json.loads((workplace / "runs" / file).read_text("utf-8"))
    for key in keys:
        found = found[key]
    assert found == expected


def test_the_first_task_of_the_contributing_guide_works(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from app.commands.main import run

    section = (DOCS.parent / "CONTRIBUTING.md").read_text("utf-8").split("\n## A first task")[1]
    (workplace / "my_package" / "mine.py").write_text(read_blocks(section)[0], encoding="utf-8")
    lines = "".join(read_blocks(section, "")).splitlines()
    words = next(shlex.split(line)[1:] for line in lines if "my_package.mine" in line)
    # On a run that is there already.
    words = [word.replace("runs/first", "runs/quickstart") for word in words]
    assert run([*words, "--name", "mine", *SHORT["search"]]) == 0, capsys.readouterr().err
    front = json.loads((workplace / "runs/quickstart/searches/mine/front.json").read_text("utf-8"))
    assert [o["name"] for o in front["objectives"]] == ["accuracy", "my_package.mine"]


def test_the_documented_script_of_the_sampler_trains(workplace: Path) -> None:
    (script,) = BY_TITLE["A sampler"].scripts
    exec(script, {})
    losses = (workplace / "runs/both-ends/metrics.jsonl").read_text(encoding="utf-8")
    assert "loss_largest" in losses
    assert "loss_smallest" in losses


# Where a file lies that is the project's own.
FOLDERS = {
    "A family": "supernet/families",
    "A sampler": "supernet/training/samplers",
    "A strategy": "search/strategies",
    "A predictor": "predictors/models",
    "A device": "hardware/devices",
    "An engine": "search/engines/algorithms",
}
RUN_ALL = """
import json, sys
from app.commands.main import run

for words in json.loads(sys.argv[1]):
    assert run(words) == 0, words
"""


def test_one_file_in_its_folder_is_all_that_a_kind_needs(workplace: Path, tmp_path: Path) -> None:
    """The first commands with names instead of dotted paths, in a copy of the project."""
    for package in ("app", "hardware", "predictors", "search", "supernet"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(DOCS.parent / package, tmp_path / package, ignore=leave)
    shutil.copytree(workplace / "runs/untouched", tmp_path / "runs")
    commands = []
    for title, folder in FOLDERS.items():
        example = BY_TITLE[title]
        (name,) = (Path(name).name for name in example.files if name.startswith("my_package/"))
        shutil.copy(workplace / "my_package" / name, tmp_path / folder / name)
        for words in example.commands[:1]:
            plain = [word.replace("my_package.", "") for word in words]
            if title == "A device":
                plain = [word.replace("runs/quickstart", "runs/small") for word in plain]
            commands.append([*plain, *SHORT[plain[0]]])
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, json.dumps(commands)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    family = json.loads((tmp_path / "runs/perceptron/run.json").read_text("utf-8"))["family"]
    assert family == "perceptron"


def test_the_example_family_counts_what_it_is(workplace: Path) -> None:
    family = importlib.import_module("my_package.perceptron")
    net = family.build(family.configure("tiny", open_data("digits").shape)).eval()
    model = net.cost_model()
    for architecture in net.space.decode(np.arange(3, dtype=np.int16)[:, None]):
        positions = net.space.encode([architecture])
        assert model.macs(positions)[0] == int(architecture["hidden.width"]) * (64 + 10)


def test_the_example_data_is_learnt(workplace: Path, tmp_path: Path) -> None:
    data = open_data("my_package.stripes:stripes", own_modules=True)
    assert data.shape.labels == ("lying", "upright")
    net = resnet.build(resnet.configure("tiny", data.shape))
    recipe = find_recipe("digits+inplace").replace(
        {"steps": 40, "batch_size": 32, "ema_decay": 0.9}
    )
    train(net, data, recipe, tmp_path / "run")
    assert evaluate(net, net.space.largest, data).value > 0.9


def test_the_documented_loop_trains() -> None:
    loop = read_blocks((DOCS / "recipes.md").read_text(encoding="utf-8"))[0]
    data = open_data("digits")
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.configure("tiny", data.shape)).train()
    before = [p.detach().clone() for p in supernet.parameters()]
    names = {
        "TrainingMethod": TrainingMethod,
        "Sandwich": Sandwich,
        "InPlace": InPlace,
        "adaptive_alpha": adaptive_alpha,
        "supernet": supernet,
        "optimizer": torch.optim.SGD(supernet.parameters(), lr=0.1),
        "loader": [data.train.batch(slice(0, 16), torch.device("cpu"))] * 2,
    }
    exec(loop, names)
    after = list(supernet.parameters())
    assert sum(not torch.equal(b, a) for b, a in zip(before, after, strict=True)) > 20


def test_every_training_method_is_documented() -> None:
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert [name for name in METHODS if f"`{name}`" not in text] == []


DOCUMENTS = [DOCS.parent / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS += sorted(DOCS.glob("*.md"))
PACKAGES = ("app", "hardware", "predictors", "search", "supernet")
FILES_OF_EXAMPLES = {name for example in EXAMPLES for name in example.files}


def read_words(path: Path) -> list[str]:
    """Words of inline code: paths, dotted names, and the files that commands run."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [word for code in re.findall(r"`([^`]+)`", text) for word in code.split()]


def resolve(dotted: str) -> object:
    """The module or the attribute that a dotted name means.

    Raises:
        AttributeError: A module has no such name.
        ModuleNotFoundError: There is no such package.
    """
    parts = dotted.split(".")
    found: object = importlib.import_module(parts[0])
    for at, part in enumerate(parts[1:], 1):
        if not hasattr(found, part):
            try:
                found = importlib.import_module(".".join(parts[: at + 1]))
                continue
            except ModuleNotFoundError:
                pass
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_and_links_of_the_documents_exist(path: Path) -> None:
    places = "|".join((*PACKAGES, "tests", "benchmarks", "examples", "docs"))
    shown = [w for w in read_words(path) if re.fullmatch(rf"(?:{places})/[\w./-]*", w)]
    missing = [w for w in shown if not (DOCS.parent / w).exists() and w not in FILES_OF_EXAMPLES]
    assert missing == []
    text = path.read_text(encoding="utf-8")
    commands = re.findall(r"python ((?:benchmarks|examples)/\S+\.py)", text)
    assert [name for name in commands if not (DOCS.parent / name).exists()] == []
    for link, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]+)?\)", text):
        if link.startswith("http"):
            continue
        target = path.parent / link if link else path
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}
            assert anchor[1:] in slugs, f"{link}{anchor}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_names_of_the_documents_resolve(path: Path) -> None:
    start = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+")
    for word in read_words(path):
        found = start.match(word)
        if found and not re.match(r"\.\w+$", word[found.end() :]):
            resolve(found[0])


def test_the_contributing_guide_shows_every_folder() -> None:
    (tree,) = (b for b in read_blocks(DOCUMENTS[1].read_text("utf-8"), "") if "  elastic/" in b)
    shown: list[str] = []
    stack: list[str] = []
    for line in tree.splitlines():
        match = re.match(r"( *)(\w+)/ ", line)
        assert match is not None, line
        stack = [*stack[: len(match[1]) // 2], match[2]]
        shown.append("/".join(stack))
    real = {
        str(init.parent.relative_to(DOCS.parent))
        for package in PACKAGES
        for init in (DOCS.parent / package).rglob("__init__.py")
    }
    assert real <= set(shown)
    assert all((DOCS.parent / folder).is_dir() for folder in shown)
