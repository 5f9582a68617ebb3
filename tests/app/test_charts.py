"""Charts hold the points, intervals and marks of what they are drawn from, on screen and as SVG."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from app.explorer import architecture_charts, layers
from app.records.searches.front import Front, parse_front
from app.records.searches.trace import Hypervolume
from app.reporting.charts import progress_charts
from app.reporting.charts.chart_style import BLUE, MOST_DRAWN, padded_domain
from app.reporting.charts.front_chart import Emphasis, draw_front
from app.reporting.charts.svg import render_svg
from tests.app.chart_reading import Drawn, by_kind, take_apart
from tests.toys.explored_runs import front_json, small_space

VERIFIED, PREDICTED = "verified (measured)", "predicted"
BEHIND = "evaluated, not on the front"


@pytest.fixture
def front() -> Front:
    return parse_front(front_json(small_space()), "front.json", "default")


def draw(front: Front, **emphasis: Any) -> Drawn:
    return take_apart(draw_front(front, front.cost, front.quality, Emphasis(**emphasis)))


def values(front: Front, name: str, kind: str = "value") -> dict[str, float]:
    scale = front.find_axis(name).scale
    return {p.digest: scale * getattr(p.estimate(name), kind) for p in front.list_front()}


def places(drawn: Drawn, kind: str, axis: str) -> dict[str, float]:
    return {row["digest"]: row[axis] for row in drawn.kinds[kind]}


# -- the front -------------------------------------------------------------------------------------


def test_verified_and_predicted_marks_are_where_the_file_says(front: Front) -> None:
    drawn = draw(front)
    for kind, key in ((VERIFIED, "value"), (PREDICTED, "predicted")):
        latencies, accuracies = (values(front, o.name, key) for o in (front.cost, front.quality))
        assert places(drawn, kind, "across") == pytest.approx(latencies)
        assert places(drawn, kind, "up") == pytest.approx(accuracies)
    encoding = drawn.one("point").encoding
    assert (encoding["x"]["field"], encoding["y"]["field"]) == ("across", "up")


def test_intervals_are_drawn_along_both_axes(front: Front) -> None:
    plain = [rule for rule in draw(front).all("rule") if "across_end" not in rule.rows[0]]
    along = {rule.encoding["x2"]["field"] if "x2" in rule.encoding else "up": rule
             for rule in plain}  # fmt: skip
    for key, name, channel in (("high", "latency_ms", "x"), ("up", "accuracy", "y")):
        rule, scale = along[key], front.find_axis(name).scale
        assert rule.encoding[f"{channel}2"]["field"] == "high"
        ends = sorted((row["low"], row["high"]) for row in rule.rows)
        estimates = [p.estimate(name) for p in front.list_front()]
        expected = sorted((scale * e.low, scale * e.high) for e in estimates)
        assert [end for pair in ends for end in pair] == pytest.approx(
            [end for pair in expected for end in pair]
        )


def test_a_line_joins_every_pair(front: Front) -> None:
    (joins,) = [rule for rule in draw(front).all("rule") if "across_end" in rule.rows[0]]
    assert len(joins.rows) == len(front.list_front())
    for row in joins.rows:
        estimate = front.find_point(row["digest"]).estimate("latency_ms")
        assert (row["across"], row["across_end"]) == (estimate.predicted, estimate.value)
    assert joins.encoding["x2"]["field"] == "across_end"
    assert joins.encoding["y2"]["field"] == "up_end"


def test_the_stairs_rise_through_the_verified_points(front: Front) -> None:
    (stairs,) = draw(front).all("line")
    assert stairs.mark["interpolate"] == "step-after"
    assert stairs.column("x") == sorted(values(front, "latency_ms").values())
    # What a budget of accuracy buys is no staircase of accuracies.
    turned = take_apart(draw_front(front, front.quality, front.cost))
    assert turned.all("line") == []


def test_points_behind_the_front_come_on_demand(front: Front) -> None:
    assert BEHIND not in draw(front).kinds
    behind = draw(front, behind=True).kinds[BEHIND]
    assert {row["digest"] for row in behind} == {p.digest for p in front.points if not p.on_front}


def test_points_within_noise_have_a_mark_of_their_own(front: Front) -> None:
    hidden = [p.digest for p in front.points if not p.on_front]
    points = tuple(p.replace(indistinguishable=p.digest in hidden[:3]) for p in front.points)
    kinds = draw(front.replace(points=points), behind=True).kinds
    assert {row["digest"] for row in kinds["behind by less than noise"]} == set(hidden[:3])
    assert {row["digest"] for row in kinds[BEHIND]} == set(hidden[3:])


def test_chosen_compared_and_budget_are_marked(front: Front) -> None:
    first, second = front.list_front()[:2]
    drawn = draw(front, chosen=first.digest, compared=second.digest, budget=0.2)
    assert list(places(drawn, "chosen", "across")) == [first.digest]
    assert list(places(drawn, "compared", "across")) == [second.digest]
    (budget,) = [r for r in drawn.all("rule") if "label" in r.rows[0]]
    assert budget.column("x") == [pytest.approx(0.2)]
    assert drawn.one("text").column("text") == ["budget"]
    other = draw_front(front, front.find_axis("macs"), front.quality, Emphasis(budget=0.2))
    assert take_apart(other).all("text") == []


def test_rings_are_drawn_above_everything_and_named_first(front: Front) -> None:
    drawn = draw(front, chosen=front.list_front()[1].digest, behind=True)
    marks = drawn.one("point")
    assert drawn.layers[-1] is marks
    assert list(by_kind(marks.rows)) == [BEHIND, PREDICTED, VERIFIED, "chosen"]
    scales = {channel: marks.encoding[channel]["scale"] for channel in
              ("fill", "stroke", "shape", "size", "opacity")}  # fmt: skip
    legend = ["chosen", VERIFIED, PREDICTED, BEHIND]
    assert all(scale["domain"] == legend for scale in scales.values())
    looks = set(zip(*(scale["range"] for scale in scales.values()), strict=True))
    assert len(looks) == len(legend), "kinds differ in more than their names"
    assert len(set(zip(scales["shape"]["range"], scales["size"]["range"], strict=True))) == 4, (
        "and without their colours too"
    )


def test_axes_carry_units_and_reach_over_everything_but_predictions(front: Front) -> None:
    drawn = draw(front, behind=True, budget=0.5)
    assert drawn.titles("x") == {"latency (ms)"}
    assert drawn.titles("y") == {"accuracy (%)"}
    scale = drawn.one("point").encoding["x"]["scale"]
    low, high = scale["domain"]
    assert low < min(p.estimate("latency_ms").low or 9 for p in front.list_front())
    assert high > 0.5
    assert scale["clamp"] is True, "a prediction outside is drawn at the edge"
    wild = front.points[0].estimate("latency_ms").replace(predicted=1e9)
    estimates = {**front.points[0].estimates, "latency_ms": wild}
    first = front.points[0].replace(estimates=estimates)
    assert first.on_front
    far = draw(front.replace(points=(first, *front.points[1:])), behind=True, budget=0.5)
    assert far.one("point").encoding["x"]["scale"]["domain"] == scale["domain"]
    assert places(far, PREDICTED, "across")[first.digest] == 1e9
    assert any(row["across_text"].endswith("ms") for row in far.kinds[PREDICTED])


def test_hovering_tells_values_and_where_they_come_from(front: Front) -> None:
    marks = draw(front).one("point")
    titles = {entry["field"]: entry["title"] for entry in marks.encoding["tooltip"]}
    assert titles == {"digest": "architecture", "across_text": "latency", "up_text": "accuracy",
                      "kind": "mark"}  # fmt: skip
    row = next(r for r in marks.rows if r["kind"] == VERIFIED)
    point = front.find_point(row["digest"])
    assert row["across_text"] == f"{front.cost.show(point.best('latency_ms'))} (measured)"
    assert row["up_text"] == f"{front.quality.show(point.best('accuracy'))} (evaluated)"


def test_other_fronts_are_drawn_beside_it(front: Front) -> None:
    other = parse_front(front_json(small_space(), seed=4), "front.json", "other")
    drawn = draw(front, others=[("other run", other)])
    expected = {p.digest for p in other.list_front()}
    assert {row["digest"] for row in drawn.kinds["other run"]} == expected
    dotted = [line for line in drawn.all("line") if "strokeDash" in line.mark]
    assert [len(line.rows) for line in dotted] == [len(expected)]


def test_axes_without_any_point_leave_an_empty_chart(front: Front) -> None:
    drawn = draw_front(front, front.find_axis("unknown"), front.quality, Emphasis(behind=True))
    assert take_apart(drawn).one("point").rows == []
    assert "unknown" in render_svg(drawn, "empty")


def test_thousands_of_points_are_thinned_out_but_not_those_that_matter() -> None:
    front = parse_front(front_json(small_space(), count=4000), "front.json", "default")
    behind = [p for p in front.points if not p.on_front]
    assert len(behind) > 3 * MOST_DRAWN
    chosen, compared = behind[7].digest, behind[100].digest
    drawn = draw(front, behind=True, chosen=chosen, compared=compared)
    (name,) = [kind for kind in drawn.kinds if kind.startswith(BEHIND)]
    cloud = drawn.kinds[name]
    assert MOST_DRAWN <= len(cloud) <= MOST_DRAWN + 2
    assert name == f"{BEHIND} ({len(cloud):,} of {len(behind):,} drawn)"
    assert {chosen, compared} <= {row["digest"] for row in cloud}
    assert {p.digest for p in front.list_front()} == set(places(drawn, VERIFIED, "up"))
    drawn_latencies = sorted(row["across"] for row in cloud)
    latencies = sorted(p.best("latency_ms") or 0 for p in behind)
    for share in (0.1, 0.5, 0.9):
        wanted = latencies[int(share * len(latencies))]
        found = drawn_latencies[int(share * len(drawn_latencies))]
        assert found == pytest.approx(wanted, rel=0.02), "the cloud keeps its shape"


# -- single architectures --------------------------------------------------------------------------


def test_the_breakdown_adds_up(front: Front) -> None:
    first, second = front.list_front()[0], front.list_front()[-1]
    bars = by_kind(take_apart(architecture_charts.draw_breakdown(first, second)).one("bar").rows)
    for kind, point in (("chosen", first), ("compared", second)):
        found = {row["unit"]: row["latency"] for row in bars[kind]}
        assert found == pytest.approx(dict(point.breakdown))
    alone = take_apart(architecture_charts.draw_breakdown(first)).one("bar")
    assert set(by_kind(alone.rows)) == {"chosen"}
    assert "yOffset" not in alone.encoding


def test_units_of_the_compared_one_stand_where_they_belong() -> None:
    longer = ["stem", "a.0", "a.1", "b.0", "b.1", "head"]
    assert architecture_charts.merge_units([["stem", "a.0", "b.0", "head"], longer]) == longer
    assert architecture_charts.merge_units([["x"], ["y", "x", "z"]]) == ["y", "x", "z"]


def test_the_genome_frames_the_chosen_column(front: Front) -> None:
    members = front.list_front()
    space = small_space()
    genome = layers.line_up(space, members)
    drawn = take_apart(architecture_charts.draw_genomes(genome, front, members[3].digest))
    cells, frame = drawn.all("rect")
    assert frame.column("x") == [3]
    assert cells.encoding["y"]["scale"]["domain"] == list(space.names)
    found = {(row["digest"], row["choice"]): row["value"] for row in cells.rows}
    assert found == {(p.digest, name): str(value) for p in members
                     for name, value in p.choices.items()}  # fmt: skip
    shares = {row["value"]: row["share"] for row in cells.rows if row["choice"] == "resolution"}
    assert shares == {"6": 0.0, "8": 1.0}
    labels = cells.encoding["x"]["axis"]["labelExpr"]
    assert front.cost.show(members[0].best("latency_ms")) in labels


# -- how the search went ---------------------------------------------------------------------------


def test_progress_keeps_every_step_and_drops_what_stays() -> None:
    trace = [Hypervolume(n, float(n // 100), float(n // 300)) for n in range(1, 2001)]
    drawn = take_apart(progress_charts.draw_hypervolume(trace))
    line = drawn.one("line")
    assert line.mark["interpolate"] == "step-after"
    steps = by_kind(line.rows)
    ours = [(row["evaluations"], row["hypervolume"]) for row in steps["this search"]]
    assert ours == [(1, 0.0), *((100 * n, float(n)) for n in range(1, 21))]
    assert [row["evaluations"] for row in steps["random search"]] == [
        1, 300, 600, 900, 1200, 1500, 1800, 2000,
    ]  # fmt: skip
    assert line.encoding["color"]["legend"] is not None
    assert line.encoding["strokeDash"]["legend"] is not None
    marks = drawn.one("circle")
    assert [row["evaluations"] for row in by_kind(marks.rows)["random search"]][-1] == 1800


def test_one_trace_needs_no_legend_and_none_no_data() -> None:
    alone = take_apart(
        progress_charts.draw_hypervolume([Hypervolume(10, 0.1), Hypervolume(20, 0.3)])
    )
    line = alone.one("line")
    assert (line.column("x"), line.column("y")) == ([10, 20], [0.1, 0.3])
    assert line.encoding["color"]["legend"] is None
    assert "<svg" in render_svg(progress_charts.draw_hypervolume([]), "empty")


def test_parity_and_learning_curve(front: Front) -> None:
    chart = progress_charts.draw_parity(front, front.quality)
    assert chart is not None
    drawn = take_apart(chart)
    found = {row["digest"]: (row["x"], row["y"]) for row in drawn.one("circle").rows}
    estimates = {p.digest: p.estimate("accuracy") for p in front.points}
    assert {d: pair[1] for d, pair in found.items()} == pytest.approx(
        {d: 100 * (e.value or 0) for d, e in estimates.items()}
    )
    assert {d: pair[0] for d, pair in found.items()} == pytest.approx(
        {d: 100 * (e.predicted or 0) for d, e in estimates.items()}
    )
    # The same words as on every other screen.
    assert drawn.titles("y") == {"evaluated accuracy (%)"}
    (diagonal,) = drawn.all("rule")
    assert diagonal.encoding["x"]["field"] == diagonal.encoding["y"]["field"] == "low"
    assert progress_charts.draw_parity(front, front.find_axis("macs")) is None

    curve = take_apart(progress_charts.draw_learning_curve([[12, 0.5], [24, 0.7]]))
    assert (curve.one("line").column("x"), curve.one("line").column("y")) == ([12, 24], [0.5, 0.7])
    assert curve.one("rule").column("y") == [0.9]


# -- pictures --------------------------------------------------------------------------------------


def marks_in(svg: str, **attributes: str) -> list[ElementTree.Element]:
    found = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")
    return [e for e in found if all(e.get(k.replace("_", "-")) == v for k, v in attributes.items())]


def test_the_picture_is_svg_with_every_point(front: Front) -> None:
    chosen = front.list_front()[2]
    chart = draw_front(
        front, front.cost, front.quality, Emphasis(chosen=chosen.digest, behind=True)
    )
    svg = render_svg(chart, "A <b> & c", subtitle="below")
    verified = marks_in(svg, aria_roledescription="point", fill=BLUE)
    assert {mark.get("aria-label") for mark in verified} == {p.digest for p in front.list_front()}
    points = marks_in(svg, aria_roledescription="point")
    assert {mark.get("aria-label") for mark in points} == {p.digest for p in front.points}
    root = ElementTree.fromstring(svg)
    assert (root.get("width"), root.get("height"), root.get("role")) == ("760", "440", "img")
    assert root.findtext("{http://www.w3.org/2000/svg}title") == "A <b> & c"
    assert "A &lt;b&gt; &amp; c" in svg
    assert "below" in svg
    assert len(svg) < 100_000


def test_left_is_cheaper_and_up_is_better(front: Front) -> None:
    svg = render_svg(draw_front(front, front.cost, front.quality), "t")
    centres = {}
    for mark in marks_in(svg, aria_roledescription="point", fill=BLUE):
        across, down = (mark.get("transform") or "").removeprefix("translate(")[:-1].split(",")
        centres[mark.get("aria-label")] = (float(across), float(down))
    ordered = [p.digest for p in front.list_front()]
    assert sorted(ordered, key=lambda d: centres[d][0]) == ordered
    best = max(front.list_front(), key=lambda p: p.best("accuracy") or 0)
    assert min(centres, key=lambda d: centres[d][1]) == best.digest


def test_hostile_names_stay_text(front: Front) -> None:
    name = "\"><script>alert(1)</script> & ]]> ' datum.kind"
    other = parse_front(front_json(small_space(), seed=4), "front.json", "other")
    hostile = front.list_front()[0].replace(digest=name)
    points = (hostile, *(p for p in front.points if p.digest != front.list_front()[0].digest))
    chart = draw_front(
        front.replace(points=points), front.cost, front.quality, Emphasis(others=[(name, other)])
    )
    svg = render_svg(chart, name)
    root = ElementTree.fromstring(svg)
    assert not [e for e in root.iter() if e.tag.endswith("script")]
    texts = [e.text for e in root.iter() if e.text]
    assert name in texts, "in the legend as it is"
    assert name in {e.get("aria-label") for e in root.iter()}


def test_a_picture_is_the_same_in_another_process(front: Front) -> None:
    program = (
        "import hashlib\n"
        "from app.records.searches.front import parse_front\n"
        "from app.reporting.charts.front_chart import Emphasis, draw_front\n"
        "from app.reporting.charts.svg import render_svg\n"
        "from tests.toys.explored_runs import front_json, small_space\n"
        "front = parse_front(front_json(small_space()), 'front.json', 'default')\n"
        "chart = draw_front(front, front.cost, front.quality, Emphasis(behind=True))\n"
        "print(hashlib.sha256(render_svg(chart, 't').encode()).hexdigest())\n"
    )
    there = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    chart = draw_front(front, front.cost, front.quality, Emphasis(behind=True))
    here = hashlib.sha256(render_svg(chart, "t").encode()).hexdigest()
    assert there.stdout.strip() == here


def test_a_picture_takes_no_data_from_elsewhere(front: Front) -> None:
    import altair as alt

    elsewhere = alt.Chart(alt.UrlData("http://127.0.0.1:9/x.json")).mark_point().encode(x="x:Q")
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        render_svg(alt.layer(elsewhere), "t")


def test_a_front_of_one_point_can_be_drawn() -> None:
    payload = front_json(small_space())
    payload["points"] = payload["points"][:1]
    front = parse_front(payload, "front.json", "default")
    svg = render_svg(draw_front(front, front.cost, front.quality), "one")
    assert len(marks_in(svg, aria_roledescription="point", fill=BLUE)) == 1


@pytest.mark.parametrize("ends", [(0.1, 0.3), (5.0, 5.0), (0.0, 0.0), (-3.0, -1.0)])
def test_a_domain_leaves_room_at_both_ends(ends: tuple[float, float]) -> None:
    low, high = padded_domain(list(ends))
    assert low < ends[0] <= ends[1] < high
    assert padded_domain([]) == pytest.approx((-0.05, 1.05))


def test_drawing_is_not_loaded_by_commands_that_draw_nothing() -> None:
    program = (
        "import sys, app.commands.main, app.jobs.audit, app.jobs.report, app.jobs.quickstart\n"
        "print([name for name in ('altair', 'vl_convert') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert ran.stdout.strip() == "[]"
