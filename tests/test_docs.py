"""The worked examples in the documentation run as they stand, and what it names exists."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
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

DOCS = Path(__file__).resolve().parents[1] / "docs"


class Example(NamedTuple):
    """A section of ``docs/extending.md`` about something of one's own."""

    title: str
    files: dict[str, str]
    scripts: list[str]
    commands: list[list[str]]


def read_blocks(text: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


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
    "search": ["--evaluations", "40"],
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        patch.chdir(folder)
        for words in (
            ["train", "--out", "runs/quickstart"],
            ["profile", "--run", "runs/quickstart"],
        ):
            assert run([*words, *SHORT[words[0]]]) == 0
        yield folder


def test_each_of_the_seven_kinds_has_a_whole_example() -> None:
    kinds = ("family", "sampler", "strategy", "predictor", "device", "data source", "objective")
    titles = [f"{'An' if kind[0] == 'o' else 'A'} {kind}" for kind in kinds]
    assert titles == [example.title for example in EXAMPLES][:7]
    for title in titles:
        example = BY_TITLE[title]
        assert example.commands or example.scripts
    assert TESTED == titles[:5]
    table = (DOCS / "extending.md").read_text(encoding="utf-8").split("\n## ")[0]
    assert re.findall(r"^\| \[([\w ]+)\]", table, flags=re.MULTILINE) == list(kinds)


@pytest.mark.parametrize("title", TESTED)
def test_the_documented_test_of_an_example_passes(title: str, workplace: Path) -> None:
    tests = [name for name in BY_TITLE[title].files if name.startswith("tests/")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "--rootdir", ".", *tests],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(workplace), str(DOCS.parent)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


@pytest.mark.parametrize("title", [e.title for e in EXAMPLES if e.commands])
def test_the_documented_commands_of_an_example_work(
    title: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from app.commands.main import run

    for words in BY_TITLE[title].commands:
        assert run([*words, *SHORT[words[0]]]) == 0, capsys.readouterr().err


def test_what_the_commands_made_names_the_examples(workplace: Path) -> None:
    """The commands used what they name; without the examples they would have stored other runs."""
    runs = workplace / "runs"
    if not (runs / "quickstart" / "searches" / "pruned" / "front.json").exists():
        pytest.skip("the commands were not run")

    def read(path: str) -> Any:
        return json.loads((runs / path).read_text(encoding="utf-8"))

    assert read("perceptron/run.json")["family"] == "my_package.perceptron"
    assert read("stripes/run.json")["data"]["spec"] == "my_package.stripes:stripes"
    assert read("quickstart/devices/reference/device.json")["backend"] == "my_package.reference"
    plans = {
        "hill": ("strategy", "my_package.hill_climbing"),
        "ridge": ("predictor", "my_package.bayesian_ridge"),
        "pruned": ("engine", "my_package.pruned_nsga2"),
    }
    for name, (key, path) in plans.items():
        assert read(f"quickstart/searches/{name}/search.json")["config"][key] == path
    front = read("quickstart/searches/energy/front.json")
    assert "my_package.energy" in json.dumps(front["objectives"])


def test_the_documented_script_of_the_sampler_trains(workplace: Path) -> None:
    (script,) = BY_TITLE["A sampler"].scripts
    exec(script, {})
    losses = (workplace / "runs/ends/metrics.jsonl").read_text(encoding="utf-8")
    assert "loss_largest" in losses
    assert "loss_smallest" in losses


def test_the_documented_line_gives_a_sampler_a_name(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    line = re.search(r'`"(\w+)": (\{.*?\}),`', text)
    assert line is not None
    monkeypatch.setitem(METHODS, line[1], ast.literal_eval(line[2]))
    assert find_recipe(f"digits+{line[1]}").sampler == "ends"


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
