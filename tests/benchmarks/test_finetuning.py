"""What fine-tuning is measured by: kept, resumed, paired, and ways that cannot be refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.benchmarks.loading import FOLDER, load_benchmark

SMOKE = ["--seeds", "1", "--budget", "8", "--of", "5", "--networks", "4", "--steps", "2",
         "--truth-seeds", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return load_benchmark("finetuning")


def _drop_times(text: str) -> dict:
    found = json.loads(text)
    for row in (found["alone"], found["supernet"], *found["ways"]):
        row.pop("cpu_seconds")
    return found


@pytest.mark.slow
def test_interrupted_run_goes_on_and_gives_the_same(benchmark, capsys, tmp_path: Path) -> None:
    arguments = [*SMOKE, "--ways", "0.25:1,1:none", "--keep", str(tmp_path)]
    assert benchmark.main(arguments) == 0
    shown = capsys.readouterr()
    assert "4/4 clutter: " in shown.err
    found = _drop_times(shown.out)
    assert [row["way"] for row in found["ways"]] == ["inherited", "0.25:1", "1:none"]
    assert (found["networks"], found["samples"], found["bases"]) == (4, 2154, 359)
    for row in found["ways"][1:]:
        before, after = found["ways"][0]["accuracy"], row["accuracy"]
        assert row["gain"] == pytest.approx(100 * (after - before), abs=0.02)
        scratch = found["alone"]["accuracy"]
        assert row["gap"] == pytest.approx(100 * (after - scratch), abs=0.02)

    # Killed while it wrote the last fine-tuning; the supernet it began with is kept.
    path = tmp_path / "tuned.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    assert benchmark.main(arguments) == 0
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert _drop_times(shown.out) == found
    assert benchmark.main([*arguments, "--split", "val", "--markdown"]) == 0
    assert "from scratch |" not in capsys.readouterr().out.replace("over from scratch", "")


def test_fine_tunings_differ_in_all_that_decides_their_answers(benchmark) -> None:
    ways = "0.25:1,0.25:2,0.25:none,0.5:none"
    plans = [
        benchmark.plan_tunings(
            benchmark.read_arguments([*SMOKE, "--ways", ways, "--keep", "folder", *more])
        )
        for more in ([], ["--split", "val"], ["--steps", "3"])
    ]
    tuned = [[one for group in plan.tuned.values() for one in group] for plan in plans]
    assert [len(group) for group in tuned] == [16, 16, 16]
    settings = [one.settings for group in tuned for one in group]
    assert len(set(settings)) == len(settings)
    assert len({one.supernet.settings for group in tuned for one in group}) == 1
    assert [len(plan.alone) for plan in plans] == [4, 0, 4]
    digests = {one.networks[0] for one in plans[0].alone}
    assert digests == {one.networks[0] for one in tuned[0]}


def test_gains_are_paired_within_supernets(benchmark) -> None:
    rng = np.random.default_rng(0)
    seeds, networks, samples = 2, 3, 600
    before = rng.random((seeds, networks, samples)) < 0.5
    after = before.copy()
    after[:, :, ::20] = True
    groups = np.arange(samples) // 2
    inherited = benchmark.Truth(np.arange(3.0), before.transpose(1, 0, 2), groups)
    gain, (low, high) = benchmark.measure_gain(inherited, after)
    assert gain == pytest.approx(100 * (after.mean() - before.mean()))
    # Unpaired, the error of two shares of 600 alone would be 2.9 points.
    assert 0 < low < gain < high < gain + 1.5


@pytest.mark.parametrize("way", ["0.25", "x:1", "0:1", "inf:none", "0.5:-1", "nan:1", "1:nan"])
def test_ways_that_cannot_be_are_refused(benchmark, capsys, way: str) -> None:
    with pytest.raises(SystemExit) as found:
        benchmark.main(["--ways", way, "--keep", "folder"])
    assert found.value.code == 2
    assert f"{way!r} is not RATE:LABELS" in capsys.readouterr().err
