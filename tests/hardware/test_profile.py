"""Tables of a device with known latencies predict them, survive kills, and say when not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hardware.campaign import Campaign, Subject, measure_networks, run_campaign
from hardware.device import Device
from hardware.profile import LOG, Budget, check_anchors, is_replaced, profile
from hardware.table import LatencyTable
from hardware.timing import Effort
from supernet import checksums
from supernet.files import read_records
from tests.timing import saved_by_batching

pytest.importorskip("onnx")
SMALL = Budget(passes=4, visits=3, calibration=8, validation=10, unit_ms=1.0)


def build(toy, device: Device, folder: Path, **options) -> LatencyTable:
    return profile(toy.cost_model(), toy.graph, device, folder=folder, budget=SMALL, **options)


def test_table_predicts_the_true_latency_on_a_machine_that_is_busy_two_thirds_of_the_time(
    toy, imaginary, tmp_path
) -> None:
    table = build(toy, imaginary(), tmp_path / "cpu")
    rows = toy.space.sample(np.random.default_rng(5), 60)
    predicted = table.compile(toy.cost_model()).predict(rows)
    true = np.array([toy.true_ms(a) for a in toy.space.decode(rows)])
    assert np.abs(predicted / true - 1).mean() < 0.03
    assert table.report["trustworthy"]
    assert table.report["kendall_tau"] > 0.9
    assert table.report["networks"] == 10
    assert table.report["verdict"].startswith("Trustworthy: on 10 unseen networks")


def test_breakdown_sums_to_the_prediction(toy, imaginary, tmp_path) -> None:
    compiled = build(toy, imaginary(), tmp_path / "cpu").compile(toy.cost_model())
    for architecture in toy.space.decode(toy.space.sample(np.random.default_rng(1), 20)):
        parts = compiled.break_down(architecture)
        assert parts[-1]["unit"] == "fixed overhead"
        assert len(parts) == architecture["depth"] + 1
        assert all(part["latency_ms"] >= 0 for part in parts)
        total = compiled.predict(toy.space.encode([architecture]))[0]
        assert sum(part["latency_ms"] for part in parts) == pytest.approx(total, rel=1e-12)


def test_fastest_is_the_minimum_of_the_whole_space(toy, imaginary, tmp_path) -> None:
    compiled = build(toy, imaginary(), tmp_path / "cpu").compile(toy.cost_model())
    every = np.unique(toy.space.sample(np.random.default_rng(2), 5000), axis=0)
    architecture, least = compiled.find_fastest()
    assert least == pytest.approx(compiled.predict(every).min())
    assert architecture == toy.space.smallest


def test_predictions_of_many_are_made_at_once(toy, imaginary, tmp_path) -> None:
    compiled = build(toy, imaginary(), tmp_path / "cpu").compile(toy.cost_model())
    rows = toy.space.sample(np.random.default_rng(3), 200_000)
    assert saved_by_batching(compiled.predict, rows) > 200  # measured 2,000


def test_device_whose_networks_are_not_sums_is_not_trusted(toy, imaginary, tmp_path) -> None:
    table = build(toy, imaginary(CROOKED=True), tmp_path / "cpu")
    assert not table.report["trustworthy"]
    assert table.report["verdict"].startswith("Not trustworthy: on 10 unseen networks its ")


def test_same_seed_measures_the_same_networks(toy, imaginary, tmp_path) -> None:
    first, second = (build(toy, imaginary(), tmp_path / n, seed=3) for n in ("a", "b"))
    digests = [[p["digest"] for p in t.report["points"]] for t in (first, second)]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 18


class Stop(Exception):  # noqa: N818
    """Stands for a kill in the middle of a campaign."""


def test_interrupted_profile_continues_and_ends_with_every_measurement(
    toy, imaginary, tmp_path
) -> None:
    device = imaginary()

    def stop(done: int, planned: int) -> None:
        if done == planned // 2:
            raise Stop

    with pytest.raises(Stop):
        build(toy, device, tmp_path / "cpu", progress=stop)
    log = tmp_path / "cpu" / LOG
    before = read_records(log)
    with log.open("a") as file:
        file.write("[[999, [[1, 2")  # what a kill in the middle of a write leaves
    assert not (tmp_path / "cpu" / "report.json").exists()
    steps: list[tuple[int, int]] = []
    table = build(
        toy, device, tmp_path / "cpu", progress=lambda done, planned: steps.append((done, planned))
    )
    records = read_records(log)
    assert records[: len(before)] == before
    places = list_places(log)
    assert sorted(places) == list(range(steps[-1][1]))
    assert table.report["visits"] == steps[-1][1] == 4 * (4 + 18 * 3)


def list_places(log: Path) -> list[int]:
    """Steps of a campaign in the order of its log."""
    return [place for record in read_records(log)[1:] for place, _ in record["visits"]]


def test_a_damaged_line_costs_its_own_visits_only(toy, imaginary, tmp_path) -> None:
    device, log = imaginary(), tmp_path / "cpu" / LOG
    build(toy, device, tmp_path / "cpu")
    header, *records = read_records(log)
    visits = [visit for record in records for visit in record["visits"]]
    log.unlink()
    for part in (visits[:5], visits[5:]):
        checksums.append_record(log, {"campaign": header["campaign"], "visits": part})
    first, second = log.read_text().splitlines()
    junk = ["9", "[[0, null]]", '{"visits": {"0": 1}}', '"visits"', "[" * 9999, "\0\0", "[[1e400]]"]
    log.write_text("\n".join([*junk, first, second, ""]))
    build(toy, device, tmp_path / "cpu")
    assert log.read_text().splitlines() == [*junk, first, second], "nothing was measured again"
    place = first.index("]]") - 1
    digit = "1" if first[place] == "2" else "2"
    log.write_text(f"{first[:place]}{digit}{first[place + 1 :]}\n{second}\n")
    build(toy, device, tmp_path / "cpu")
    damaged, _, *new = checksums.read_log(log)
    assert damaged is None
    again = [visit[0] for record in new for visit in record["visits"]]
    assert again == [visit[0] for visit in visits[:5]]


def test_the_log_of_an_earlier_release_is_continued(toy, imaginary, tmp_path) -> None:
    device, log = imaginary(), tmp_path / "cpu" / LOG
    build(toy, device, tmp_path / "cpu")
    header, *records = read_records(log)
    old = [{"campaign": header["campaign"]}, *(record["visits"] for record in records)]
    log.write_text("".join(json.dumps(line) + "\n" for line in old))
    build(toy, device, tmp_path / "cpu")
    assert read_records(log) == old


def test_finished_profile_is_not_measured_again(toy, imaginary, tmp_path) -> None:
    device = imaginary()
    first = build(toy, device, tmp_path / "cpu")
    text = (tmp_path / "cpu" / LOG).read_text()
    second = build(toy, device, tmp_path / "cpu")
    assert (tmp_path / "cpu" / LOG).read_text() == text
    assert second.rows == first.rows
    build(toy, device, tmp_path / "cpu", resume=False)
    assert (tmp_path / "cpu" / LOG).read_text() != text


def stop_half_way(done: int, planned: int) -> None:
    if done == planned // 2:
        raise Stop


def test_interrupted_replacement_continues_and_a_finished_one_begins_anew(
    toy, imaginary, tmp_path
) -> None:
    device, folder = imaginary(), tmp_path / "cpu"
    log, report = folder / LOG, folder / "report.json"
    build(toy, device, folder, replace=True)
    first, table = read_records(log), report.read_bytes()
    assert not is_replaced(folder), "there was nothing to replace"
    for _ in range(2):
        with pytest.raises(Stop):
            build(toy, device, folder, replace=True, progress=stop_half_way)
        half = read_records(log)
        assert half[1:] != first[1 : len(half)], "measured anew"
        assert report.read_bytes() == table, "the old table stays until the new one is whole"
        assert not is_replaced(folder)
        with pytest.raises(Stop):
            build(toy, device, folder, replace=True, progress=stop_half_way)
        assert read_records(log) == half, "what was measured is not measured again"
        build(toy, device, folder, replace=True)
        first = read_records(log)
        assert first[: len(half)] == half
        assert is_replaced(folder)
        assert report.read_bytes() != table
        table = report.read_bytes()
    places = [place for batch in first[1:] for place, _ in batch["visits"]]
    assert sorted(places) == list(range(4 * (4 + 18 * 3)))


def test_log_of_a_release_before_is_not_taken_for_an_interrupted_replacement(
    toy, imaginary, tmp_path
) -> None:
    device, folder = imaginary(), tmp_path / "cpu"
    build(toy, device, folder)
    before = read_records(folder / LOG)
    assert set(before[0]) == {"campaign", "checksum"}
    build(toy, device, folder, replace=True)
    assert read_records(folder / LOG)[1:] != before[1:]


def test_log_of_another_campaign_is_replaced(toy, imaginary, tmp_path) -> None:
    device = imaginary()
    build(toy, device, tmp_path / "cpu")
    header = read_records(tmp_path / "cpu" / LOG)[0]
    build(toy, device, tmp_path / "cpu", seed=1)
    assert read_records(tmp_path / "cpu" / LOG)[0] != header


KILLED = """
from pathlib import Path
from hardware.campaign import Campaign, Subject, run_campaign
from hardware.device import Device
from hardware.testing.toy_space import build_dense_graph
from hardware.timing import Effort
subjects = tuple(Subject(str(w), build_dense_graph((w,) * 3), 1 + w % 2) for w in range(16, 40))
campaign = Campaign(subjects, 3, 0, Effort(budget_ms=20.0, most=500), Effort())
found = run_campaign(campaign, Device(), log=Path({log!r}))
print(found.count_visits())
"""


def test_killed_process_continues_where_it_was(tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    log = tmp_path / LOG
    code = KILLED.format(log=str(log))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    deadline = time.monotonic() + 60
    while len(read_records(log)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = list_places(log)
    assert survived
    again = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    places = list_places(log)
    assert int(again.stdout) == len(places) == 3 * (12 + 24)
    assert places[: len(survived)] == survived
    assert sorted(places) == list(range(len(places)))


def test_anchors_notice_a_device_that_became_slower(toy, imaginary, tmp_path) -> None:
    device = imaginary()
    table = build(toy, device, tmp_path / "cpu")
    same = check_anchors(table, toy.cost_model(), toy.graph, device)
    assert abs(same.ratio - 1) < 0.05
    module = sys.modules[device.backend]
    module.SLOWDOWN = 1.3
    slower = check_anchors(table, toy.cost_model(), toy.graph, device)
    assert slower.ratio == pytest.approx(1.3, rel=0.05)
    assert "slower than when the table was made; profile the device again" in slower.message
    assert len(slower.anchors) == 3


def test_networks_are_ranked_by_real_measurement(toy) -> None:
    pytest.importorskip("onnxruntime")
    small, large = toy.space.smallest, toy.space.largest
    graphs = [toy.graph(large), toy.graph(small), toy.graph(large)]
    found = measure_networks(graphs, Device(), rounds=3, visits=3)
    assert found[1].latency_ms < found[0].latency_ms
    assert all(m.low_ms <= m.latency_ms <= m.high_ms for m in found)
    assert {m.visits for m in found} == {9}
    assert {m.clock for m in found} == {"thread-cpu"}
    assert measure_networks([], Device()) == []
    with pytest.raises(ValueError, match="measures nothing"):
        measure_networks(graphs, Device(), rounds=0)


def test_plan_visits_everything_in_every_pass_and_never_in_a_fixed_order(toy) -> None:
    subjects = tuple(
        Subject(str(i), toy.graph(toy.space.smallest), 1 + 3 * (i % 2)) for i in range(40)
    )
    campaign = Campaign(subjects, 3, 0, Effort(), Effort())
    orders: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for number, _, order in campaign.plan_steps():
        orders[number].extend(order)
        assert len({i for i in order if subjects[i].visits > 1}) <= 8
    for order in orders.values():
        counts = np.bincount(order, minlength=40)
        assert counts.tolist() == [s.visits for s in subjects]
    assert orders[0] != orders[1]
    assert campaign.count_visits() == 3 * (20 + 20 * 4)


def test_budget_is_checked() -> None:
    with pytest.raises(ValueError, match="passes = 1: two are needed"):
        Budget(passes=1)


def test_space_too_small_to_validate_is_refused(toy, imaginary, tmp_path) -> None:
    with pytest.raises(ValueError, match="340 architectures, too few to validate"):
        profile(
            toy.cost_model(),
            toy.graph,
            imaginary(),
            folder=tmp_path / "cpu",
            budget=Budget(calibration=400),
        )


def test_passes_that_would_end_too_late_are_left_out_for_good(toy, imaginary, tmp_path) -> None:
    device, limited = imaginary(), Budget(4, 3, 8, 10, 1.0, seconds=0.0)
    for _ in range(2):
        table = profile(
            toy.cost_model(), toy.graph, device, folder=tmp_path / "cpu", budget=limited
        )
        assert table.report["passes"] == 2
        assert table.report["visits"] == 2 * (4 + 18 * 3)
    assert read_records(tmp_path / "cpu" / LOG)[-1]["passes"] == 2


def test_log_is_readable_json_lines(toy, imaginary, tmp_path) -> None:
    build(toy, imaginary(), tmp_path / "cpu")
    lines = (tmp_path / "cpu" / LOG).read_text().splitlines()
    assert set(json.loads(lines[0])) == {"campaign", "checksum"}
    place, samples = json.loads(lines[1])["visits"][0]
    assert place == 0
    assert len(samples[0]) == 3


def test_campaign_without_log_measures_everything(toy, imaginary) -> None:
    subjects = tuple(Subject(str(w), toy.graph(toy.space.smallest)) for w in range(3))
    found = run_campaign(Campaign(subjects, 2, 0, Effort(), Effort()), imaginary())
    assert found.count_visits() == 6
    assert set(found.select_passes([1])) == {"0", "1", "2"}
