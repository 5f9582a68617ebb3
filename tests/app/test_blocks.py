"""What single units hold and take, of a supernet that was really trained and profiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.jobs.blocks import break_down, count_blocks
from app.records.searches.front import read_front
from app.runs.directory import open_run
from app.runs.trained import build


def test_units_hold_together_what_the_architecture_does(finished_run: Path) -> None:
    front = read_front(finished_run / "searches/default")
    cost_model = build(open_run(finished_run)).cost_model()
    space = build(open_run(finished_run)).space
    for point in front.list_front():
        found = count_blocks(finished_run, point.choices)
        assert sum(part.parameters for part in found) == point.counts["parameters"]
        assert sum(part.size_bytes for part in found) == point.counts["size_bytes"]
        (row,) = space.encode([space.architecture(dict(point.choices))])[None]
        assert sum(part.parameters for part in found) == cost_model.parameters(row)[0]
    assert len({part.unit for part in found}) == len(found)


def test_units_take_what_the_search_stored_of_its_front(finished_run: Path) -> None:
    front = read_front(finished_run / "searches/default")
    point = front.list_front()[-1]
    assert point.breakdown
    found = break_down(finished_run, "cpu", point.choices)
    assert [unit for unit, _ in found] == [unit for unit, _ in point.breakdown]
    assert dict(found) == pytest.approx(dict(point.breakdown))
