"""Files of a run: old ones open, written ones hold all that was read, damaged ones are named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.records.audit import AuditSettings, read_audit
from app.records.audit_pieces import read_pieces
from app.records.device import DeviceRecord, TableReport
from app.records.evaluation import EvaluationRecord
from app.records.export import ParityRecord
from app.records.run import RunRecord
from app.records.searches import picking
from app.records.searches.front import Front, parse_front, read_front
from app.records.searches.front_files import format_front
from app.records.searches.search import LENGTH, SearchRecord
from app.records.searches.trace import read_trace
from app.records.space import ArchitectureRecord
from app.records.typed_json.record import to_json
from app.records.typed_json.record_files import read_log, read_record, write_record
from app.reporting.audit_verdict import describe_worth
from app.runs.directory import Run, open_run, read_space
from app.runs.run_view import load_run
from app.runs.trained import build, read_recipe, read_shape
from app.searching.request import read_plan, rebuild_request
from supernet import checksums
from supernet.errors import InputError
from tests.app.conftest import Command
from tests.timing import least_seconds
from tests.toys.explored_runs import front_json, small_space

# Written by an earlier release, which called the format a version; long lists are cut short.
RECORDED = Path(__file__).with_name("recorded_run")
ROOT = Path(__file__).resolve().parents[2]
DEEP = "[" * 200 + "]" * 200
LEAVES = ("null", "true", "-1", "1e400", '"x"', "[]", "{}", DEEP, "9" * 310)
REMEDY = "mend it"


def _refuse(warning: str) -> None:
    raise InputError(warning)


def use_run(path: Path) -> None:
    run = open_run(path.parent)
    read_shape(run.record)
    read_recipe(run)
    to_json(run.record)


def use_front(path: Path) -> None:
    front = read_front(path.parent)
    points = (picking.pick(front, 1.0).point, picking.pick_knee(front), *front.list_front())
    for axis in front.axes:
        for point in filter(None, points):
            axis.show(point.best(axis.name))
            axis.show_interval(point.best(axis.name), point.estimate(axis.name).interval)
    format_front(front)
    to_json(front)
    assert front.reports is not None


def use_evaluations(path: Path) -> None:
    for record in read_log(path, EvaluationRecord, _refuse):
        record.belongs_to("c0ffee", 512)
        record.unpack_scores()
        assert record.value_or_nan is not None


def use_search(path: Path) -> None:
    record = read_plan(path.parent)
    assert record is not None
    json.dumps(record.config.identity)
    rebuild_request(path.parents[2], path.parent.name, record.config)


@dataclass(frozen=True)
class Kind:
    """A kind of file: an example of it, its reader, and the record of its whole content."""

    file: str
    use: Callable[[Path], object]
    record: Any = None


KINDS = [
    Kind("run.json", use_run, RunRecord),
    Kind("space.json", read_space),
    Kind("evaluations.jsonl", use_evaluations, EvaluationRecord),
    Kind("searches/default/search.json", use_search, SearchRecord),
    Kind("searches/default/front.json", use_front, Front),
    Kind("audits/default/audit.json", lambda path: describe_worth(read_audit(path.parent)), None),
    Kind(
        "audits/default/settings.json",
        lambda path: read_record(path, AuditSettings, REMEDY),
        AuditSettings,
    ),
    Kind("audits/default/records.jsonl", lambda path: list(read_pieces(path, _refuse))),
    Kind("exports/parity.json", lambda path: read_record(path, ParityRecord, REMEDY), ParityRecord),
    Kind("exports/architecture.json", lambda path: read_record(path, ArchitectureRecord, REMEDY)),
    Kind("devices/cpu/report.json", lambda path: read_record(path, TableReport, REMEDY)),
    Kind("devices/cpu/device.json", lambda path: read_record(path, DeviceRecord, REMEDY)),
]
NAMES = [kind.file for kind in KINDS]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the recorded run that a test may change."""
    return Path(shutil.copytree(RECORDED, tmp_path / "run"))


def damaged_leaves(payload: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a JSON value replaced once by each of ``LEAVES``, as text."""
    token = "@leaf@"

    def visit(value: Any, put: Callable[[Any], None], place: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict | list) and value:
            for key in list(value) if isinstance(value, dict) else range(len(value)):
                inner = partial(value.__setitem__, key)
                yield from visit(value[key], inner, f"{place}.{key}")
        else:
            put(token)
            text = json.dumps(root)
            put(value)
            for leaf in LEAVES:
                yield place, text.replace(f'"{token}"', leaf)

    root = [payload]
    for where, text in visit(payload, lambda value: root.__setitem__(0, value), place):
        yield where, text[1:-1]


def is_refused(use: Callable[[Path], object], path: Path, what: str) -> bool:
    """Whether a reader refuses a file, which it must do in one line that names the file."""
    sentence = ""
    try:
        use(path)
    except ValueError as error:
        sentence = str(error)
    if sentence:
        assert str(path) in sentence, what
        assert "\n" not in sentence, what
        assert len(sentence) < 600, what
    return bool(sentence)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_every_leaf_is_read_or_refused_in_a_sentence(run: Path, kind: Kind) -> None:
    path = run / kind.file
    text = path.read_text()
    assert not is_refused(kind.use, path, "as it was written")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    count = refused = 0
    for number, line in enumerate(lines):
        for place, changed in damaged_leaves(json.loads(line)):
            content = [*lines[:number], changed, *lines[number + 1 :]]
            path.write_text("\n".join(content) + "\n")
            refused += is_refused(kind.use, path, f"{place}: {changed[:80]}")
            count += 1
    assert count > 30
    if path.suffix != ".jsonl" and "devices" not in kind.file:
        assert refused > count / 2, "most values have one type only"


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\0\0", b"\xff\xfe{}", b"[]", b"null", b"{", b"[" * 100_000, b'{"format": 2}\n'],
    ids=["empty", "zeros", "no text", "list", "null", "torn", "deep", "format 2"],
)
def test_what_is_no_such_file_at_all_is_refused(run: Path, kind: Kind, content: bytes) -> None:
    path = run / kind.file
    path.write_bytes(content)
    log = path.suffix == ".jsonl"
    # A log that holds nothing usable, or only a torn line, is one that nothing was written to.
    assert is_refused(kind.use, path, "no such file") or log or "devices" in kind.file
    path.write_bytes(b"\n".join([content, b"{}", b""]))
    if content in (b"\0\0\0\0", b"\xff\xfe{}", b"{"):
        assert is_refused(kind.use, path, "a complete line that is no JSON")


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        (
            "searches/default/front.json",
            lambda p: p["points"][1]["objectives"]["accuracy"].update(value="x"),
            'points[1].objectives.accuracy.value is "x", but must be a number; '
            "restore the file, or search again with --replace",
        ),
        (
            "searches/default/front.json",
            lambda p: p["points"][0].update(on_front=1),
            "points[0].on_front is 1, but must be true or false",
        ),
        (
            "searches/default/front.json",
            lambda p: p["points"][2].update(macs=True),
            "points[2]: macs must be a number",
        ),
        (
            "searches/default/front.json",
            lambda p: p["report"]["accuracy"].update(curve=[[1, "x"]]),
            'report.accuracy.curve[0][1] is "x", but must be a number',
        ),
        (
            "searches/default/front.json",
            lambda p: p["points"][0]["architecture"].update({"a\nb": []}),
            "points[0].architecture['a\\nb'] is [], but must be a whole number or a number",
        ),
        (
            "run.json",
            lambda p: p["data"]["shape"].pop("classes"),
            "data.shape lacks 'classes'; restore the file, or train a new run",
        ),
        (
            "run.json",
            lambda p: p["data"]["shape"]["input"].__setitem__(1, 8.5),
            "data.shape.input[1] is 8.5, but must be a whole number",
        ),
        (
            "run.json",
            lambda p: p["recipe"].update(batch_size="x"),
            "recipe cannot be used (",
        ),
        (
            "searches/default/search.json",
            lambda p: p["config"].update(latency_ms=[1]),
            "config.latency_ms is [1], but must be a number or a text; choose another --name",
        ),
        (
            "audits/default/audit.json",
            lambda p: p["kendall_tau"].update(low={}),
            "kendall_tau.low is {}, but must be a number; remove it and run the audit again",
        ),
    ],
)
def test_the_sentence_names_place_finding_and_remedy(
    run: Path, file: str, change: Callable[[Any], object], sentence: str
) -> None:
    path = run / file
    payload = json.loads(path.read_text())
    change(payload)
    path.write_text(json.dumps(payload))
    use = next(kind.use for kind in KINDS if kind.file == file)
    with pytest.raises(ValueError, match=r".") as error:
        use(path)
    assert str(error.value).startswith(f"{path} was damaged or edited: {sentence}")


def test_a_command_says_the_same_sentence(command: Command, run: Path) -> None:
    path = run / "searches/default/front.json"
    path.write_text(path.read_text().replace('"on_front": true', '"on_front": "yes"', 1))
    outcome = command("pick", "--run", run, "--knee")
    assert outcome.code == 2
    assert outcome.error.startswith(f"{path} was damaged or edited: points[0].on_front is")


def test_a_network_that_cannot_be_built_is_the_files_fault(run: Path) -> None:
    path = run / "run.json"
    payload = json.loads(path.read_text())
    for value in ("x", -1, None, [], 10**30):
        changed = {**payload, "family_config": {**payload["family_config"], "classes": value}}
        path.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match="was damaged or edited: family_config cannot be used"):
            build(Run(run))


@pytest.mark.parametrize(
    "line", ["1,x", "x,0.1", "1,1e400", "1,nan", "1", '"', "1," + "9" * 5000, "\0,1"]
)
def test_a_damaged_trace_names_the_line(run: Path, line: str) -> None:
    folder = run / "searches/default"
    (folder / "hypervolume.csv").write_text(f"evaluations,hypervolume\n1,0.1\n{line}\n")
    with pytest.raises(ValueError, match=r"hypervolume.csv, line 3 is not"):
        read_trace(folder)


# -- what earlier and later releases wrote ---------------------------------------------------------


def test_a_run_of_an_earlier_release_opens(run: Path) -> None:
    assert json.loads((run / "run.json").read_text())["version"] == 1
    view = load_run(run)
    assert view.problems == ()
    assert (view.family, view.data, view.stages["search"]) == (
        "ofa_mobilenetv3",
        "digits",
        "complete",
    )
    front = view.fronts["default"]
    assert [o.name for o in front.objectives] == ["accuracy", "latency_ms"]
    assert front.baseline is not None
    assert front.reports["accuracy"].tau is not None
    chosen = picking.pick_knee(front)
    assert chosen is not None
    assert set(chosen.counts) >= {"parameters", "macs", "size_bytes"}
    assert len(view.evaluations) == len((run / "evaluations.jsonl").read_text().splitlines())
    assert any(record.unpack_scores() is not None for record in view.evaluations)
    pieces = read_pieces(run / "audits/default/records.jsonl", _refuse)
    assert all((pieces.inherited, pieces.alone, pieces.nested, pieces.probes, pieces.curves))


def test_files_from_before_a_setting_was_there_mean_its_default(run: Path) -> None:
    path = run / "searches/default/search.json"
    payload = json.loads(path.read_text())
    whole = read_record(path, SearchRecord, REMEDY)
    for name in ("limits", "max_minutes", "stagnation", "proxies", "prior"):
        del payload["config"][name]
    path.write_text(json.dumps(payload))
    assert read_record(path, SearchRecord, REMEDY).config == whole.config
    point = next(p for p in front_json(small_space())["points"])
    plain = {"version": 1, "objectives": [{"name": "accuracy", "direction": "maximize"}]}
    front = parse_front({**plain, "points": [point]}, "front.json", "old")
    assert (front.failed, front.stopped, front.hypervolume.searched) == (0, "", None)
    card = {"model": "ridge", "tau": 0.5}
    older = parse_front({**plain, "points": [], "report": card}, "front.json", "older")
    assert older.reports["accuracy"].tau == 0.5, "one card is that of the first objective"


@pytest.mark.parametrize("kind", [k for k in KINDS if k.record is not None], ids=lambda k: k.file)
def test_nothing_that_was_read_is_lost_when_it_is_written(run: Path, kind: Kind) -> None:
    text = (run / kind.file).read_text()
    for line in text.splitlines() if kind.file.endswith("l") else [text]:
        payload = {**json.loads(line), "of_a_later_release": {"x": [1, None]}}
        record = kind.record.model_validate_json(json.dumps(payload))
        written = run / "written.json"
        write_record(written, record)
        found = checksums.read_json(written)
        assert found.pop("format") == payload.pop("version", 1)
        assert found == payload
        assert read_record(written, kind.record, REMEDY) == record


def test_a_stage_is_added_and_everything_else_stays(run: Path) -> None:
    before = json.loads((run / "run.json").read_text())
    Run(run).set_stage("train", "complete", steps=7, new_fact=[1])
    after = checksums.read_json(run / "run.json")
    assert (after.pop("format"), before.pop("version")) == (1, 1)
    train = after["stages"].pop("train")
    assert {**before["stages"].pop("train"), "updated": train["updated"], "steps": 7} == {
        name: value for name, value in train.items() if name != "new_fact"
    }
    assert train["new_fact"] == [1]
    assert after == before


def test_a_stored_search_is_the_same_search(run: Path) -> None:
    path = run / "searches/default/search.json"
    stored = json.loads(path.read_text())["config"]
    identity = read_record(path, SearchRecord, REMEDY).config.identity
    assert identity == {key: value for key, value in stored.items() if key not in LENGTH}


@pytest.mark.parametrize("spelling", ["format", "version"])
def test_a_later_format_is_named(run: Path, spelling: str) -> None:
    (run / "run.json").write_text(json.dumps({spelling: 2, "family": ["x"]}))
    with pytest.raises(ValueError, match=rf"run.json has {spelling} 2, and this release reads 1"):
        open_run(run)


# -- what it costs ---------------------------------------------------------------------------------


def test_thousands_of_points_and_lines_take_a_moment(run: Path, tmp_path: Path) -> None:
    payload = json.loads((run / "searches/default/front.json").read_text())
    points = payload["points"]
    payload["points"] = [points[i % len(points)] for i in range(5000)]
    path = tmp_path / "front.json"
    path.write_text(json.dumps(payload))
    decoded = least_seconds(lambda: json.loads(path.read_bytes()))
    assert least_seconds(lambda: read_front(tmp_path)) < 8 * decoded
    log = tmp_path / "evaluations.jsonl"
    log.write_text((run / "evaluations.jsonl").read_text().splitlines()[0] + "\n")
    log.write_text(log.read_text() * 5000)
    decoded = least_seconds(lambda: [json.loads(line) for line in log.read_text().splitlines()])
    assert least_seconds(lambda: read_log(log, EvaluationRecord, _refuse)) < 8 * decoded


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("app.commands.main", "pydantic"),
        ("app.runs.run_view", "torch"),
        ("app.records.audit_pieces, app.records.export, app.records.searches.search", "torch"),
    ],
)
def test_what_is_imported_is_what_is_needed(imported: str, absent: str) -> None:
    code = f"import sys, {imported}; assert {absent!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
