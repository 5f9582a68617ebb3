"""A changed digit is noticed and said, and damage to one file stops nothing that can do without."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.runs.run_view import load_run
from supernet import checksums
from tests.app.conftest import Command
from tests.damage.harness import Harness, list_cases

Refused = Callable[..., str]


def change_digit(path: Path, after: str) -> None:
    """Make the first digit behind ``after`` another one."""
    text = path.read_text()
    place = re.compile(r"\d").search(text, text.index(after) + len(after))
    assert place is not None
    digit = "3" if place[0] != "3" else "4"
    path.write_text(f"{text[: place.start()]}{digit}{text[place.end() :]}")


@pytest.mark.parametrize(
    ("file", "after", "words"),
    [
        ("run.json", '"seconds": ', ("evaluate", "--arch", "smallest")),
        ("searches/default/front.json", '"accuracy": {', ("pick", "--knee")),
        ("searches/default/search.json", '"checkpoint": "', ("report",)),
    ],
)
def test_a_changed_digit_is_refused_until_it_is_meant(
    command: Command, refused: Refused, a_run: Path, file: str, after: str, words: tuple[str, ...]
) -> None:
    path = a_run / file
    change_digit(path, after)
    name, *flags = words
    said = refused(name, "--run", a_run, *flags)
    assert f"{path} was damaged or edited: its content does not match its checksum" in said
    assert 'remove its entry "checksum"' in said
    path.write_text(json.dumps(checksums.unseal(json.loads(path.read_text()))))
    outcome = command(name, "--run", a_run, *flags)
    assert "does not match its checksum" not in outcome.err


def test_a_damaged_front_stops_no_other_search(
    command: Command, refused: Refused, a_run: Path
) -> None:
    shutil.copytree(a_run / "searches/default", a_run / "searches/another")
    whole = command("report", "--run", a_run, "--no-baseline", "--out", a_run / "whole")
    assert whole.code == 0, whole.err
    front = a_run / "searches/another/front.json"
    first = json.loads((a_run / "searches/default/front.json").read_text())["points"][0]["digest"]
    for damage in ("{}", '{"points": 3}', "", "[" * 9999, '{"format": 1, "points": [], "objec'):
        front.write_text(damage)
        assert str(front) in refused("report", "--run", a_run, "--search", "another")
        assert command("pick", "--run", a_run, "--knee").code == 0
    for damage in ("", "[" * 9999):
        front.write_text(damage)
        outcome = command("report", "--run", a_run, "--no-baseline", "--json")
        assert outcome.code == 0, outcome.err
        assert f"warning: search another is left out: {front} " in outcome.err
        result = json.loads(outcome.out)
        assert [s["search"] for s in result["searches"]] == ["default"]
        assert result["skipped"] == ["another"]
        for file in ("front.csv", "front.svg", "report.md", "verification.csv"):
            new, old = (a_run / folder / "default" / file for folder in ("report", "whole"))
            assert new.read_bytes() == old.read_bytes()
    outcome = command("export", "--run", a_run, "--arch", first)
    assert outcome.code == 0, outcome.err
    assert f"warning: {front} " in outcome.err
    (a_run / "searches/default/front.json").write_text("{}")
    assert "no search can be read" in refused("report", "--run", a_run, "--no-baseline")


@pytest.mark.parametrize("damage", ["digit", "missing", "folder", "noise"])
def test_a_damaged_trace_is_left_out_of_the_report(
    command: Command, a_run: Path, damage: str
) -> None:
    trace = a_run / "searches/default/hypervolume.csv"
    match damage:
        case "digit":
            change_digit(trace, "\n20,0.")
        case "noise":
            trace.write_bytes(b"\0\r\xff" * 50)
        case _:
            trace.unlink()
    if damage == "folder":
        trace.mkdir()
    outcome = command("report", "--run", a_run, "--no-baseline", "--json")
    assert outcome.code == 0, outcome.err
    assert "warning: the progress of search default is left out: " in outcome.err
    assert "hypervolume.csv" in outcome.err
    written = {Path(name).name for name in json.loads(outcome.out)["written"]}
    assert {"front.csv", "front.svg", "report.md"} <= written
    assert not written & {"hypervolume.csv", "hypervolume.svg"}


def test_a_damaged_line_of_the_log_is_said_and_evaluated_again(
    command: Command, a_run: Path
) -> None:
    log = a_run / "evaluations.jsonl"
    largest = ("evaluate", "--run", a_run, "--arch", "largest", "--split", "train", "--json")
    before = json.loads(command(*largest).out)
    text = log.read_text()
    number = len(text.splitlines())
    change_digit(log, text.splitlines()[-2] + '\n{"format": 1, "architecture": {')
    changed = log.read_text()
    assert changed != text
    outcome = command(*largest)
    assert f"warning: {log}, line {number} was damaged or edited: its content does" in outcome.err
    assert "found anew where it is needed" in outcome.err
    assert json.loads(outcome.out) == before
    assert log.read_text().startswith(changed), "nothing is thrown away"
    assert len(log.read_text().splitlines()) == number + 1
    view = load_run(a_run)
    assert any(f"{log}, line {number} was damaged" in problem for problem in view.problems)
    assert len(view.evaluations) == number
    log.write_text("".join(line for line in log.read_text().splitlines(keepends=True)
                           if line != changed.splitlines(keepends=True)[-1]))  # fmt: skip
    assert "warning" not in command(*largest).err


def test_choices_that_are_not_those_of_their_digest_are_refused(
    command: Command, refused: Refused, a_run: Path
) -> None:
    assert command("export", "--run", a_run, "--arch", "smallest").code == 0
    (file,) = (a_run / "exports").glob("*/architecture.json")
    record = checksums.read_json(file)
    record["choices"]["resolution"] = 6
    file.write_text(json.dumps(record))
    said = refused("evaluate", "--run", a_run, "--arch", file)
    assert f"not of {record['digest']}, which it says they are" in said
    del record["digest"]
    file.write_text(json.dumps(record))
    assert command("evaluate", "--run", a_run, "--arch", file).code == 0


def test_a_table_whose_report_is_damaged_is_measured_again(command: Command, a_run: Path) -> None:
    report = a_run / "devices/cpu/report.json"
    whole = checksums.read_json(report)
    log = (a_run / "devices/cpu/measurements.jsonl").read_bytes()
    change_digit(report, '"mape": ')
    outcome = command("profile", "--run", a_run, "--passes", 2, "--networks", 4)
    assert outcome.code == 0, outcome.err
    assert f"warning: {report} was damaged or edited: its content does not match" in outcome.err
    assert (a_run / "devices/cpu/measurements.jsonl").read_bytes() == log, "measured once"
    again = checksums.read_json(report)
    assert {k: v for k, v in again.items() if k not in ("seconds", "files")} == {
        k: v for k, v in whole.items() if k not in ("seconds", "files")
    }


@pytest.mark.filterwarnings("default")
def test_a_sample_of_all_damage_does_no_harm(finished_run: Path, tmp_path: Path) -> None:
    """The whole of it takes minutes: ``pytest -m slow tests/damage``."""
    cases = list_cases(finished_run, 40, 0, ("look", "pick", "evaluate"))
    result = Harness(finished_run, tmp_path).try_all(cases)
    assert len(cases) == 40
    assert not result.faults, result.faults


def test_a_search_without_a_front_is_missing_from_a_report_with_a_word(
    command: Command, a_run: Path
) -> None:
    whole = a_run / "searches/default"
    shutil.copytree(whole, a_run / "searches/begun")
    (a_run / "searches/begun/front.json").unlink()
    outcome = command("report", "--run", a_run, "--no-baseline", "--json")
    assert outcome.code == 0, outcome.err
    assert "warning: search begun is left out: it has no front" in outcome.err
    assert json.loads(outcome.out)["skipped"] == ["begun"]


@pytest.mark.parametrize("name", ["report.json", "device.json"])
def test_another_file_in_the_place_of_a_table_s_is_no_table_s(a_run: Path, name: str) -> None:
    place = a_run / "devices/cpu" / name
    shutil.copy(
        a_run / "devices/cpu" / {"report.json": "device.json"}.get(name, "report.json"), place
    )
    assert any(f"{place} was damaged or edited: it lacks" in p for p in load_run(a_run).problems)


def test_a_table_without_its_report_is_not_finished(a_run: Path) -> None:
    (a_run / "devices/cpu/report.json").unlink()
    assert any("has no finished latency table" in problem for problem in load_run(a_run).problems)
