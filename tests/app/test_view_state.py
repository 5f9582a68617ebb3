"""What a browser looks at, through its address and back, and what an address cannot make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.analysis.regions import Filter, Region
from app.explorer.views.fitted_state import fit_to_front
from app.explorer.views.view_state import LAYERS, SCREENS, ViewState, read_query, write_query
from app.runs.run_view import load_run
from tests.toys.explored_runs import write_run

# Some libraries make a process flush numbers below 1e-308 to 0.
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
TEXTS = st.text(max_size=20)
CORNERS = st.tuples(NUMBERS, NUMBERS)
ABOVE = st.floats(min_value=1e-300, allow_nan=False, allow_infinity=False)
REGIONS = st.one_of(
    st.builds(Region, TEXTS, TEXTS, st.just("box"), st.tuples(CORNERS, CORNERS)),
    st.builds(
        Region, TEXTS, TEXTS, st.just("lasso"),
        st.lists(st.tuples(ABOVE, ABOVE), min_size=3, max_size=9).map(tuple),
        st.booleans(), st.booleans(),
    ),
)  # fmt: skip
VALUES = st.one_of(st.integers(-(2**53), 2**53), NUMBERS, TEXTS)
FILTERS: st.SearchStrategy[dict[str, Filter]] = st.dictionaries(
    TEXTS, st.one_of(st.tuples(NUMBERS, NUMBERS), st.frozensets(VALUES, max_size=4)), max_size=4
)
SEVERAL = st.lists(TEXTS, max_size=4).map(tuple)
STATES = st.builds(
    ViewState,
    run=TEXTS, device=TEXTS, search=TEXTS, screen=st.sampled_from(SCREENS),
    budgets=st.lists(ABOVE, max_size=4).map(tuple), x=TEXTS, y=TEXTS, color=TEXTS,
    x_log=st.booleans(), y_log=st.booleans(), shown=st.frozensets(st.sampled_from(LAYERS)),
    region=st.none() | REGIONS, filters=FILTERS, chosen=TEXTS, compared=SEVERAL, beside=SEVERAL,
)  # fmt: skip


@given(STATES)
def test_an_address_restores_a_state_exactly(state: ViewState) -> None:
    assert read_query(write_query(state)) == (state, ())


def test_what_is_usual_is_not_in_the_address() -> None:
    assert write_query(ViewState()) == {}
    assert write_query(ViewState(screen="Space", budgets=(0.1, 1 / 3))) == {
        "screen": ["Space"], "budgets": ["0.1", "0.3333333333333333"],
    }  # fmt: skip
    assert write_query(ViewState(shown=frozenset())) == {"shown": ["nothing"]}


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("screen", ["Elsewhere"]),
        ("screen", ["Front", "Space"]),
        ("x_log", ["yes"]),
        ("budgets", ["nan"]),
        ("budgets", ["inf"]),
        ("budgets", ["-1"]),
        ("budgets", ["0"]),
        ("budgets", ["1"] * 65),
        ("shown", ["everything"]),
        ("run", ["x" * 5000]),
        ("region", ["{"]),
        ("region", ['["box","x","y","",[[0,0],[1,NaN]]]']),
        ("region", ['["box","x","y","",[[0,0],[1,1e999]]]']),
        ("region", ['["box","x","y","",[[0,0]]]']),
        ("region", ['["blob","x","y","",[[0,0],[1,1]]]']),
        ("region", ['["box",1,"y","",[[0,0],[1,1]]]']),
        ("region", ['["box","x","y","z",[[0,0],[1,1]]]']),
        ("region", ['["box","x","y","",[["0",0],[1,true]]]']),
        ("region", [json.dumps(["box", "x", "y", "", [[0, 0], [1, int("9" * 400)]]])]),
        ("region", ["[" * 3999]),
        ("filters", ['["depth",1]']),
        ("filters", ['["depth",1,2,3]']),
        ("filters", ['[1,2,3]']),
        ("filters", ['["depth",[null]]']),
        ("filters", ['["depth",[[1]]]']),
        ("filters", ['["depth",1,2]', '["depth",1,3]']),
    ],
)  # fmt: skip
def test_what_means_nothing_is_dropped_and_named(name: str, given: list[str]) -> None:
    state, dropped = read_query({name: given, "chosen": ["0123456789ab"], "other": ["1"]})
    assert dropped == (name,)
    assert state == ViewState(chosen="0123456789ab")


@given(st.dictionaries(st.sampled_from([*write_query(ViewState()), "region", "filters", "budgets",
                                        "shown", "screen", "x_log", "compared"]),
                       st.lists(st.text(max_size=30), max_size=3)))  # fmt: skip
def test_no_address_breaks_the_page(query: dict[str, list[str]]) -> None:
    state, _ = read_query(query)
    assert read_query(write_query(state)) == (state, ())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted") / "digits-run"
    write_run(folder)
    return folder


@pytest.mark.parametrize(
    ("changes", "dropped"),
    [
        ({"x": "size_bytes", "y": "accuracy", "color": "macs", "x_log": True}, set()),
        ({"x": "power", "x_log": True}, {"x", "x_log"}),
        ({"y": "../../etc/passwd"}, {"y"}),
        ({"chosen": "0" * 12}, {"chosen"}),
        ({"compared": ("0" * 12,)}, {"compared"}),
        ({"region": Region("power", "accuracy", "box", ((0, 0), (1, 1)))}, {"region"}),
        ({"filters": {"stage1.depth": (1.0, 2.0), "resolution": frozenset([8])}}, set()),
        ({"filters": {"stage9.depth": (1.0, 2.0)}}, {"filters"}),
        ({"filters": {"stage1.depth": (2.0, 1.0)}}, {"filters"}),
        ({"filters": {"resolution": frozenset([7])}}, {"filters"}),
        ({"filters": {"resolution": frozenset()}}, {"filters"}),
        ({"budgets": (0.1, 0.2)}, set()),
        ({"budgets": (0.1, 1e300)}, {"budgets"}),
        ({"budgets": (0.1, 1e-320)}, {"budgets"}),
    ],
)
def test_what_a_front_does_not_have_is_left_out(
    run: Path, changes: dict[str, Any], dropped: set[str]
) -> None:
    view = load_run(run)
    state = ViewState(**changes)
    fitted, found = fit_to_front(state, view, view.fronts["default"])
    assert set(found) == dropped
    usual = ViewState()
    for name in changes:
        expected = getattr(usual, name) if name in dropped else changes[name]
        # Of several budgets, those that mean something stay.
        assert getattr(fitted, name) == (expected or changes[name][:1] if name == "budgets"
                                         else expected)  # fmt: skip
    assert fit_to_front(fitted, view, view.fronts["default"]) == (fitted, ())


def test_without_a_front_nothing_is_said_of_points(run: Path) -> None:
    view = load_run(run)
    state = ViewState(x="accuracy", budgets=(0.1,), chosen=view.space.smallest.digest)  # type: ignore[union-attr]
    fitted, dropped = fit_to_front(state, view, None)
    assert fitted == ViewState()
    assert set(dropped) == {"x", "budgets", "chosen"}
