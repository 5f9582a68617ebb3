"""The picture of the benchmarks' curves: means and ranges over seeds, published ones dashed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.benchmarks.loading import load_benchmark


@pytest.fixture
def curves() -> ModuleType:
    return load_benchmark("_curves")


def test_every_method_is_drawn_with_its_range(curves: ModuleType, tmp_path: Path) -> None:
    rising = np.linspace(0.0, 90.0, 40)
    several = np.stack([rising, rising + 10.0])
    drawn = [curves.Curve("ours", several), curves.Curve("theirs (published)", rising[None])]
    curves.draw(tmp_path / "curves.svg", drawn, "evaluations", "hypervolume", ceiling=110.0)
    root = ElementTree.parse(tmp_path / "curves.svg").getroot()
    texts = {element.text for element in root.iter() if element.text}
    assert {"ours", "theirs (published)", "evaluations", "long-run ideal"} <= texts
    lines = [e for e in root.iter() if e.get("aria-roledescription") == "line mark container"]
    assert len(lines) == 2
    strokes = [e.get("stroke-dasharray") for e in root.iter("{http://www.w3.org/2000/svg}path")
               if e.get("stroke-width") == "1.6"]  # fmt: skip
    assert len(strokes) == 2
    assert "5,4" in strokes
    mean_and_range = curves._tabulate(drawn[0])[1]
    assert mean_and_range["evaluations"] == 5
    assert np.isclose(mean_and_range["mean"], rising[4] + 5.0)
    assert (mean_and_range["low"], mean_and_range["high"]) == (rising[4], rising[4] + 10.0)
