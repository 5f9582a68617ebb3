"""Model cards and reports: the text as recorded, and names out of files that stay names."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.report import report_job
from app.records.evaluation import EvaluationRecord
from app.records.export import (
    IntegerParityRecord,
    LatencyRecord,
    ParityRecord,
    StorageRecord,
)
from app.records.run import DataRecord, RunRecord, ShapeRecord
from app.reporting.markdown import (
    Markdown,
    escape_markdown,
    render_markdown,
    write_code,
    write_link,
    write_table,
)
from app.reporting.model_card import CardFacts, write_model_card
from app.reporting.report_text import SearchSummary, write_overview
from supernet.data import DataShape
from supernet.export import Exported
from supernet.graph.language import Graph
from tests.toys.explored_runs import small_space, write_run

RECORDED = Path(__file__).with_name("recorded")
HOSTILE = "<img src=x onerror=alert(1)> [a](http://x.y) **b** `c` | d\n\n# e &lt; _f_"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


def exported(shape: tuple[int, ...], name: str, calibration: int) -> Exported:
    return Exported(
        network=torch.nn.Identity(),
        onnx=b"",
        weights={},
        input_name=name,
        input_shape=shape,
        input_dtype="float32",
        output_name="logits",
        parameters=24_642,
        macs=105_360,
        calibration_samples=calibration,
        graph=Graph((), (), (), (), (), 0, 0),
        normalizes=calibration > 0,
    )


def quality(split: str, value: float, samples: int, *, interval: bool = True) -> EvaluationRecord:
    return EvaluationRecord(
        architecture={},
        digest="d1" * 6,
        objective="accuracy",
        unit="fraction",
        split=split,
        value=value,
        low=value - 0.012 if interval else None,
        high=value + 0.009 if interval else None,
        samples=samples,
    )


def run_record(spec: str = "folder:some photos", **changes: object) -> RunRecord:
    shape = ShapeRecord(task="any", input=(1,), classes=2, labels=(), mean=(), std=())
    record = RunRecord(
        family="ofa_mobilenetv3",
        preset="tiny",
        family_config={},
        recipe={},
        space="5bace",
        seed=3,
        data=DataRecord(spec=spec, fingerprint="0123456789abcdef0123", shape=shape),
        versions={"python": "3.11.2", "torch": "2.13.0+cpu"},
    )
    return record.replace(**changes)


def facts(
    shape: DataShape,
    qualities: dict[str, EvaluationRecord],
    *,
    record: RunRecord | None = None,
    latency: LatencyRecord | None = None,
) -> CardFacts:
    parity = ParityRecord(
        architecture="d1" * 6,
        max_abs_difference=4.77e-06,
        limit=1e-4,
        same_decision=1.0,
        samples=64,
        split="val",
        output_spread=1.0,
        onnxruntime="1.20",
        torch="2.13",
    )
    sizes = {"model.onnx": 104_412, "weights.safetensors": 101_990}
    storage = StorageRecord(promised=98_568, tensors=98_568, files=sizes)
    return CardFacts(record or run_record(), shape, "c0ffee", qualities, latency, parity, storage)


def images(channels: int) -> DataShape:
    labels = tuple("0123456789")
    return DataShape(
        "image-classification", (channels, 8, 8), 10, labels, (0.5,) * channels, (0.3,) * channels
    )


def test_the_card_of_an_image_network_with_everything_known() -> None:
    latency = LatencyRecord(
        value=0.024812,
        low=0.0241,
        high=0.02533,
        device="cpu",
        method="median of 30 rounds, onnxruntime 1.20, one thread.",
    )
    qualities = {"val": quality("val", 0.9777, 270), "test": quality("test", 0.9888, 269)}
    text = write_model_card(
        small_space().largest,
        exported((3, 6, 6), "pixels", 512),
        facts(images(3), qualities, latency=latency),
    )
    assert text == recorded("card_images.md")


def test_the_card_of_a_grey_image_network_without_interval_and_latency() -> None:
    text = write_model_card(
        small_space().smallest,
        exported((1, 8, 8), "pixels", 0),
        facts(images(1), {"val": quality("val", 0.9777, 270, interval=False)}),
    )
    assert text == recorded("card_grey.md")


def test_the_card_of_a_language_model() -> None:
    loss = quality("test", 2.04312, 4096).replace(
        objective="loss", unit="nats/token", low=2.0, high=2.1
    )
    shape = DataShape("language-modelling", (64,), 31, tuple("abcdefg"))
    text = write_model_card(
        small_space().largest,
        exported((64,), "tokens", 0),
        facts(shape, {"test": loss}, record=run_record(family="matlm", spec="text:a book.txt")),
    )
    assert text == recorded("card_text.md")
    text = write_model_card(
        small_space().largest,
        exported((64,), "tokens", 0),
        facts(shape, {"test": loss}, record=run_record(family="matlm", spec="mine.data:load")),
    )
    assert text == recorded("card_tokens.md"), "how a function makes tokens only its author knows"


def test_the_card_of_a_network_whose_images_are_in_no_files() -> None:
    text = write_model_card(
        small_space().largest,
        exported((1, 6, 6), "pixels", 0),
        facts(images(1), {"val": quality("val", 0.9777, 270)}, record=run_record(spec="digits")),
    )
    assert text == recorded("card_arrays.md")


@pytest.mark.parametrize(
    ("apart", "said"),
    [
        (0.0, "| all outputs equal to the last bit, over 64 real inputs |"),
        (
            0.25,
            "| 98.40 % of outputs equal to the last bit, the others at most 0.25 apart, over 64 ",
        ),
    ],
)
def test_a_card_says_how_far_integers_are_apart_only_where_they_are(
    apart: float, said: str
) -> None:
    about = facts(images(1), {"val": quality("val", 0.9777, 270)})
    equal = IntegerParityRecord(
        samples=64, mean_abs_difference=apart / 9, equal=0.984 if apart else 1.0, same_decision=1.0
    )
    parity = about.parity.replace(max_abs_difference=apart, integers=equal)
    network = exported((1, 6, 6), "pixels", 0)
    text = write_model_card(small_space().largest, network, replace(about, parity=parity))
    assert f"| Integer simulator against ONNX Runtime {said}" in text
    assert "at most 0 apart" not in text


def rewrite_front(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = run / "searches/default/front.json"
    payload = json.loads(path.read_text())
    change(payload)
    path.write_text(json.dumps(payload))


def test_a_report_with_everything_known(tmp_path: Path) -> None:
    def change(payload: dict[str, Any]) -> None:
        points = payload["points"]
        front, behind = ([p for p in points if p["on_front"] is on] for on in (True, False))
        payload["points"] = front[:3] + behind[:2]
        payload["failed"] = 2
        payload["unmeasured_devices"] = ["phone", "watch"]
        payload["baseline"] = {"hypervolume": 0.0391}
        payload["hypervolume"]["searched"] = 0.0398
        curve = [[12, 0.5], [24, 0.7], [48, 0.8123]]
        payload["report"] = {
            "accuracy": {**payload["report"], "curve": curve, "needed": 90},
            "latency_ms": {"model": "table", "tau": 0.97},
        }

    write_run(tmp_path / "digits")
    rewrite_front(tmp_path / "digits", change)
    report_job(tmp_path / "digits", print, out=tmp_path / "out", baseline=False)
    assert (tmp_path / "out/report.md").read_text() == recorded("report_overview.md")
    assert (tmp_path / "out/default/report.md").read_text() == recorded("report_search.md")


def test_a_report_without_predictor(tmp_path: Path) -> None:
    def change(payload: dict[str, Any]) -> None:
        payload["points"] = [p for p in payload["points"] if p["on_front"]][:2]
        del payload["report"], payload["hypervolume"]["predicted"]

    write_run(tmp_path / "text", loss=True)
    rewrite_front(tmp_path / "text", change)
    report_job(tmp_path / "text", print, out=tmp_path / "out", baseline=False)
    assert (tmp_path / "out/default/report.md").read_text() == recorded("report_language_model.md")


# -- names out of files ----------------------------------------------------------------------------


def test_a_hostile_name_is_shown_as_it_is() -> None:
    record = run_record(family=HOSTILE, preset="# x", versions={"py|thon": HOSTILE})
    spec = f"folder:{HOSTILE}"
    record = record.replace(data=record.data.replace(spec=spec, fingerprint="`` ` <b>"))
    latency = LatencyRecord(value=1.0, low=0.9, high=1.1, device=HOSTILE, method=HOSTILE)
    text = write_model_card(
        small_space().smallest,
        exported((1, 8, 8), "pixels", 0),
        facts(images(1), {"val": quality("val", 0.9, 10)}, record=record, latency=latency),
    )
    plain = write_model_card(
        small_space().smallest,
        exported((1, 8, 8), "pixels", 0),
        facts(
            images(1),
            {"val": quality("val", 0.9, 10)},
            latency=latency.replace(device="cpu", method="m"),
        ),
    )
    assert "\\<img" in text
    assert "\n# e" not in text
    assert len(text.splitlines()) == len(plain.splitlines()), "no value opens a line of its own"
    row = next(line for line in text.splitlines() if line.startswith("| Latency"))
    assert row.replace("\\|", "").count("|") == 3, "no value opens a cell of its own"
    assert "fingerprint ``` `` ` <b> ```" in text


def test_links_and_tables_hold_hostile_names() -> None:
    summary = SearchSummary("a](http://x) b|c", HOSTILE, 1, 0, 1, None, None, None, 0.5)
    line = write_overview("run", [summary]).splitlines()[4]
    target = "a%5D%28http%3A//x%29%20b%7Cc/report.md"
    assert line.startswith(f"| [a\\](http:\\//x) b\\|c]({target}) |")
    assert line.replace("\\|", "").count("|") == 9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ofa_mobilenetv3", "ofa_mobilenetv3"),
        ("latency_ms@cpu", "latency_ms@cpu"),
        ("2.13.0+cpu", "2.13.0+cpu"),
        ("97.41 % (95 % interval 94.7 to 98.7 %)", "97.41 % (95 % interval 94.7 to 98.7 %)"),
        ("text:book.txt", "text:book.txt"),
        ("AT&T", "AT&T"),
        ("a*b<c>", "a\\*b\\<c\\>"),
        ("_a_ __b__", "\\_a\\_ \\_\\_b\\_\\_"),
        ("&lt;", "\\&lt;"),
        ("a\nb", "a b"),
        ("# a", "\\# a"),
        ("1. a", "1\\. a"),
        ("- a", "\\- a"),
        ("---", "--\\-"),
        ("-0.5", "-0.5"),
        ("http://a.b", "http:\\//a.b"),
        ("C:\\x", "C:\\\\x"),
    ],
)
def test_only_what_means_something_is_escaped(text: str, expected: str) -> None:
    assert escape_markdown(text) == expected


@given(st.text())
def test_nothing_gets_out_of_its_cell_or_its_code(text: str) -> None:
    lines = write_table(("a", "b"), [(text, "x")]).split("\n")
    assert len(lines) == 3
    assert len(lines[2].splitlines()) == 1
    bare = lines[2].replace("\\\\", "").replace("\\|", "")
    assert bare.count("|") == 3
    assert "<" not in bare.replace("\\<", "")
    code = write_code(text)
    fence = code[: len(code) - len(code.lstrip("`"))]
    inside = code[len(fence) : -len(fence)]
    assert not inside or "`" * len(fence) not in inside
    assert bool(code) is bool(text)


def test_markdown_is_not_escaped_twice() -> None:
    link = write_link("a_", "b c")
    assert link == "[a\\_](b%20c)"
    assert escape_markdown("*") == "\\*"
    assert write_table([Markdown("**a**")], []) == "| **a** |\n| --- |"


def test_a_template_that_lacks_a_value_is_an_error() -> None:
    with pytest.raises(Exception, match="'table' is undefined"):
        render_markdown("overview.md.jinja", run="x")
