"""The functions of the interactive chart's script, run in a real browser against Python's."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest

from app.records.searches.front import parse_front
from app.records.searches.front_extras import BaselinePoint, BaselineRecord, FailureRecord
from app.reporting.scatter.payload import build_payload
from app.reporting.scatter.script import read_script, read_style
from app.reporting.scatter.view import FAILED, RANDOM_SEARCH, ScatterView
from tests.app.chromium import open_chromium
from tests.toys.explored_runs import HOSTILE, front_json, small_space

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    """A page in which every function of the script has a name."""
    with open_chromium() as browser:
        page = browser.new_page()
        page.set_content("<title>functions</title>")
        page.add_script_tag(
            content=read_script().replace("export default function", "void function")
        )
        yield page


def crosses(corners: list[tuple[float, float]], x: float, y: float) -> bool:
    """By winding: the angles under which the sides are seen add up to a turn, or to nothing."""
    turned = 0.0
    for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        turn = math.atan2(y2 - y, x2 - x) - math.atan2(y1 - y, x1 - x)
        turned += (turn + math.pi) % (2 * math.pi) - math.pi
    return round(turned / (2 * math.pi)) % 2 == 1


@pytest.mark.parametrize("log", [False, True])
def test_a_lasso_holds_what_lies_within_it(script: Any, log: bool) -> None:
    rng = random.Random(3)
    stretch = math.log if log else float
    inside = 0
    for _ in range(20):
        corners = [(rng.uniform(0.1, 9), rng.uniform(0.1, 9)) for _ in range(rng.randint(3, 9))]
        points = [(rng.uniform(0.05, 10), rng.uniform(0.05, 10)) for _ in range(60)]
        region = {"kind": "lasso", "corners": corners, "x_log": log, "y_log": log}
        found = script.evaluate(
            "([region, points]) => points.map(([x, y]) => makeFilter(region)(x, y))",
            [region, points],
        )
        drawn = [(stretch(x), stretch(y)) for x, y in corners]
        expected = [crosses(drawn, stretch(x), stretch(y)) for x, y in points]
        assert found == expected
        inside += sum(expected)
    assert inside > 100


def test_a_box_holds_its_border_whichever_corner_came_first(script: Any) -> None:
    region = {"kind": "box", "corners": [[2, 5], [1, 3]]}
    points = [[1, 3], [2, 5], [1.5, 4], [0.99, 4], [1.5, 5.01]]
    found = script.evaluate(
        "([region, points]) => points.map(([x, y]) => makeFilter(region)(x, y))", [region, points]
    )
    assert found == [True, True, True, False, False]
    assert script.evaluate("makeFilter(null)(1, 1)") is True


def test_a_region_is_in_stored_units_and_short(script: Any) -> None:
    region = script.evaluate(
        """() => {
          const axes = {x: {name: "a", log: true}, y: {name: "b", log: false}};
          const [x, y] = [makeScale(axes.x, [-1, 1], 0, 200), makeScale(axes.y, [0, 1], 100, 0)];
          const path = Array.from({length: 900}, (_, n) => ({
            x: 100 + 90 * Math.cos(n / 143), y: 50 + 40 * Math.sin(n / 143)}));
          return makeRegion("lasso", path, axes, {x, y});
        }"""
    )
    assert (region["x"], region["y"], region["x_log"], region["y_log"]) == ("a", "b", True, False)
    assert len(region["corners"]) == 100
    assert region["corners"][0] == pytest.approx([10**0.9, 0.5], rel=1e-5)
    assert all(len(repr(part)) <= 10 for corner in region["corners"] for part in corner)
    twitch = "makeRegion('box', [{x: 1, y: 1}, {x: 3, y: 90}], {x: {}, y: {}}, {})"
    assert script.evaluate(twitch) is None


def parse(text: str) -> float:
    return float(text.replace(",", ""))


@pytest.mark.parametrize(
    ("low", "high", "scale", "log"),
    [
        (0.0236, 0.0263, 1, False), (0.71, 0.99, 100, False), (-3, 4, 1, False),
        (1e5, 9e6, 1e-6, False), (1e-7, 3e-7, 1, False), (0.02, 0.06, 1, True),
        (0.001, 1000, 1, True), (2e3, 5e9, 1e-3, True), (0.0, 1e-300, 1, False),
    ],
)  # fmt: skip
def test_ticks_lie_within_the_axis_and_say_where_they_are(
    script: Any, low: float, high: float, scale: float, log: bool
) -> None:
    span = [math.log10(v) if log else v for v in (low, high)]
    ticks = script.evaluate(
        "([axis, span]) => listTicks(axis, span, 6)", [{"log": log, "scale": scale}, span]
    )
    assert 2 <= len(ticks) <= 21
    values = [tick["value"] for tick in ticks]
    assert values == sorted(values)
    slack = 1e-6 * (high - low)
    assert all(low - slack <= value <= high + slack for value in values)
    texts = [tick["text"] for tick in ticks]
    assert len(set(texts)) == len(texts)
    for value, text in zip(values, texts, strict=True):
        assert parse(text) == pytest.approx(value * scale, rel=0.06, abs=1e-9 * abs(high * scale))


def test_a_scale_and_its_inverse(script: Any) -> None:
    for log in (False, True):
        found = script.evaluate(
            """(log) => {
              const scale = makeScale({log}, log ? [-2, 1] : [0.01, 10], 40, 700);
              return [scale.place(0.01), scale.place(10), scale.invert(scale.place(0.37))];
            }""",
            log,
        )
        assert found == pytest.approx([40, 700, 0.37])


def test_a_point_without_a_value_is_just_inside_the_lower_end_of_an_axis(script: Any) -> None:
    """Whatever part of the axis is seen."""
    for log, span in ((False, [0, 1]), (False, [5, 6]), (True, [-3, -2])):
        found = script.evaluate(
            """([log, span]) => {
              const up = makeScale({log}, span, 400, 10);
              return [up.place(null), makeScale({log}, span, 50, 700).place(null)];
            }""",
            [log, span],
        )
        assert found == [394, 56]
    box = {"kind": "box", "corners": [[-9, -9], [9, 9]]}
    lasso = {"kind": "lasso", "corners": [[-9, -9], [9, -9], [9, 9], [-9, 9]]}
    for region in (box, lasso):
        inside = "(region) => [makeFilter(region)(1, 0), makeFilter(region)(1, null)]"
        assert script.evaluate(inside, region) == [True, False]


def test_keys_and_table_go_to_random_search_and_failures_after_the_front(script: Any) -> None:
    failures = tuple(
        FailureRecord(digest=f"{n:012x}", values={"latency_ms": 0.3 + n}, reason=HOSTILE)
        for n in range(2)
    )
    beside = BaselinePoint(digest="f" * 12, values={"latency_ms": 0.01, "accuracy": 0.9})
    front = parse_front(front_json(small_space()), "front.json", "default").replace(
        failed=2,
        failures=failures,
        baseline=BaselineRecord(hypervolume=0.03, front=(beside,)),
    )
    shown = frozenset((FAILED, RANDOM_SEARCH))
    drawn = build_payload(front, ScatterView(front.cost, front.quality, shown=shown))
    stops = script.evaluate(
        """(payload) => listStops(payload).map(({ group, index }) =>
             Object.fromEntries(describePoint(payload, group, index)))""",
        drawn,
    )
    ours = [point.digest for point in front.list_front()]
    digests = [member.digest for member in failures]
    assert [stop["architecture"] for stop in stops] == [*ours, beside.digest, *digests]
    assert stops[-3]["mark"] == "random search"
    assert stops[-1]["mark"] == f"failed: {HOSTILE[:300]}"
    assert stops[-1]["accuracy"] == "\N{EN DASH}"
    table = script.evaluate(
        """(payload) => {
          const table = makeTable(payload);
          const rows = [...table.querySelectorAll("tr")].map((row) =>
            [...row.children].map((cell) => cell.textContent));
          return [rows, table.querySelectorAll("img, a").length];
        }""",
        drawn,
    )
    rows, elements = table
    assert rows[0] == ["architecture", "latency", "accuracy", "mark"]
    assert rows[1][3] == "verified (measured)"
    assert rows[-1][0] == digests[-1]
    assert HOSTILE[:300] in rows[-1][3]
    assert elements == 0, "names are texts"
    plain = build_payload(front, ScatterView(front.cost, front.quality))
    head = "(payload) => makeTable(payload).querySelector('tr').children.length"
    assert script.evaluate(head, plain) == 3


def test_values_are_written_as_python_writes_them(script: Any) -> None:
    from app.records.quantities import ACCURACY, LATENCY

    axis = {"scale": LATENCY.scale, "unit": LATENCY.shown_unit}
    for value in (0.0213, 1.5, 12.34, 0.2):
        written = script.evaluate("([axis, value]) => describeValue(axis, value)", [axis, value])
        assert written == LATENCY.show(value)
    axis = {"scale": ACCURACY.scale, "unit": ACCURACY.shown_unit}
    assert script.evaluate("(axis) => describeValue(axis, 0.9725)", axis) == "97.3 %"


def test_the_script_loads_nothing_and_makes_no_html_of_text() -> None:
    script, style = read_script(), read_style()
    for made in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                 "Function(", "fetch(", "XMLHttpRequest", "import(", "import "):  # fmt: skip
        assert made not in script, made
    assert script.count("http") == 1, "the name of SVG alone"
    assert "url(" not in style
    assert "@import" not in style
