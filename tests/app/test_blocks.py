"""What single units hold and take, of a supernet that was really trained and profiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.explorer.networks.block_sums import REST, WHOLE, Amounts, sum_blocks
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


def test_blocks_add_up_to_the_network_without_a_rest(finished_run: Path) -> None:
    front = read_front(finished_run / "searches/default")
    space = build(open_run(finished_run)).space
    point = front.list_front()[-1]
    latencies = dict(point.breakdown)
    counts = {part.unit: part for part in count_blocks(finished_run, point.choices)}
    units = {
        unit: Amounts(
            latencies.get(unit),
            counts[unit].parameters if unit in counts else None,
            counts[unit].size_bytes if unit in counts else None,
        )
        for unit in dict.fromkeys((*counts, *latencies))
    }
    whole = Amounts(
        point.estimate("latency_ms").predicted,
        point.counts["parameters"],
        point.counts["size_bytes"],
    )
    *blocks, last = sum_blocks(space.names, units, whole)
    assert last.name == WHOLE
    assert REST not in [block.name for block in blocks]
    assert [block.name for block in blocks if block.name.startswith("stage")]
    assert last.amounts.latency_ms == pytest.approx(whole.latency_ms, rel=1e-6)
    for field in ("latency_ms", "parameters", "size_bytes"):
        parts = [getattr(block.amounts, field) for block in blocks if block.level == 1]
        total = sum(part for part in parts if part is not None)
        assert total == pytest.approx(getattr(whole, field), rel=1e-6)
