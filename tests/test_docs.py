"""The worked examples in the documentation run as they stand."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from hardware.testing.device_contract import check_device
from predictors.testing.predictor_contract import check_predictor
from supernet.data import open_data
from supernet.families import ofa_mobilenetv3
from supernet.training import STRATEGIES, InPlace, Sandwich, Strategy, preset, train
from supernet.training.divergences import adaptive_alpha
from tests.exactness import assert_extraction_is_exact, in_double

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture
def example_family(tmp_path: Path) -> ModuleType:
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    source = next(block for block in blocks if "def build(" in block)
    path = tmp_path / "perceptron.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("perceptron", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["perceptron"] = module
    spec.loader.exec_module(module)
    return module


def test_the_example_family_is_a_family(example_family: ModuleType) -> None:
    config = example_family.configure("tiny", open_data("digits").shape)
    assert example_family.from_json(example_family.to_json(config)) == config
    net = example_family.build(config).eval()
    model = net.cost_model()
    x = torch.rand(5, 1, 8, 8)
    for architecture in net.space.decode(np.arange(3, dtype=np.int16)[:, None]):
        alone = net.extract(architecture)
        assert_extraction_is_exact(in_double(net), architecture, x)
        positions = net.space.encode([architecture])
        assert model.parameters(positions)[0] == sum(p.numel() for p in alone.parameters())
        assert model.macs(positions)[0] == int(architecture["hidden.width"]) * (64 + 10)


def write_example(marker: str, folder: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put the example that contains the marker where its dotted path is importable."""
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    package, name = path.split(".")
    (folder / package).mkdir()
    (folder / package / "__init__.py").touch()
    source = next(block for block in blocks if marker in block)
    (folder / package / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    return path


def test_the_example_backend_is_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_example("ReferenceEvaluator", tmp_path, "my_devices.reference", monkeypatch)
    check_device(importlib.import_module(path))


def test_the_example_method_is_a_predictor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_example("BayesianRidge", tmp_path, "my_methods.bayesian_ridge", monkeypatch)
    check_predictor(importlib.import_module(path))


def test_the_example_sampler_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_example("class Ends", tmp_path, "my_samplers.ends", monkeypatch)
    data = open_data("digits")
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.configure("tiny", data.shape))
    recipe = preset("digits").but({"sampler": "my_samplers.ends", "steps": 2, "warmup_steps": 0})
    done = train(supernet, data, recipe, tmp_path / "run")
    assert done.steps == 2
    losses = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")
    assert "loss_largest" in losses


def test_the_documented_loop_trains() -> None:
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    loop = next(b for b in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    data = open_data("digits")
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.configure("tiny", data.shape)).train()
    before = [p.detach().clone() for p in supernet.parameters()]
    names = {
        "Strategy": Strategy,
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


def test_every_strategy_is_documented() -> None:
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert [name for name in STRATEGIES if f"`{name}`" not in text] == []
