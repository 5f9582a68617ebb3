"""What blocks take and hold together: sums over units that add up to the network."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from app.explorer.networks.block_sums import (
    NOT_UNITS,
    OUTSIDE,
    REST,
    WHOLE,
    Amounts,
    Block,
    find_part,
    list_parts,
    sum_blocks,
)
from app.records.quantities import LATENCY, PARAMETERS, SIZE
from tests.app.test_explorer import chosen, front_of, open_page, press, text
from tests.toys.explored_runs import write_run
from tests.toys.families import every_family

NAMES = ("resolution", "stem.width", "stage1.depth", "stage1.block1.kernel",
         "stage1.block2.kernel", "stage2.width", "stages.0.1.precision")  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "part"),
    [
        ("stages.0.0", "stage1.block1"), ("stages.0.1.attention", "stage1.block2"),
        ("stages.0.7", "stage1"), ("stages.1.4", "stage2"), ("stages.2.0", ""),
        ("stem", "stem"), ("stem.optional.0", "stem"), ("head", ""), ("heads.0", ""),
    ],
)  # fmt: skip
def test_a_unit_is_in_the_part_that_the_picture_names(unit: str, part: str) -> None:
    assert find_part(unit, list_parts(NAMES)) == part


def test_layers_are_counted_through_where_their_numbers_begin_anew() -> None:
    flat = list_parts(f"layer{n}.ffn" for n in range(1, 12))
    assert find_part("encoder.layer.3", flat) == "layer4"
    assert find_part("layers.0", flat) == "layer1"
    assert find_part("layers.10", flat) == "layer11"
    nested = list_parts(["stage1.layer1.x", "stage1.layer2.x", "stage2.layer1.x"])
    assert [find_part(f"layers.{n}", nested) for n in range(4)] == [
        "stage1.layer1", "stage1.layer2", "stage2.layer1", "",
    ]  # fmt: skip


@every_family
def test_every_numbered_unit_of_a_family_is_in_a_part(family: ModuleType) -> None:
    supernet = family.build(family.Config())
    parts = list_parts(supernet.space.names)
    found = {unit: find_part(unit, parts) for unit in supernet.units}
    assert set(parts) - {"last"} <= {
        name for part in found.values() for name in (part, part.partition(".")[0])
    }
    for unit, part in found.items():
        listed = unit.startswith(("stages.", "layers.")) or unit.partition(".")[0] in parts
        assert bool(part) == listed, unit


def test_sums_state_what_belongs_to_no_block_and_add_up() -> None:
    units = {
        "stem": Amounts(1.0, 10, 40),
        "stages.0.0.attention": Amounts(2.0, 20, 80),
        "stages.0.0.ffn": Amounts(3.0, 30, 120),
        "stages.0.1": Amounts(4.0, 40, 160),
        "stages.1.0": Amounts(5.0, 50, 200),
        "head": Amounts(6.0, 60, 240),
        "conversion between stem and stages.0.0": Amounts(0.5),
        "fixed overhead": Amounts(0.25),
    }
    names = [name for name in NAMES if not name.startswith("stem")]
    blocks = sum_blocks(names, units, Amounts(22.0, 210, 840))
    assert blocks == (
        Block("stage1", 3, Amounts(9.0, 90, 360)),
        Block("stage1.block1", 2, Amounts(5.0, 50, 200), level=2),
        Block("stage2", 1, Amounts(5.0, 50, 200)),
        Block(OUTSIDE, 2, Amounts(7.0, 70, 280)),
        Block(NOT_UNITS, 0, Amounts(0.75)),
        Block(REST, 0, Amounts(22.0 - 21.75)),
        Block(WHOLE, 6, Amounts(22.0, 210, 840)),
    )
    assert sum_blocks(["resolution"], units, Amounts()) == (), "no part has a name"
    assert sum_blocks(names, {}, Amounts(1.0)) == ()


def read_blocks(page_text: str) -> list[list[str]]:
    """The rows of the table of blocks."""
    (table,) = [line for line in page_text.splitlines() if 'aria-label="Blocks"' in line]
    plain = table.replace('<th scope="row">', "<td>").replace("</th>", "</td>")
    return [
        [cell.removesuffix("</td>") for cell in row.removesuffix("</tr>").split("<td>")[1:]]
        for row in plain.split("</table>")[0].split("<tr>")[2:]
    ]


def test_the_screen_adds_up_blocks_and_counts_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path)
    page = open_page(monkeypatch, tmp_path, screen="Network")
    point = front_of(tmp_path).find_point(chosen(page))
    parts = dict(point.breakdown)
    rows = {row[0]: row for row in read_blocks(text(page))}
    for stage in (1, 2, 3):
        within = [cost for unit, cost in parts.items() if unit.startswith(f"stages.{stage - 1}.")]
        assert rows[f"stage{stage}"][1:3] == [str(len(within)), LATENCY.show(sum(within))]
    assert rows[OUTSIDE][2] == LATENCY.show(sum(parts[u] for u in ("normalize", "stem", "head")))
    predicted = point.estimate("latency_ms").predicted
    assert predicted is not None
    assert rows[REST][2] == LATENCY.show(predicted - sum(parts.values()))
    assert rows[WHOLE][1:] == [str(len(parts)), LATENCY.show(predicted), "100.0 %"]

    counted = ModuleType("app.jobs.blocks")
    sizes = [SimpleNamespace(unit=unit, parameters=1000, size_bytes=4000) for unit in parts]
    counted.count_blocks = lambda _run, _choices: sizes  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "app.jobs.blocks", counted)
    page = press(page, "Count parameters and bytes of each unit")
    rows = {row[0]: row for row in read_blocks(text(page))}
    depth = int(point.choices["stage1.depth"])
    assert rows["stage1"][4:] == [PARAMETERS.show(1000 * depth), SIZE.show(4000 * depth)]
    assert rows[REST][4] == PARAMETERS.show(point.counts["parameters"] - 1000 * len(parts))
    assert rows[WHOLE][4:] == [
        PARAMETERS.show(point.counts["parameters"]), SIZE.show(point.counts["size_bytes"]),
    ]  # fmt: skip
