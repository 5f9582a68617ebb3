"""Differences split into parts: they add up, are symmetric, and are the known ones where known."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.analysis import contributions
from app.analysis.contributions import (
    Part,
    find_parts,
    make_split,
    share_out,
    subtract_units,
)
from app.records.quantities import ACCURACY, LATENCY
from app.reporting.charts.difference_chart import draw_split, list_bars
from supernet.space import Choice, SearchSpace
from tests.app.chart_reading import take_apart
from tests.toys.explored_runs import small_space

Rows = NDArray[np.int16]


@pytest.fixture
def space() -> SearchSpace:
    return small_space()


def encode(space: SearchSpace, **values: object) -> Rows:
    """The smallest network with other values; names are written with ``__`` for a dot."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    choices = {**{c.name: c.values[0] for c in space.choices}, **named}
    return space.encode([space.architecture(choices)])[0]  # type: ignore[arg-type]


def interact(rows: NDArray[np.integer]) -> NDArray[np.float64]:
    """A made-up quality with effects of single choices and of pairs."""
    x = rows.astype(np.float64)
    weights = np.sin(np.arange(x.shape[1]) + 1)
    return x @ weights + 0.7 * x[:, 0] * x[:, 3] - 0.4 * x[:, 2] * x[:, 8]


def test_what_adds_a_block_belongs_to_it(space: SearchSpace) -> None:
    ours = encode(space, stage1__depth=2, stage1__block2__kernel=5, stage2__block1__expand=4)
    theirs = encode(space)
    place = space.index
    assert find_parts(space, ours, theirs) == (
        Part("stage1.block2", tuple(place(f"stage1.{n}") for n in
                                    ("depth", "block2.kernel", "block2.expand"))),
        Part("stage2.block1", (place("stage2.block1.expand"),)),
    )  # fmt: skip
    assert find_parts(space, ours, ours) == ()


def test_one_depth_adds_all_blocks_beyond_it() -> None:
    space = SearchSpace((
        Choice("depth", (1, 2, 3), "depth"),
        *(Choice(f"layer{n}.heads", (2, 4), "heads", ("depth", n) if n > 1 else None)
          for n in (1, 2, 3)),
    ))  # fmt: skip
    smallest, largest = space.encode([space.smallest, space.largest])
    assert [part.name for part in find_parts(space, largest, smallest)] == [
        "layer2, layer3", "layer1",
    ]  # fmt: skip


@pytest.mark.parametrize("exact", [9, 0])
def test_shares_add_up_and_change_sign_with_the_order(
    space: SearchSpace, monkeypatch: pytest.MonkeyPatch, exact: int
) -> None:
    monkeypatch.setattr(contributions, "MOST_EXACT", exact)
    rows = space.sample(np.random.default_rng(3), 30)
    for ours, theirs in zip(rows[::2], rows[1::2], strict=True):
        found = share_out(space, interact, ours, theirs)
        whole = interact(ours[None]) - interact(theirs[None])
        assert sum(found.values()) == pytest.approx(whole[0], abs=1e-9)
        back = share_out(space, interact, theirs, ours)
        assert back == pytest.approx({name: -share for name, share in found.items()}, abs=1e-9)


def test_shares_are_the_average_over_all_orders(space: SearchSpace) -> None:
    ours = encode(space, resolution=8, stage1__depth=2, stage1__block2__expand=4,
                  stage2__block1__kernel=5)  # fmt: skip
    theirs = encode(space, stage1__block1__expand=3)
    parts = find_parts(space, ours, theirs)
    assert len(parts) == 4
    expected = dict.fromkeys((part.name for part in parts), 0.0)
    orders = list(permutations(parts))
    for order in orders:
        row = theirs.copy()
        for part in order:
            before = interact(space.canonical(row[None]))[0]
            row[list(part.columns)] = ours[list(part.columns)]
            expected[part.name] += interact(space.canonical(row[None]))[0] - before
    expected = {name: share / len(orders) for name, share in expected.items()}
    assert share_out(space, interact, ours, theirs) == pytest.approx(expected)


def test_drawn_orders_come_near_to_all_of_them(
    space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    smallest, largest = space.encode([space.smallest, space.largest])
    exact = share_out(space, interact, largest, smallest)
    monkeypatch.setattr(contributions, "MOST_EXACT", 0)
    drawn = share_out(space, interact, largest, smallest)
    # Only pairs interact, so that an order and its reverse average to the exact share.
    assert drawn == pytest.approx(exact)


def test_effects_of_single_choices_are_found_as_they_are(space: SearchSpace) -> None:
    weights = np.cos(np.arange(len(space)))
    ours = encode(space, resolution=8, stage3__block1__expand=4)
    found = share_out(space, lambda rows: rows @ weights, ours, encode(space))
    assert found == pytest.approx({"resolution": weights[0],
                                   "stage3.block1": 2 * weights[space.index(
                                       "stage3.block1.expand")]})  # fmt: skip


def test_units_of_one_network_alone_count_whole() -> None:
    ours = (("stem", 1.0), ("block", 2.0), ("head", 0.5))
    theirs = (("stem", 0.75), ("other", 4.0), ("head", 0.5))
    shares = subtract_units(ours, theirs)
    assert shares == {"stem": 0.25, "block": 2.0, "head": 0.0, "other": -4.0}
    split = make_split(shares, -1.5)
    assert split.parts == (("other", -4.0), ("block", 2.0), ("stem", 0.25))
    assert split.explained == -1.75
    assert split.rest == 0.25
    assert make_split(shares, None).rest is None


def test_bars_follow_each_other_and_end_at_the_difference() -> None:
    split = make_split({"a": -0.03, "b": 0.01}, -0.025)
    rows = list_bars(split, ACCURACY, "rest")
    assert [row["part"] for row in rows] == ["a", "b", "rest", "together"]
    ends = [(row["from"], row["to"]) for row in rows]
    flat = [end for pair in ends for end in pair]
    assert flat == pytest.approx([0, -3, -3, -2, -2, -2.5, 0, -2.5])
    assert rows[-1]["text"] == "\N{MINUS SIGN}2.50 points"
    many = make_split({f"unit{n}": 1.0 + n for n in range(30)}, None)
    rows = list_bars(many, LATENCY, "rest")
    assert rows[-2]["part"] == "14 smaller parts"
    assert rows[-1]["to"] == pytest.approx(many.explained)
    drawn = take_apart(draw_split(many, LATENCY, "rest"))
    low, high = drawn.one("bar").encoding["x"]["scale"]["domain"]
    assert low < 0
    assert high > 1.2 * many.explained, "the text of the longest bar has room"
