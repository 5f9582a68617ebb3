"""Regions and filters against what a person would count by hand, and the angles of sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.analysis.regions import (
    MOST_CORNERS,
    Region,
    find_inside,
    find_passing,
    thin_corners,
)

# Some libraries make a process flush numbers below 1e-308 to 0.
FLOATS = st.floats(-5, 5, allow_subnormal=False)
SQUARE = ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0))


def inside(region: Region, *points: tuple[float, float]) -> list[bool]:
    places = np.array(points, dtype=np.float64)
    return find_inside(region, places[:, 0], places[:, 1]).tolist()


def test_a_box_has_its_border_and_any_two_opposite_corners() -> None:
    points = ((1.0, 2.0), (1.0, 5.0), (3.0, 3.5), (0.99, 3.0), (np.nan, 3.0), (2.0, np.nan))
    for corners in (((1.0, 2.0), (3.0, 5.0)), ((3.0, 2.0), (1.0, 5.0))):
        found = inside(Region("x", "y", "box", corners), *points)
        assert found == [True, True, True, False, False, False]


def test_a_lasso_leaves_out_what_it_goes_around() -> None:
    # A U: the notch from above is outside.
    corners = ((0.0, 0.0), (6.0, 0.0), (6.0, 6.0), (4.0, 6.0), (4.0, 2.0), (2.0, 2.0), (2.0, 6.0),
               (0.0, 6.0))  # fmt: skip
    points = ((1.0, 5.0), (3.0, 5.0), (5.0, 5.0), (3.0, 1.0), (7.0, 1.0), (3.0, np.nan))
    assert inside(Region("x", "y", "lasso", corners), *points) == [
        True, False, True, True, False, False
    ]  # fmt: skip


def test_a_lasso_that_crosses_itself_is_hollow_where_it_lies_twice() -> None:
    twice = Region("x", "y", "lasso", SQUARE + SQUARE)
    assert inside(twice, (2.0, 2.0)) == [False]
    bow_tie = Region("x", "y", "lasso", ((0.0, 0.0), (4.0, 4.0), (4.0, 0.0), (0.0, 4.0)))
    assert inside(bow_tie, (0.5, 2.0), (3.5, 2.0), (2.0, 0.5)) == [True, True, False]


def test_the_sides_of_a_lasso_are_straight_on_the_axes_it_was_drawn_over() -> None:
    corners = ((1.0, 0.0), (100.0, 0.0), (100.0, 2.0))
    point = (10.0, 0.5)
    # Half way along a logarithmic axis the side is at 1, of a linear one at 0.18.
    assert inside(Region("x", "y", "lasso", corners, x_log=True), point) == [True]
    assert inside(Region("x", "y", "lasso", corners), point) == [False]


@given(
    st.lists(st.tuples(FLOATS, FLOATS), min_size=3, max_size=9),
    st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=20),
)
def test_a_lasso_is_what_the_winding_of_angles_says(
    corners: list[tuple[float, float]], points: list[tuple[float, float]]
) -> None:
    polygon = np.array(corners)
    found = inside(Region("x", "y", "lasso", tuple(corners)), *points)
    for point, here in zip(points, found, strict=True):
        turns = count_turns(polygon, np.array(point))
        # Too near to a side the two rules may round differently.
        if turns is not None:
            assert here == (turns % 2 == 1)


def count_turns(polygon: NDArray[np.float64], point: NDArray[np.float64]) -> int | None:
    """How often a polygon goes around a point, by the angles of its sides as seen from there."""
    ends = polygon - point, np.roll(polygon, -1, axis=0) - point
    cross = ends[0][:, 0] * ends[1][:, 1] - ends[0][:, 1] * ends[1][:, 0]
    dot = (ends[0] * ends[1]).sum(axis=1)
    if (np.hypot(*ends[0].T) < 1e-6).any() or ((np.abs(cross) < 1e-6) & (dot <= 0)).any():
        return None
    return round(float(np.arctan2(cross, dot).sum()) / (2 * np.pi))


@pytest.mark.parametrize(
    ("kind", "corners", "log", "reason"),
    [
        ("box", SQUARE, False, "a box has 2 corners, not 4"),
        ("lasso", SQUARE[:2], False, "a lasso has 3 to"),
        ("lasso", SQUARE * 31, False, "a lasso has 3 to"),
        ("box", ((0.0, 0.0), (np.inf, 1.0)), False, "a corner is not finite"),
        ("lasso", SQUARE, True, "no corner at or below 0"),
    ],
)
def test_what_is_no_region_is_refused(
    kind: str, corners: tuple[tuple[float, float], ...], log: bool, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        Region("x", "y", kind, corners, x_log=log)  # type: ignore[arg-type]


def test_a_long_lasso_keeps_its_shape() -> None:
    angles = np.linspace(0, 2 * np.pi, 1000, endpoint=False)
    corners = [(float(np.cos(a)), float(np.sin(a))) for a in angles]
    thin = thin_corners(corners)
    assert len(thin) == MOST_CORNERS
    assert thin[0] == corners[0]
    points = np.random.default_rng(0).uniform(-1.2, 1.2, (2000, 2))
    found = find_inside(Region("x", "y", "lasso", thin), points[:, 0], points[:, 1])
    expected = np.hypot(*points.T) < 1
    assert (found != expected).mean() < 0.005
    assert thin_corners(SQUARE) == SQUARE


def test_a_filter_passes_values_and_no_inert_choice() -> None:
    columns = {
        "depth": np.array([1.0, 2.0, 3.0, 2.0]),
        "kernel": np.array([3.0, np.nan, 5.0, 5.0]),
        "bits": np.array(["int8", "float32", None, "int8"], dtype=object),
    }

    def passing(**filters: object) -> list[bool]:
        return find_passing(filters, columns).tolist()  # type: ignore[arg-type]

    assert passing(depth=(2.0, 3.0)) == [False, True, True, True]
    assert passing(kernel=(0.0, 9.0)) == [True, False, True, True]
    assert passing(bits=frozenset(["int8"])) == [True, False, False, True]
    assert passing(depth=frozenset([1, 3])) == [True, False, True, False]
    assert passing(depth=(2.0, 3.0), bits=frozenset(["int8"])) == [False, False, False, True]
