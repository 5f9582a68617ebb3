"""Long logs and large fronts: shown from arrays beside them, and always what they say."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.explorer.opened import observe_run
from app.records.columns import columns_file
from app.records.columns.choice_columns import ChoiceTable, tabulate_choices
from app.records.columns.columns_file import name_beside
from app.records.columns.evaluation_columns import EvaluationColumns, read_evaluations
from app.records.columns.front_columns import Column
from app.records.columns.point_columns import StoredPoints
from app.records.columns.stored_front import open_front
from app.records.evaluation import EvaluationRecord
from app.records.searches.front import Front, Point, read_front
from app.records.searches.front_files import write_front
from app.records.typed_json.record_files import append_record, read_log
from app.runs.run_view import find_quality, load_run
from supernet import checksums
from supernet.errors import InputError
from tests.timing import least_seconds
from tests.toys.explored_runs import front_json, small_space, write_run

LINES, POINTS = 300, 400


@pytest.fixture(autouse=True)
def _small_files_count_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("columns_file", "evaluation_columns", "stored_front"):
        monkeypatch.setattr(f"app.records.columns.{module}.LEAST_BYTES", 1000)


def make_record(number: int, **facts: Any) -> EvaluationRecord:
    space = small_space()
    architecture = space.decode(space.sample(np.random.default_rng(number), 1))[0]
    value = None if number % 7 == 3 else 0.5 + number / 1000
    return EvaluationRecord(
        architecture=architecture.to_dict(), digest=architecture.digest, objective="accuracy",
        value=value, low=None if value is None else value - 0.01, unit="fraction",
        split="test" if number % 5 == 0 else "val", checkpoint="c0ffee", samples=number,
        failure="the loss is not finite" if value is None else None, stopped=number % 11 == 0,
        at=f"2026-01-01T00:00:{number % 60:02d}+00:00",
        **facts,
    )  # fmt: skip


def append(log: Path, first: int, count: int) -> None:
    """Append lines as jobs write them, without waiting for the disk after each."""
    records = [make_record(number) for number in range(first, first + count)]
    lines = [json.dumps(checksums.seal(r.model_dump(exclude_unset=True))) for r in records]
    with log.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "evaluations.jsonl"
    append(path, 0, LINES)
    return path


def show(log: Path) -> tuple[EvaluationColumns, list[str]]:
    """What is shown of a log, and what is said of it."""
    said: list[str] = []
    return read_evaluations(log, said.append), said


def assert_says(shown: tuple[EvaluationColumns, list[str]], log: Path) -> None:
    """What is shown, and what is said besides, must be what a job finds in the log."""
    columns, said = shown
    expected: list[str] = []
    records = read_log(log, EvaluationRecord, expected.append)
    assert said == expected
    assert list(columns) == records
    assert len(columns) == len(records)
    assert columns.digest.tolist() == [r.digest for r in records]
    for name in ("objective", "unit", "split", "checkpoint", "failure", "at", "samples", "stopped"):
        assert getattr(columns, name).tolist() == [getattr(r, name) for r in records]
    for name in ("value", "low", "high", "seconds", "balanced", "fidelity"):
        found = np.array([getattr(r, name) for r in records], dtype=np.float64)
        np.testing.assert_array_equal(getattr(columns, name), found)
    for name in columns.choices.names:
        wanted = [r.architecture.get(name, np.nan) for r in records]
        np.testing.assert_array_equal(columns.choices.column(name), wanted)


def refuse_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> EvaluationRecord:
        raise AssertionError("a line was read that is among the arrays")

    monkeypatch.setattr("app.records.columns.evaluation_columns.parse_line", refuse)


# -- evaluations.jsonl -----------------------------------------------------------------------------


def test_a_log_is_shown_as_it_is_with_and_without_arrays(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_says(show(log), log)
    assert name_beside(log).exists()
    assert_says(show(log), log)
    refuse_parsing(monkeypatch)
    assert len(show(log)[0]) == LINES


def test_of_a_grown_log_only_what_is_new_is_read(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(log)
    append(log, LINES, 5)
    assert_says(show(log), log)
    seen: list[int] = []
    parse: Callable[..., EvaluationRecord] = EvaluationRecord.model_validate_json

    def count(line: bytes, kind: object, path: Path, number: int) -> EvaluationRecord:
        seen.append(number)
        return parse(line)

    monkeypatch.setattr("app.records.columns.evaluation_columns.parse_line", count)
    show(log)
    assert seen == [LINES + n for n in range(1, 6)]
    # So few are not worth writing all arrays anew.
    before = name_beside(log).stat().st_mtime_ns
    show(log)
    assert name_beside(log).stat().st_mtime_ns == before
    monkeypatch.undo()
    monkeypatch.setattr("app.records.columns.evaluation_columns.LEAST_BYTES", 1000)
    append(log, LINES + 5, LINES)
    show(log)
    assert name_beside(log).stat().st_mtime_ns != before
    assert_says(show(log), log)


def _change_digit(content: bytes) -> bytes:
    place = content.index(b'"value": 0.5') + len(b'"value": 0.')
    return content[:place] + b"9" + content[place + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a digit": _change_digit,
    "a first line": lambda content: b"{}\n" + content.partition(b"\n")[2],
    "a line in between": lambda content: content.replace(b"\n", b"\nnoise\n", 20),
    "a torn line": lambda content: content + b'{"digest": ',
    "zeros at the end": lambda content: content + bytes(512),
    "cut short": lambda content: content[:-30],
    "a line less": lambda content: content.partition(b"\n")[2],
    "a mark of the encoding": lambda content: b"\xef\xbb\xbf" + content,
    "other ends of lines": lambda content: content.replace(b"\n", b"\r\n"),
    "nothing": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("when", ["before", "after"])
def test_damage_is_said_alike_with_and_without_arrays(log: Path, damage: str, when: str) -> None:
    if when == "after":
        show(log)
    facts = log.stat()
    log.write_bytes(DAMAGE[damage](log.read_bytes()))
    os.utime(log, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert_says(show(log), log)
    assert_says(show(log), log)


def _repack(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Write arrays anew with a change to header or arrays, well-formed otherwise."""
    with np.load(path) as stored:
        arrays: dict[str, Any] = {name: stored[name] for name in stored.files}
    header = json.loads(arrays.pop("header").tobytes())
    change(header, arrays)
    content = io.BytesIO()
    np.savez(content, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
    path.write_bytes(content.getvalue())


def _set(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda header, arrays: arrays.update({name: value(arrays[name])})


def _tell(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda header, arrays: header.update({name: value})


FOREIGN: dict[str, Callable[[Path], object]] = {
    "noise": lambda path: path.write_bytes(os.urandom(4000)),
    "nothing": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[:2000]),
    "a changed byte": lambda path: path.write_bytes(
        path.read_bytes()[:5000] + b"\xff\xfe" + path.read_bytes()[5002:]
    ),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "another layout": lambda path: _repack(path, _tell("layout", "evaluations 0")),
    "other texts": lambda path: _repack(path, _tell("texts", {"split": [3]})),
    "damage elsewhere": lambda path: _repack(path, _tell("damaged", [[1, 5, 10**12]])),
    "fewer numbers": lambda path: _repack(path, _set("value", lambda a: a[1:])),
    "no numbers": lambda path: _repack(path, _set("value", lambda a: a * np.inf)),
    "places outside": lambda path: _repack(path, _set("end", lambda a: a + 10**9)),
    "codes outside": lambda path: _repack(path, _set("split", lambda a: a + 99)),
    "choices outside": lambda path: _repack(path, _set("choices", lambda a: a + 99)),
    "objects": lambda path: _repack(path, _set("value", lambda a: a.astype(object))),
    "no digests": lambda path: _repack(path, _set("digest", lambda a: np.full(len(a), b"<b>"))),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_arrays_that_are_of_no_use_are_made_anew(log: Path, kind: str) -> None:
    show(log)
    beside = name_beside(log)
    FOREIGN[kind](beside)
    assert_says(show(log), log)
    if kind != "a folder":
        with np.load(beside) as stored:
            assert len(stored["start"]) == LINES


def test_nothing_is_unpickled_or_unpacked(log: Path, tmp_path: Path) -> None:
    show(log)
    trace = tmp_path / "executed"

    class Hostile:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return os.mkdir, (str(trace),)

    beside = name_beside(log)
    beside.write_bytes(pickle.dumps(Hostile()))
    assert_says(show(log), log)
    _repack(beside, _set("value", lambda a: np.array([Hostile()], dtype=object)))
    assert_says(show(log), log)
    assert not trace.exists()
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", bytes(100_000_000))
    assert columns_file.read_columns(beside, "evaluations 1") is None
    assert_says(show(log), log)


def test_arrays_are_not_those_of_another_log(log: Path, tmp_path: Path) -> None:
    show(log)
    other = tmp_path / "other" / log.name
    other.parent.mkdir()
    append(other, 1000, LINES)
    shutil.copy(name_beside(log), name_beside(other))
    assert_says(show(other), other)


def test_a_record_that_is_gone_is_refused_instead_of_another(log: Path) -> None:
    columns, _ = show(log)
    assert columns[-1].samples == LINES - 1
    assert [record.samples for record in columns[3:5]] == [3, 4]
    log.write_bytes(log.read_bytes().partition(b"\n")[2])
    with pytest.raises(InputError, match="has changed since it was opened"):
        columns[5]


def test_more_choices_than_networks_have_make_no_table() -> None:
    table = ChoiceTable()
    for first in range(0, 20_000, 1000):
        table.append([{f"choice {first + n}": 3} for n in range(1000)])
    columns = table.finish()
    assert (len(columns), columns.names, columns.are_sound) == (20_000, (), True)


def test_equal_numbers_of_two_kinds_are_two_values() -> None:
    columns = tabulate_choices([{"a": 1, "b": "x"}, {"a": 1.0}, {"c": 3}])
    assert [list(map(type, values)) for values in columns.values] == [[int, float], [str], [int]]
    np.testing.assert_array_equal(columns.column("a"), [1, 1, np.nan])
    assert columns.column("b").tolist() == ["x", None, None]
    np.testing.assert_array_equal(columns.column("nothing"), [np.nan] * 3)


# -- front.json ------------------------------------------------------------------------------------


@pytest.fixture
def search(tmp_path: Path) -> Path:
    folder = tmp_path / "run/searches/default"
    folder.mkdir(parents=True)
    payload = front_json(small_space(), count=POINTS)
    for place, point in enumerate(payload["points"]):
        point["within_limits"] = place % 3 != 0
        if place % 2:
            point["objectives"]["energy"] = {"value": float(place), "source": "analytic"}
    front = Front.model_validate_json(json.dumps(payload))
    write_front(folder, front, [0.1, 0.2])
    return folder


def assert_same_front(found: Front, expected: Front) -> None:
    assert list(found.points) == list(expected.points)
    assert found.points[3:6] == expected.points[3:6]
    assert found.points[-1] == expected.points[-1]
    assert found.labels == expected.labels
    assert [axis.name for axis in found.axes] == [axis.name for axis in expected.axes]
    for name in (*(axis.name for axis in expected.axes), "energy", "nothing"):
        for field in fields(Column):
            arrays = (getattr(front.column(name), field.name) for front in (found, expected))
            np.testing.assert_array_equal(*arrays)
    for name in ("digests", "on_front", "verified", "indistinguishable", "out_of_limits"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in expected.choices.names:
        np.testing.assert_array_equal(found.choices.column(name), expected.choices.column(name))
    assert (found.digest, found.search) == (expected.digest, expected.search)
    assert found.model_dump(exclude={"points"}) == expected.model_dump(exclude={"points"})
    assert found.list_front() == expected.list_front()
    np.testing.assert_array_equal(found.measured, expected.measured)


def test_a_front_is_shown_as_it_is_with_and_without_arrays(search: Path) -> None:
    beside = name_beside(search / "front.json")
    expected = read_front(search)
    assert beside.exists(), "a search leaves them behind"
    for _ in range(2):
        found = open_front(search)
        assert isinstance(found.points, StoredPoints)
        assert_same_front(found, expected)
        beside.unlink(missing_ok=True)


def test_points_are_not_read_for_what_columns_say(
    search: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    parse = Point.model_validate_json

    def count(content: bytes) -> Point:
        nonlocal reads
        reads += 1
        return parse(content)

    monkeypatch.setattr(Point, "model_validate_json", count)
    front = open_front(search)
    assert (len(front.labels), len(front.axes) > 3, len(front.measured) > 3) == (
        len(front.points), True, True,
    )  # fmt: skip
    front.find_places(front.digests[7])
    assert reads == 0
    assert front.find_point(front.digests[7]) == front.points[7]
    assert reads == 2


@pytest.mark.parametrize("change", ["digit", "indent", "compact", "unsealed", "cut", "other front"])
def test_a_changed_front_is_read_or_refused_as_without_arrays(search: Path, change: str) -> None:
    path = search / "front.json"
    facts, text = path.stat(), path.read_text()
    match change:
        case "digit":
            text = text.replace('"value": 0.9', '"value": 0.8', 1)
        case "indent":
            text = json.dumps(json.loads(text), indent=1)
        case "compact":
            text = json.dumps(json.loads(text))
        case "unsealed":
            content = checksums.unseal(json.loads(text))
            content["points"][5]["digest"] = "no digest"
            text = json.dumps(content, indent=2)
        case "cut":
            text = text[:-5000]
        case "other front":
            content = checksums.unseal(json.loads(text))
            text = json.dumps({**content, "points": content["points"][::-1]}, indent=2)
    path.write_text(text)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    expected, found = _try_reading(read_front, search), _try_reading(open_front, search)
    if isinstance(expected, Front) and isinstance(found, Front):
        assert_same_front(found, expected)
    else:
        assert found == expected


def _try_reading(read: Callable[[Path], Front], search: Path) -> Front | str:
    try:
        return read(search)
    except InputError as error:
        return str(error)


def test_a_front_that_is_not_the_one_of_its_search_is_refused(search: Path) -> None:
    write_run(search.parents[1], searched=False)
    plan = {"config": {"device": "cpu", "latency_ms": None, "objectives": [], "strategy": "x",
                       "seed": 0, "evaluations": 5}, "space": "", "checkpoint": "",
            "status": "complete", "front": "0" * 16}  # fmt: skip
    (search / "search.json").write_text(json.dumps(plan))
    for read in (read_front, open_front):
        with pytest.raises(InputError, match="is not what the search of"):
            read(search)


@pytest.mark.parametrize("kind", ["noise", "a changed byte", "other numbers", "another header"])
def test_arrays_of_a_front_that_are_of_no_use_are_made_anew(search: Path, kind: str) -> None:
    beside = name_beside(search / "front.json")
    match kind:
        case "other numbers":
            _repack(beside, _set("column 0", lambda a: a[1:]))
        case "another header":
            _repack(beside, _tell("front", "{}"))
        case _:
            FOREIGN[kind](beside)
    assert_same_front(open_front(search), read_front(search))


def test_nothing_is_written_behind_a_link(search: Path, tmp_path: Path) -> None:
    name_beside(search / "front.json").unlink()
    elsewhere = tmp_path / "elsewhere"
    shutil.move(search, elsewhere)
    search.symlink_to(elsewhere)
    before = sorted(elsewhere.iterdir())
    assert isinstance(open_front(search).points, StoredPoints)
    assert sorted(elsewhere.iterdir()) == before


# -- whole runs ------------------------------------------------------------------------------------


def test_opening_a_run_is_no_change_to_it(search: Path) -> None:
    run = search.parents[1]
    write_run(run, searched=False)
    append(run / "evaluations.jsonl", 0, LINES)
    name_beside(search / "front.json").unlink()
    before = observe_run(run)
    view = load_run(run)
    assert name_beside(run / "evaluations.jsonl").exists()
    assert name_beside(search / "front.json").exists()
    assert observe_run(run) == before
    assert view.problems == ()
    append_record(run / "evaluations.jsonl", make_record(1))
    assert observe_run(run) != before


def test_the_newest_quality_is_found_tests_before_others(tmp_path: Path) -> None:
    write_run(tmp_path)
    log = tmp_path / "evaluations.jsonl"
    log.unlink()
    record = make_record(1)
    for value, split in ((0.5, "val"), (0.6, "test"), (0.7, "test"), (None, "test"), (0.8, "val")):
        append_record(log, record.replace(value=value, split=split))
    found = find_quality(load_run(tmp_path), record.digest)
    assert found is not None
    assert (found.value, found.split) == (0.7, "test")
    assert find_quality(load_run(tmp_path), "0" * 12) is None


def test_opening_with_arrays_is_several_times_as_fast(log: Path, search: Path) -> None:
    append(log, LINES, 3000)
    without, beside = least_seconds(lambda: _open_fresh(log)), name_beside(log)
    show(log)
    assert beside.exists()
    assert least_seconds(lambda: show(log)) < without / 4
    assert least_seconds(lambda: open_front(search)) < least_seconds(lambda: read_front(search))


def _open_fresh(log: Path) -> None:
    name_beside(log).unlink(missing_ok=True)
    show(log)
