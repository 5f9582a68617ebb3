"""The benchmark of MatLM's formats: the exported files are what is measured."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from supernet.data import open_data
from supernet.export import export
from supernet.families import matlm
from supernet.precision.elastic import make_precision_elastic
from supernet.quality.evaluate import score_samples
from supernet.quantization.formats import parse_policy
from tests.benchmarks.loading import load_benchmark
from tests.toys.saturating_processors import skip_unless_exact


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_benchmark("matlm_precision")


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    rng = np.random.default_rng(0)
    path.write_text("".join(rng.choice(list("abcd "), 4_000)))
    return path


@pytest.fixture(scope="module")
def small(benchmark, text):
    data = open_data(f"text:{text}", context=8)
    config = matlm.Config(
        vocabulary=data.shape.classes, context=8, widths=(32,), heads=(2,), ffn=(32, 64, 96, 128),
        depths=(1,),
    )  # fmt: skip
    return make_precision_elastic(
        matlm.build(config), parse_policy(",".join(benchmark.FORMATS))
    ), data  # fmt: skip


def test_members_are_every_size_in_every_format(benchmark, small) -> None:
    members = list(benchmark.list_members(small[0]))
    assert len({m.architecture.digest for m in members}) == 16
    for member in members:
        values = member.architecture.to_dict()
        formats = {v for k, v in values.items() if k.endswith(".precision")}
        assert formats == {member.precision}
        assert values["layer1.ffn"] == 32 * (1 + benchmark.GRANULARITIES.index(member.granularity))


@pytest.mark.parametrize("precision", ["fp32", "int8-dynamic"])
def test_loss_is_that_of_the_file_and_of_the_simulation(benchmark, small, precision: str) -> None:
    supernet, data = small
    member = next(m for m in benchmark.list_members(supernet) if m.precision == precision)
    exported = export(supernet, member.architecture, data, estimator="minmax")
    skip_unless_exact(exported.graph, exported.weights)
    rows = np.arange(6)
    val = data.split("val")
    losses = benchmark.run_windows(
        exported.onnx, val.inputs[rows].numpy(), val.targets[rows].numpy()
    )
    simulated = score_samples(
        exported.network, supernet, member.architecture, data, "val", rows=rows
    )
    assert losses == pytest.approx(simulated, abs=1e-3)
    assert len(set(losses)) == 6


def test_a_single_token_takes_less_than_a_context(benchmark, small) -> None:
    supernet, data = small
    member = next(iter(benchmark.list_members(supernet)))
    exported = export(supernet, member.architecture, data, estimator="minmax")
    token = benchmark.trace_token(exported)
    assert token.inputs[0].shape[1] == 1
    assert token.macs < exported.graph.macs / 7
    assert token.parameters == exported.graph.parameters


def test_table_has_a_line_for_each_row(benchmark) -> None:
    row = {"granularity": "S", "loss": 2.5, "largest_difference": 0.000123}
    lines = benchmark.write_table([row, row]).splitlines()
    assert lines[0] == "| granularity | loss | largest_difference |"
    assert lines[2:] == ["| S | 2.5 | 1.2e-04 |"] * 2


def test_widths_that_blocks_do_not_divide_are_refused(benchmark, text, monkeypatch) -> None:
    odd = matlm.Config(widths=(48,), context=8)
    monkeypatch.setitem(matlm.PRESETS, "tiny", odd)
    with pytest.raises(SystemExit, match="multiples of 32"):
        benchmark.prepare("tiny", text, text.parent / "run", 0, 2)
