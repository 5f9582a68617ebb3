"""What tests of screens read of a page, and how they change what it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.chart_reading import Drawn, charts_on


def chart_across(page: AppTest, title: str) -> Drawn:
    """The only chart whose horizontal axis has a title."""
    (found,) = [chart for chart in charts_on(page) if title in chart.titles("x")]
    return found


def table(page: AppTest, column: str) -> Any:
    """The table that has a column."""
    (found,) = [frame.value for frame in page.dataframe if column in frame.value.columns]
    return found


def rewrite(run: Path, **changes: Any) -> dict[str, Any]:
    """Change entries of ``front.json``; its new content."""
    path = run / "searches/default/front.json"
    payload = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(payload))
    return payload


def write_log(run: Path, order: list[dict[str, Any]], **facts: Any) -> None:
    rows = [
        {"architecture": p["architecture"], "digest": p["digest"], "objective": "accuracy",
         "value": p["objectives"]["accuracy"]["value"], "unit": "fraction", "split": "val",
         "checkpoint": "c0ffee", "at": "2026-01-01T10:05:00+00:00", **facts}
        for p in order
    ]  # fmt: skip
    (run / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
