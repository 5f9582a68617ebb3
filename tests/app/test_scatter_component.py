"""The interactive chart in Streamlit: what it reports, and that nothing else is believed."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.records.searches.front import parse_front
from app.reporting.scatter.component import read_budgets, read_click, read_region
from tests.app.chromium import listen, open_chromium
from tests.toys.explored_runs import front_json, small_space

SCRIPT = Path(__file__).parents[1] / "toys/scatter_app.py"
BOX = {"kind": "box", "x": "latency_ms", "y": "accuracy", "corners": [[0.1, 0.9], [0.2, 1]],
       "x_log": False, "y_log": True}  # fmt: skip


def test_what_a_chart_reports_is_read() -> None:
    assert read_click("09749633f4ae") == "09749633f4ae"
    assert read_region({"kind": "none"}) is None
    assert read_region(BOX) == {**BOX, "corners": ((0.1, 0.9), (0.2, 1.0))}
    lasso = {**BOX, "kind": "lasso", "corners": [[0, 0], [1, 0], [0, 1]]}
    assert read_region(lasso) == {**lasso, "corners": ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))}
    assert read_budgets([0.2, 3]) == (0.2, 3.0)
    assert read_budgets([]) == ()


@pytest.mark.parametrize(
    "value",
    [
        None, 3, [], "box", {}, {"kind": "circle"}, {**BOX, "corners": [[0, 0]]},
        {**BOX, "corners": [[0, 0], [1, math.nan]]}, {**BOX, "corners": [[0, 0], [1, math.inf]]},
        {**BOX, "corners": [[0, 0], [1, "1"]]}, {**BOX, "corners": [[0, 0], [1, True]]},
        {**BOX, "corners": [[0, 0], [1]]}, {**BOX, "corners": 3}, {**BOX, "x": None},
        {**BOX, "kind": "lasso"}, {**BOX, "kind": "lasso", "corners": [[0, 0]] * 5000},
        {"kind": "box"},
    ],
)  # fmt: skip
def test_what_no_chart_reports_is_no_region(value: object) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        read_region(value)


@pytest.mark.parametrize("value", [None, "0.2", [None], [math.nan], [True], {"0": 1}])
def test_what_no_chart_reports_are_no_budgets(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        read_budgets(value)


@pytest.mark.parametrize("value", [None, 3, ["a"], "a" * 65])
def test_what_no_chart_reports_is_no_click(value: object) -> None:
    with pytest.raises(ValueError, match="a click names a point"):
        read_click(value)


def test_a_page_with_a_chart_runs_again_and_again() -> None:
    page = AppTest.from_file(str(SCRIPT), default_timeout=30).run()
    for _ in range(2):
        assert not page.exception
        assert page.code[0].value == "[]"
        page.run()


# -- in a browser ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a real server shows the page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"server.port": port, "server.address": "localhost", "server.headless": "true",
               "browser.gatherUsageStats": "false", "server.fileWatcherType": "none",
               "global.developmentMode": "false"}  # fmt: skip
    flags = [f"--{name}={value}" for name, value in options.items()]
    folder = tmp_path_factory.mktemp("chart")
    named = [str(SCRIPT.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", str(SCRIPT), *flags],
            stdout=log, stderr=subprocess.STDOUT, cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(named)},
        )  # fmt: skip
        try:
            _wait_until_healthy(process, f"http://localhost:{port}/_stcore/health")
            yield f"http://localhost:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_until_healthy(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended by itself"
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    pytest.fail("the server did not answer within a minute")


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    with open_chromium() as browser:
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(30_000)
        _, errors = listen(opened)
        opened.goto(address)
        opened.locator(".scatter canvas").wait_for()
        opened.locator(".scatter .grid").first.wait_for(state="attached")
        yield opened
        assert errors == []


def told(page: Any, count: int) -> list[Any]:
    """What Python was told, once it was told so much."""
    page.wait_for_function(
        # While Streamlit draws the page anew there may be no such element for a moment.
        "(count) => { const code = document.querySelector('code');"
        " return code !== null && JSON.parse(code.textContent).length === count; }",
        arg=count,
    )
    return list(json.loads(page.locator("code").inner_text()))


@pytest.mark.browser
def test_python_is_told_of_clicks_regions_and_budgets(page: Any) -> None:
    front = parse_front(front_json(small_space()), "front.json", "default")
    members = front.list_front()
    plot = page.locator(".scatter .plot")
    plot.focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert told(page, 1)[0] == ["chosen", members[0].digest]
    # The same point again is a click again.
    page.keyboard.press("Enter")
    assert told(page, 2)[1] == ["chosen", members[0].digest]

    box = plot.bounding_box()
    page.get_by_role("button", name="Lasso").click()
    page.mouse.move(box["x"] + 200, box["y"] + 40)
    page.mouse.down()
    for x, y in ((500, 40), (500, 300), (200, 300)):
        page.mouse.move(box["x"] + x, box["y"] + y, steps=5)
    page.mouse.up()
    name, region = told(page, 3)[2]
    assert name == "region"
    assert (region["kind"], region["x"], region["y"]) == ("lasso", "latency_ms", "accuracy")
    across = [corner[0] for corner in region["corners"]]
    latencies = [p.best("latency_ms") or 0.0 for p in front.points]
    assert min(latencies) < min(across) < max(across) < max(latencies)
    assert page.locator(".scatter polygon.region").count() == 1, "as Python says again"

    page.get_by_role("button", name="Clear selection").click()
    assert told(page, 4)[3] == ["region", None]
    assert page.locator(".scatter polygon.region").count() == 0

    line = page.locator(".scatter .grip").bounding_box()
    page.mouse.move(line["x"] + line["width"] / 2, line["y"] + 100)
    page.mouse.down()
    page.mouse.move(line["x"] + line["width"] / 2 + 120, line["y"] + 100, steps=5)
    page.mouse.up()
    name, (dragged,) = told(page, 5)[4]
    assert name == "budgets"
    assert 0.2 < dragged < max(latencies)
    slider = page.get_by_role("slider")
    assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(dragged)
    slider.focus()
    page.keyboard.press("ArrowLeft")
    (moved,) = told(page, 6)[5][1]
    assert moved < dragged
    assert page.evaluate(
        "(() => { let e = document.activeElement;"
        " while (e.shadowRoot) e = e.shadowRoot.activeElement;"
        " return e.getAttribute('role'); })()"
    ) == "slider", "the focus stays where it was"  # fmt: skip


@pytest.mark.browser
def test_a_zoom_stays_when_something_is_chosen(page: Any) -> None:
    def ticks() -> list[str]:
        found: list[str] = (
            page.locator(".scatter .plot > svg").first.locator("text").all_text_contents()
        )
        return found

    home = ticks()
    page.locator(".scatter .plot").focus()
    page.keyboard.press("+")
    zoomed = ticks()
    assert zoomed != home
    page.keyboard.press("End")
    followed = ticks()
    page.keyboard.press("Enter")
    told(page, 1)
    assert followed == ticks() != home
    page.keyboard.press("0")
    assert ticks() == home
