"""The explorer in a real Chromium: served as a user serves it, driven by mouse and keyboard."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.explorer.launch import explore_command
from app.records import picking
from app.runs import run_view
from tests.toys.explored_runs import write_hostile_run, write_run

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
WAIT_MS = 60_000
MARK = "[data-testid=stVegaLiteChart] path[aria-roledescription=point]"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A run directory and the address under which a real server shows it."""
    run = tmp_path_factory.mktemp("browser") / "digits-run"
    write_run(run)
    write_hostile_run(run.parent / "of-a-stranger")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    elsewhere = run.parent
    log = (elsewhere / "server.log").open("wb")
    process = subprocess.Popen(
        explore_command([run, run.parent / "of-a-stranger"], port=port, headless=True),
        stdout=log, stderr=subprocess.STDOUT, cwd=elsewhere,
        env={**os.environ, "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"},
    )  # fmt: skip
    try:
        _wait_until_healthy(process, f"http://localhost:{port}/_stcore/health")
        yield run, f"http://localhost:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)
        log.close()


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
def page(served: tuple[Path, str]) -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        try:
            opened = browser.new_page(viewport={"width": 1500, "height": 1500})
            opened.set_default_timeout(WAIT_MS)
            yield opened
        finally:
            browser.close()


def named(page: Any, digest: str) -> None:
    """Wait until the page names ``digest`` as the best verified subnetwork."""
    page.locator("p", has_text="Recommended within the budget").locator(
        "code", has_text=digest
    ).wait_for()


def test_moving_the_slider_changes_the_named_subnetwork(
    served: tuple[Path, str], page: Any
) -> None:
    run, address = served
    hosts: set[str | None] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    front = run_view.load_run(run).fronts["default"]
    members = picking.list_measured(front)
    default = picking.pick_knee(front)
    assert default is not None
    named(page, default.digest)
    page.locator(MARK).first.wait_for()

    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    named(page, max(members, key=lambda p: p.best("accuracy") or 0).digest)
    page.keyboard.press("Home")
    page.get_by_text("No verified subnetwork meets").wait_for()
    assert page.locator("code", has_text=members[0].digest).count() == 0
    assert page.get_by_text(members[0].digest).count() == 1
    steps = 0
    while page.get_by_text("No verified subnetwork meets").count() and steps < 60:
        page.keyboard.press("ArrowRight")
        # The slider reports after a moment; the page has to follow before the next step.
        page.wait_for_timeout(300)
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        steps += 1
    named(page, members[0].digest)
    assert errors == []
    # Everything comes from this machine: the page works without a network.
    assert hosts <= {"localhost", None}


def test_tabs_toggle_and_a_click_on_a_point(served: tuple[Path, str], page: Any) -> None:
    page.goto(served[1])
    marks = page.locator(MARK)
    marks.first.wait_for()
    before = marks.count()
    page.get_by_text("Show other evaluated points").click()
    page.get_by_text("evaluated, not on the front").first.wait_for()
    assert marks.count() > before

    for tab, text in (
        ("Latency breakdown", "The units add up to"),
        ("Along the front", "Every front architecture is a column"),
        ("Search and predictor", "Progress of the search"),
        ("Export", "Download the architecture"),
    ):
        page.get_by_role("tab", name=tab).click()
        page.get_by_text(text).first.wait_for()

    page.get_by_role("tab", name="Layers").click()
    # The first mark belongs to the first dominated point drawn; any point will do.
    marks.first.click(force=True)
    page.get_by_text("choices differ").wait_for()
    assert page.locator(".genes .changed").count() > 0


def test_names_out_of_files_load_and_link_nothing(served: tuple[Path, str], page: Any) -> None:
    hosts: set[str | None] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.goto(served[1])
    page.locator(MARK).first.wait_for()
    page.locator("[data-testid=stSidebar]").get_by_role("combobox").first.click()
    page.get_by_role("option", name="of-a-stranger").click()
    page.get_by_role("heading", name="of-a-stranger").wait_for()
    page.locator(MARK).first.wait_for()
    for place in range(5):
        # Found anew each time: the chart of the run before may be replaced at any moment.
        page.locator(MARK).nth(place).hover(force=True)
        page.wait_for_timeout(100)
    page.locator("[data-testid=stSidebar]").get_by_role("combobox").last.click()
    page.get_by_role("option").nth(1).click()
    page.get_by_text("choices differ").wait_for()
    for tab in ("Layers", "Latency breakdown", "Search and predictor", "Export"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(300)
        for made in ("a[href*=evil]", "img[src*=evil]", "img[src*=http]", ".katex"):
            assert page.locator(made).count() == 0, (tab, made)
    # What was written is what is read.
    shown = page.locator("body").inner_text().replace("\N{WORD JOINER}", "")
    assert "![x](http://evil.example/i.png) [l](https://evil.example/a) www.evil.example" in shown
    assert "a@evil.example $x$ :red[r] <img src=http://evil.example/j.png>" in shown
    assert hosts <= {"localhost", None}
