"""What the script of the interactive chart is given: which points, where, and what is said."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.records.quantities import find_stored_quantity
from app.records.searches import picking
from app.records.searches.front import Front, parse_front
from app.records.searches.front_extras import BaselinePoint, BaselineRecord, FailureRecord
from app.reporting.scatter.payload import build_payload
from app.reporting.scatter.places import reach
from app.reporting.scatter.view import (
    CLOSE,
    DOMINATED,
    EVALUATED,
    FAILED,
    INTERVALS,
    KNEE,
    MOST_DRAWN,
    OUTSIDE,
    PREDICTED,
    RANDOM_SEARCH,
    Reference,
    ScatterView,
)
from tests.toys.explored_runs import front_json, small_space

ALL = frozenset((CLOSE, DOMINATED, OUTSIDE, PREDICTED, INTERVALS, KNEE))


def make_front(count: int = 60, **changes: Any) -> Front:
    front = parse_front(front_json(small_space(), count=count), "front.json", "default")
    return front.replace(**changes) if changes else front


@pytest.fixture(scope="module")
def front() -> Front:
    return make_front()


def view(front: Front, **entries: Any) -> ScatterView:
    return ScatterView(**{"x": front.cost, "y": front.quality, **entries})


def groups(payload: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {group["kind"]: group for group in payload["groups"]}


def ids(payload: dict[str, Any], kind: str) -> set[str]:
    return set(groups(payload).get(kind, {"ids": []})["ids"])


# -- which points ----------------------------------------------------------------------------------


def test_points_are_where_they_were_found_and_say_so(front: Front) -> None:
    drawn = groups(build_payload(front, view(front)))["verified"]
    assert set(drawn["ids"]) == {p.digest for p in front.list_front()}
    for n, digest in enumerate(drawn["ids"]):
        point = front.find_point(digest)
        latency, accuracy = point.estimate("latency_ms"), point.estimate("accuracy")
        assert drawn["x"][n] == pytest.approx(latency.value, rel=1e-6)
        assert drawn["y"][n] == pytest.approx(accuracy.value, rel=1e-6)
        assert drawn["x_low"][n] == pytest.approx(latency.low, rel=1e-6)
        assert drawn["y_high"][n] == pytest.approx(accuracy.high, rel=1e-6)
        said = front.cost.show(latency.value)
        ends = f"{front.cost.show(latency.low)} to {front.cost.show(latency.high)}"
        assert drawn["texts"][0][n] == f"{said} ({ends}, measured)"
    assert drawn["x"] == sorted(drawn["x"])


def test_what_lies_behind_is_shown_on_demand_and_each_point_once(front: Front) -> None:
    behind = [p.digest for p in front.points if not p.on_front]
    close, outside = behind[:4], behind[4:7]
    points = tuple(
        p.replace(
            indistinguishable=p.digest in close,
            within_limits=False if p.digest in outside else None,
        )
        for p in front.points
    )
    marked = front.replace(points=points)
    alone = build_payload(marked, view(marked, shown=frozenset()))
    assert set(groups(alone)) == {"verified"}
    payload = build_payload(marked, view(marked, shown=ALL))
    assert ids(payload, CLOSE) == set(close)
    assert ids(payload, OUTSIDE) == set(outside)
    assert ids(payload, DOMINATED) == set(behind) - set(close) - set(outside)
    everything = [i for g in payload["groups"] if not g["marks"] for i in g["ids"]]
    predicted = groups(payload)[PREDICTED]["ids"]
    assert len(everything) - len(predicted) == len(front.points)


def test_the_cloud_is_quieter_than_the_front(front: Front) -> None:
    points = tuple(
        p.replace(indistinguishable=True) if n % 2 and not p.on_front else p
        for n, p in enumerate(front.points)
    )
    drawn = groups(
        build_payload(
            front.replace(points=points), view(front, shown=frozenset((CLOSE, DOMINATED)))
        )
    )
    for kind in (CLOSE, DOMINATED):
        assert drawn[kind]["radius"] < drawn["verified"]["radius"]
        assert drawn[kind]["opacity"] < drawn["verified"]["opacity"]
        assert drawn[kind]["color"] != drawn["verified"]["color"]


def test_predictions_are_joined_with_what_was_found(front: Front) -> None:
    payload = build_payload(front, view(front, shown=frozenset((PREDICTED,))))
    drawn, joins = groups(payload)[PREDICTED], payload["joins"]
    assert (joins["x"], joins["y"]) == (drawn["x"], drawn["y"])
    for n, digest in enumerate(drawn["ids"]):
        point = front.find_point(digest)
        assert drawn["x"][n] == pytest.approx(point.estimate("latency_ms").predicted, rel=1e-6)
        assert joins["y_end"][n] == pytest.approx(point.estimate("accuracy").value, rel=1e-6)
    assert build_payload(front, view(front))["joins"] is None


def test_chosen_compared_and_knee_are_marked_wherever_they_are(front: Front) -> None:
    hidden = next(p.digest for p in front.points if not p.on_front)
    other = front.list_front()[1].digest
    payload = build_payload(front, view(front, chosen=hidden, compared=(other, "0" * 12)))
    assert ids(payload, "chosen") == {hidden}
    assert ids(payload, "compared") == {other}
    knee = picking.pick_knee(front)
    assert knee is not None
    assert ids(payload, KNEE) == {knee.digest}
    assert not ids(payload, DOMINATED) - {hidden}


def test_of_many_points_those_that_matter_are_drawn() -> None:
    front = make_front(4000)
    behind = [p.digest for p in front.points if not p.on_front]
    kept = np.zeros(len(front.points), dtype=np.bool_)
    selected = np.flatnonzero(~front.on_front)[100:140]
    kept[selected] = True
    chosen = behind[-1]
    payload = build_payload(front, view(front, shown=ALL, most=300, kept=kept, chosen=chosen))
    drawn = {i for g in payload["groups"] if g["kind"] != PREDICTED for i in g["ids"]}
    assert len(drawn) == 300
    assert {p.digest for p in front.list_front()} <= drawn
    assert {chosen, *front.digests[selected].tolist()} <= drawn
    assert f"300 of {len(front.points):,} points are drawn." in payload["notes"]
    across = sorted(groups(payload)[DOMINATED]["x"])
    everything = np.sort(front.column("latency_ms").best[~front.on_front])
    for share in (0.25, 0.5, 0.75):
        place = np.quantile(across, share)
        assert place == pytest.approx(np.quantile(everything, share), rel=0.15), "the cloud's shape"


def test_more_front_points_than_fit_are_thinned_out_evenly() -> None:
    front = make_front(400)
    front = front.replace(points=tuple(p.replace(on_front=True) for p in front.points))
    payload = build_payload(front, view(front, most=50))
    drawn = [x for g in payload["groups"] if g["front"] for x in g["x"]]
    assert len(drawn) == 50
    assert min(drawn) == pytest.approx(front.column("latency_ms").best.min(), rel=1e-6)


def test_points_left_out_by_filters_are_faint(front: Front) -> None:
    kept = front.column("latency_ms").best < 0.1
    payload = build_payload(front, view(front, kept=kept))
    drawn = groups(payload)["verified"]
    faint = {drawn["ids"][n] for n in drawn["faint"]}
    assert faint == {p.digest for p in front.list_front() if (p.best("latency_ms") or 0) >= 0.1}
    assert 0 < len(faint) < len(drawn["ids"])


def expect(front: Front, by: float) -> Front:
    """The front with an expected accuracy that is lower than each evaluated one."""
    points = []
    for point in front.points:
        found = point.estimate("accuracy")
        assert found.value is not None
        posterior = found.value - by
        known = found.replace(
            posterior=posterior, posterior_low=posterior - 0.01, posterior_high=posterior + 0.02
        )
        points.append(point.replace(estimates={**point.estimates, "accuracy": known}))
    return front.replace(points=tuple(points))


def test_points_are_where_they_are_expected_and_their_own_evaluation_is_shown(front: Front) -> None:
    expected = expect(front, 0.005)
    payload = build_payload(expected, view(expected, shown=frozenset((EVALUATED, INTERVALS))))
    drawn, alone = groups(payload)["verified"], groups(payload)[EVALUATED]
    assert alone["ids"] == drawn["ids"]
    for n, digest in enumerate(drawn["ids"]):
        value = front.find_point(digest).estimate("accuracy").value
        assert value is not None
        assert drawn["y"][n] == pytest.approx(value - 0.005, rel=1e-6)
        assert drawn["y_low"][n] == pytest.approx(value - 0.015, rel=1e-6)
        assert drawn["y_high"][n] == pytest.approx(value + 0.015, rel=1e-6)
        assert alone["y"][n] == pytest.approx(value, rel=1e-6)
        ends = (front.quality.show(value + by) for by in (-0.015, 0.015))
        said = f"{' to '.join(ends)}, expected; {front.quality.show(value)} evaluated)"
        assert drawn["texts"][1][n].endswith(said)
    behind = groups(build_payload(expected, view(expected, shown=ALL)))[DOMINATED]
    assert all(text.endswith("(expected)") for text in behind["texts"][1])
    # Without anything but evaluations they are not drawn twice.
    plain = build_payload(front, view(front, shown=frozenset((EVALUATED,))))
    assert EVALUATED not in groups(plain)


# -- networks that are no points of the front ------------------------------------------------------


def add_random(front: Front, count: int) -> Front:
    """The front beside that of a random search, which is worse by two points."""
    members = tuple(
        BaselinePoint(
            digest=f"{n:012x}",
            values={"latency_ms": 0.1 + 0.01 * n, "accuracy": 0.9 + 0.0001 * n, "macs": 1e5 * n},
        )
        for n in range(count)
    )
    return front.replace(baseline=BaselineRecord(hypervolume=0.03, front=members))


def fail(front: Front, count: int, **changes: Any) -> Front:
    """The front after evaluations that failed, the second without any known cost."""
    failures = tuple(
        FailureRecord(
            digest=f"{n:012x}",
            values={} if n == 1 else {"latency_ms": 0.5 + 0.001 * n, "macs": 1e5 * (n + 1)},
            reason=f"RuntimeError: <b>shape</b> {n} $x$ [l](http://a)",
        )
        for n in range(count)
    )
    return front.replace(**{"failed": count, "failures": failures, **changes})


def test_the_front_of_random_search_is_a_quiet_series_of_its_own(front: Front) -> None:
    beside = add_random(front, 5)
    assert RANDOM_SEARCH not in groups(build_payload(beside, view(beside)))
    payload = build_payload(beside, view(beside, shown=frozenset((RANDOM_SEARCH,))))
    drawn, ours = groups(payload)[RANDOM_SEARCH], groups(payload)["verified"]
    assert (drawn["name"], drawn["listed"], drawn["front"]) == ("random search", True, False)
    assert drawn["x"] == pytest.approx([0.1, 0.11, 0.12, 0.13, 0.14])
    assert drawn["y"] == pytest.approx([0.9, 0.9001, 0.9002, 0.9003, 0.9004])
    assert drawn["names"] == [f"{n:012x}" for n in range(5)]
    assert set(drawn["ids"]) == {""}, "none is a point, so that a click chooses nothing"
    assert drawn["texts"][0][0] == front.cost.show(0.1)
    assert drawn["radius"] < ours["radius"]
    assert drawn["color"] != ours["color"]
    assert [line["name"] for line in payload["lines"]] == [
        "reached within a budget", "random search",
    ]  # fmt: skip
    # What the chart opens with is the search's own front.
    assert (
        payload["x"]["domain"]
        == build_payload(front, view(front, shown=frozenset()))["x"]["domain"]
    )


def test_a_click_on_random_search_chooses_what_is_a_point_of_the_search(front: Front) -> None:
    behind = next(p for p in front.points if not p.on_front)
    values = {name: behind.best(name) for name in ("latency_ms", "accuracy")}
    both = (
        BaselinePoint(digest=behind.digest, values=values),
        BaselinePoint(digest="f" * 12, values={"latency_ms": 1e3, "accuracy": 0.5}),
    )
    beside = front.replace(baseline=BaselineRecord(hypervolume=0.03, front=both))
    shown = frozenset((RANDOM_SEARCH, DOMINATED))
    drawn = groups(build_payload(beside, view(beside, shown=shown)))
    # The mark of random search hides the point, which is clicked all the same.
    kinds = list(drawn)
    assert kinds.index(RANDOM_SEARCH) < kinds.index(DOMINATED)
    assert behind.digest in drawn[DOMINATED]["ids"]
    assert drawn[RANDOM_SEARCH]["ids"] == [behind.digest, ""]
    assert drawn[RANDOM_SEARCH]["names"] == [behind.digest, "f" * 12]


def test_random_search_without_a_place_is_counted(front: Front) -> None:
    beside = add_random(front, 5)
    shown = view(beside, x=front.find_axis("size_bytes"), shown=frozenset((RANDOM_SEARCH,)))
    payload = build_payload(beside, shown)
    assert RANDOM_SEARCH not in groups(payload)
    assert payload["notes"] == ["Of the front of random search, 0 of 5 networks are drawn."]
    older = front.replace(baseline=BaselineRecord(hypervolume=0.03))
    nothing = build_payload(older, view(older, shown=frozenset((RANDOM_SEARCH,))))
    assert (nothing["notes"], RANDOM_SEARCH in groups(nothing)) == ([], False)


def test_failed_evaluations_lie_at_their_cost_on_the_lower_edge(front: Front) -> None:
    failed = fail(front, 4)
    payload = build_payload(failed, view(failed, shown=frozenset((FAILED,))))
    drawn = groups(payload)[FAILED]
    assert drawn["x"] == pytest.approx([0.5, 0.502, 0.503])
    assert drawn["y"] == [None, None, None]
    assert drawn["names"] == [failed.failures[n].digest for n in (0, 2, 3)]
    assert drawn["reasons"] == [failed.failures[n].reason for n in (0, 2, 3)], "texts, as they are"
    assert drawn["texts"] == [
        [front.cost.show(x) for x in (0.5, 0.502, 0.503)], ["\N{EN DASH}"] * 3,
    ]  # fmt: skip
    assert drawn["opacity"] < 1
    assert payload["notes"] == [
        "3 failed evaluations are drawn, at the edge where a value is not known.",
        "1 evaluation failed and has no place.",
    ]
    json.dumps(payload, allow_nan=False)
    hidden = build_payload(failed, view(failed))
    assert FAILED not in groups(hidden)
    assert hidden["notes"] == []


def test_failed_evaluations_have_a_place_where_both_axes_are_costs(front: Front) -> None:
    failed = fail(front, 3)
    macs = front.find_axis("macs")
    both = groups(build_payload(failed, view(failed, y=macs, shown=frozenset((FAILED,)))))[FAILED]
    assert both["y"] == pytest.approx([1e5, 3e5])
    turned = ScatterView(front.quality, front.cost, color=macs, shown=frozenset((FAILED,)))
    aside = groups(build_payload(failed, turned))[FAILED]
    assert aside["x"] == [None, None]
    assert aside["y"] == pytest.approx([0.5, 0.502])
    assert aside["texts"][2] == [macs.show(1e5), macs.show(3e5)]


def test_failed_evaluations_without_a_positive_cost_have_no_place_on_a_logarithmic_axis(
    front: Front,
) -> None:
    none = FailureRecord(digest="0" * 12, values={"latency_ms": 0.0}, reason="")
    failed = front.replace(failed=1, failures=(none,))
    payload = build_payload(failed, view(failed, x_log=True, shown=frozenset((FAILED,))))
    assert FAILED not in groups(payload)
    linear = build_payload(failed, view(failed, shown=frozenset((FAILED,))))
    assert groups(linear)[FAILED]["reasons"] == ["the log does not say why"]


def test_no_more_points_are_drawn_than_before_with_everything_shown() -> None:
    crowded = fail(add_random(make_front(9000), 2000), 3000)
    everything = ALL | {FAILED, RANDOM_SEARCH}
    payload = build_payload(crowded, view(crowded, shown=everything - {PREDICTED, KNEE}))
    count = {kind: len(group["x"]) for kind, group in groups(payload).items()}
    assert sum(count.values()) == MOST_DRAWN == 5000
    assert count[FAILED] == count[RANDOM_SEARCH] == 500
    across = [x for x in groups(payload)[FAILED]["x"] if x is not None]
    assert across == sorted(across)
    assert across[-1] > 0.5 + 0.001 * 2990, "spread evenly"
    drawn = 4000
    assert payload["notes"] == [
        f"{drawn:,} of {len(crowded.points):,} points are drawn.",
        "500 failed evaluations are drawn, at the edge where a value is not known, and 2,499 more "
        "are left out.",
        "1 evaluation failed and has no place.",
        "Of the front of random search, 500 of 2,000 networks are drawn.",
    ]


# -- values that have no place ---------------------------------------------------------------------


def change_latency(front: Front, value: float | None, count: int) -> Front:
    """The first points with another latency, measured and predicted."""
    points = list(front.points)
    for n in range(count):
        estimate = (
            points[n]
            .estimate("latency_ms")
            .replace(value=value, predicted=value, low=None, high=None)
        )
        points[n] = points[n].replace(estimates={**points[n].estimates, "latency_ms": estimate})
    return front.replace(points=tuple(points))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_logarithmic_axis_leaves_out_what_it_has_no_place_for(front: Front, value: float) -> None:
    changed = change_latency(front, value, 3)
    linear = build_payload(changed, view(changed, shown=ALL))
    assert linear["notes"] == []
    payload = build_payload(changed, view(changed, shown=ALL, x_log=True))
    gone = {p.digest for p in changed.points[:3]}
    assert not gone & {i for g in payload["groups"] for i in g["ids"]}
    assert payload["notes"] == [
        "3 points have no place on a logarithmic axis: their value is 0 or less."
    ]
    assert all(x > 0 for g in payload["groups"] for x in g["x"])
    assert payload["x"]["domain"][0] > 0


def test_points_that_lack_a_value_are_counted(front: Front) -> None:
    changed = change_latency(front, None, 1)
    payload = build_payload(changed, view(changed))
    assert payload["notes"] == ["1 point lacks one of the two values."]
    failed = changed.replace(failed=2)
    shown = build_payload(failed, view(failed, shown=frozenset((FAILED,))))
    assert "2 evaluations failed and have no place." in shown["notes"], "an earlier search"


def test_an_axis_that_no_point_has_leaves_an_empty_chart(front: Front) -> None:
    payload = build_payload(front, view(front, x=find_stored_quantity("unheard_of")))
    assert payload["groups"] == []
    assert payload["x"]["domain"] == [0.0, 1.0]
    assert payload["summary"] == "No point of the front has a place on these axes."
    json.dumps(payload, allow_nan=False)


def test_a_front_without_points_and_one_of_one_point() -> None:
    front = make_front()
    empty = front.replace(points=())
    payload = build_payload(empty, view(empty, shown=ALL, x_log=True))
    assert payload["groups"] == []
    single = front.replace(points=front.list_front()[:1])
    payload = build_payload(single, view(single))
    low, high = payload["x"]["domain"]
    (x,) = groups(payload)["verified"]["x"]
    assert low < x < high
    assert payload["lines"] == []


@given(
    st.lists(st.floats(-1e12, 1e12, allow_nan=False, allow_subnormal=False), max_size=6),
    st.booleans(),
)
def test_an_axis_reaches_over_all_values_and_has_a_length(values: list[float], log: bool) -> None:
    low, high = reach(values, log)
    assert low < high
    assert all(low <= v <= high for v in values if v > 0 or not log)
    assert low > 0 or not log


# -- axes and what can be changed ------------------------------------------------------------------


def test_the_chart_opens_at_the_front_and_can_show_everything(front: Front) -> None:
    far = Reference("largest", {"latency_ms": 9.0, "accuracy": 0.5})
    payload = build_payload(front, view(front, references=(far,), budgets=(0.2, 0.5)))
    latencies = [p.best("latency_ms") or 0 for p in front.list_front()]
    low, high = payload["x"]["domain"]
    assert low < min(latencies)
    assert max(*latencies, 0.5) < high < 1
    assert payload["x"]["full"][1] > 9
    assert payload["budgets"] == {"axis": "x", "label": "latency budget", "values": [0.2, 0.5]}
    drawn = groups(payload)["reference"]
    assert (drawn["written"], drawn["x"], drawn["ids"]) == ("largest", [9.0], [""])


def test_budgets_follow_the_cost_to_the_axis_that_it_is_on(front: Front) -> None:
    turned = ScatterView(front.quality, front.cost, budgets=(0.2,))
    found = build_payload(front, turned)["budgets"]
    assert found is not None
    assert found["axis"] == "y"
    elsewhere = view(front, x=front.find_axis("macs"), budgets=(0.2,))
    assert build_payload(front, elsewhere)["budgets"] is None


def test_a_region_is_drawn_over_its_own_axes_only(front: Front) -> None:
    region = {"kind": "box", "x": "latency_ms", "y": "accuracy",
              "corners": ((0.1, 0.9), (0.2, 0.95)), "x_log": False, "y_log": False}  # fmt: skip
    assert build_payload(front, view(front, region=region))["region"] == {
        **region, "corners": [[0.1, 0.9], [0.2, 0.95]],
    }  # fmt: skip
    other = view(front, x=front.find_axis("macs"), region=region)
    assert build_payload(front, other)["region"] is None


def test_a_third_quantity_colours_points_but_no_rings(front: Front) -> None:
    chosen = front.list_front()[0].digest
    macs = front.find_axis("macs")
    payload = build_payload(front, view(front, color=macs, shown=ALL, chosen=chosen))
    drawn = groups(payload)["verified"]
    expected = [front.find_point(digest).counts["macs"] for digest in drawn["ids"]]
    assert drawn["shade"] == pytest.approx(expected, rel=1e-6)
    everything = [p.counts["macs"] for p in front.points]
    assert payload["color"]["domain"] == pytest.approx([min(everything), max(everything)])
    assert payload["titles"][-1] == macs.title
    assert len(drawn["texts"]) == 3
    assert "shade" not in groups(payload)["chosen"]
    # A colour may be unknown where a place is not.
    nowhere = build_payload(front, view(front, color=find_stored_quantity("unheard_of"), shown=ALL))
    assert set(groups(nowhere)[DOMINATED]["shade"]) == {None}
    assert set(groups(nowhere)[DOMINATED]["texts"][2]) == {"\N{EN DASH}"}


def test_the_staircase_is_the_best_up_to_each_budget(front: Front) -> None:
    (line,) = build_payload(front, view(front))["lines"]
    assert line["step"] is True
    assert line["y"] == sorted(line["y"])
    members = front.list_front()
    for x, y in zip(line["x"], line["y"], strict=True):
        # Numbers of the payload are rounded.
        budget = x * (1 + 1e-6)
        within = [p.best("accuracy") or 0 for p in members if (p.best("latency_ms") or 9) <= budget]
        assert y == pytest.approx(max(within), rel=1e-6)
    assert build_payload(front, view(front, x=front.quality, y=front.cost))["lines"] == []


def test_other_fronts_are_beside_it_and_cannot_be_chosen(front: Front) -> None:
    other = parse_front(front_json(small_space(), seed=4), "front.json", "other")
    payload = build_payload(front, view(front, others=(("other run", other),)))
    drawn = groups(payload)["other"]
    assert drawn["name"] == "other run"
    assert len(drawn["x"]) == len(other.list_front())
    assert set(drawn["ids"]) == {""}
    assert [line["name"] for line in payload["lines"]] == ["reached within a budget", "other run"]


def test_a_loss_is_better_below() -> None:
    payload = front_json(small_space(), loss=True)
    front = parse_front(payload, "front.json", "default")
    (line,) = build_payload(front, view(front))["lines"]
    assert line["y"] == sorted(line["y"], reverse=True)


def test_numbers_are_short_and_json(front: Front) -> None:
    payload = build_payload(front, view(front, shown=ALL, color=front.find_axis("macs")))
    text = json.dumps(payload, allow_nan=False)
    assert len(text) < 400 * len(front.points)
