"""A device may stand for a workload: prompts and single tokens of a language model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.records.searches.front import read_front
from app.runs import latency_table
from app.runs.directory import open_run
from app.runs.latency_table import open_table
from app.runs.trained import open_trained
from hardware.campaign import measure_networks
from supernet.costs.workloads import parse_workload
from tests.app.conftest import Command

PROFILE = ("--passes", 2, "--networks", 4)


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model with a table for prompts and one for single tokens; never write to it."""
    from app.commands.main import run

    folder = tmp_path_factory.mktemp("text")
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 300)
    path = folder / "run"
    for arguments in (
        ["train", "--out", path, "--family", "matlm", "--data", f"text:{folder / 'text.txt'}",
         "--context", 24, "--steps", 4, "--batch-size", 8],
        ["profile", "--run", path, "--device", "prompts", "--workload", "prefill:24", *PROFILE],
        ["profile", "--run", path, "--device", "tokens", "--workload", "decode:16", *PROFILE],
    ):  # fmt: skip
        assert run([*map(str, arguments), "--quiet"]) == 0
    return path


def test_tables_are_of_their_workload(profiled: Path) -> None:
    opened = open_run(profiled)
    trained = open_trained(opened, print)
    for name, workload in (("prompts", "prefill:24"), ("tokens", "decode:16")):
        table = open_table(opened, name, trained.find_costs, print).table
        assert table.device.workload == workload
        units = trained.supernet.cost_model(parse_workload(workload)).distinct
        assert set(table.rows) == {unit.digest for unit in units}


def test_a_search_has_both_latencies_and_measures_networks_at_their_work(
    command: Command, profiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(profiled, tmp_path / "run"))
    work = set()

    def measure(graphs, device, **options):
        work.update((device.name, graph.inputs[0].shape[1], len(graph.inputs)) for graph in graphs)
        return measure_networks(graphs, device, **options)

    monkeypatch.setattr(latency_table, "measure_networks", measure)
    outcome = command(
        "search", "--run", run, "--device", "prompts,tokens", "--evaluations", 8,
        "--objectives", "loss,latency@prompts,latency@tokens", "--strategy", "random_search",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    tokens = {count for name, _, count in work if name == "tokens"}
    assert {(name, length) for name, length, _ in work} == {("prompts", 24), ("tokens", 1)}
    assert tokens <= {1 + 2 * depth for depth in (2, 3, 4)}
    front = read_front(open_run(run).search("default"))
    verified = [point for point in front.points if point.verified]
    assert verified
    for point in verified:
        prompt, token = (point.estimates[f"latency_ms@{n}"] for n in ("prompts", "tokens"))
        assert prompt.source == token.source == "measured"
        assert prompt.value != token.value


def test_what_is_there_is_kept_and_other_workloads_are_other_devices(
    command: Command, refused: Callable[..., str], profiled: Path
) -> None:
    again = command("profile", "--run", profiled, "--device", "tokens", *PROFILE, "--json")
    assert json.loads(again.out)["reused"]
    said = refused(
        "profile", "--run", profiled, "--device", "tokens", "--workload", "decode:8", *PROFILE
    )
    assert "workload: decode:16 -> decode:8" in said


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        ("decode:24", "workload decode:24 needs 25 tokens, and the context has 24"),
        ("generate", "workload 'generate' is unknown; use prefill:128"),
    ],
)
def test_bad_input(
    refused: Callable[..., str], profiled: Path, workload: str, message: str
) -> None:
    said = refused("profile", "--run", profiled, "--device", "other", "--workload", workload)
    assert message in said
    assert not (profiled / "devices" / "other").exists()


def test_images_have_no_tokens(refused: Callable[..., str], finished_run: Path) -> None:
    said = refused("profile", "--run", finished_run, "--device", "other", "--workload", "decode:8")
    assert "workload decode:8 is for language models" in said
