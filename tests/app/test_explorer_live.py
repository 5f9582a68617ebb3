"""What runs while it is looked at, in a real Chromium: nobody clicks, and the page goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.app.screen_reading import write_log
from tests.app.test_explorer_browser import browser, page, served
from tests.app.test_explorer_run_screens import begin_search, write_metrics

__all__ = ["browser", "page", "served"]

pytestmark = pytest.mark.browser


def test_a_search_is_watched_without_a_click_until_its_front_is_there(
    served: tuple[Path, str], page: Any
) -> None:
    run, address = served
    points = json.loads((run / "searches/default/front.json").read_text())["points"]
    kept = (run / "evaluations.jsonl").read_text()
    try:
        begin_search(run)
        write_log(run, points[:2])
        page.goto(f"{address}/?run={run.name}&screen=Search")
        page.get_by_text("Search second is running").wait_for()
        page.get_by_text("2 of at most 200 evaluations").wait_for()
        write_log(run, points[:9])
        page.get_by_text("9 of at most 200 evaluations").wait_for()
        front = run / "searches/second/front.json"
        shutil.copy(run / "searches/default/front.json", front)
        begin_search(run, status="complete")
        page.get_by_text("Search second is running").wait_for(state="detached")
        page.get_by_text("Progress of the search").wait_for()
    finally:
        shutil.rmtree(run / "searches/second", ignore_errors=True)
        (run / "evaluations.jsonl").write_text(kept)


def test_a_training_is_watched_without_a_click(served: tuple[Path, str], page: Any) -> None:
    run, address = served
    kept = (run / "run.json").read_text()
    record = json.loads(kept)
    record["stages"]["train"]["status"] = "running"
    try:
        (run / "run.json").write_text(json.dumps(record))
        write_metrics(run, 5)
        page.goto(f"{address}/?run={run.name}&screen=Training")
        page.get_by_text("of 400, running").wait_for()
        facts = page.locator(".facts .value")
        facts.filter(has_text="50of 400, running").wait_for()
        write_metrics(run, 17)
        facts.filter(has_text="170of 400, running").wait_for()
        (run / "run.json").write_text(kept)
        page.get_by_text("of 400, complete").wait_for()
    finally:
        (run / "run.json").write_text(kept)
        (run / "metrics.jsonl").unlink(missing_ok=True)
