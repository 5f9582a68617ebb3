"""Every screen for everybody: what axe-core finds, in light and dark, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app.explorer.views.view_state import SCREENS
from app.runs import run_view
from tests.app.chromium import listen, open_chromium
from tests.app.served import keep_picture, serve_runs, wait_until_idle
from tests.toys.explored_runs import write_run

pytestmark = pytest.mark.browser

DESK, PHONE = (1280, 800), (390, 844)
GRAVE = ("serious", "critical")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    run = tmp_path_factory.mktemp("accessible") / "digits-run"
    write_run(run)
    front = run_view.load_run(run).fronts["default"]
    with serve_runs([run], run.parent) as served:
        yield f"{served}?shown=intervals&shown=dominated&compared={front.list_front()[0].digest}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as opened:
        yield opened


# Contrast is a matter of the scheme and space one of the size: two pairs see all of both.
@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        (DESK, "light"),
        (PHONE, "dark"),
        pytest.param(DESK, "dark", marks=pytest.mark.slow),
        pytest.param(PHONE, "light", marks=pytest.mark.slow),
    ],
)
def test_every_screen_can_be_used_by_everybody(
    address: str, browser: Any, size: tuple[int, int], scheme: str
) -> None:
    width, height = size
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(60_000)
    _, errors = listen(page)
    for screen in SCREENS:
        page.goto(f"{address}&screen={screen}")
        page.locator("[role=tabpanel]:visible").first.wait_for()
        # What fades in has not its whole contrast yet.
        page.wait_for_timeout(1500)
        wait_until_idle(page)
        found = axe.run(page).response["violations"]
        grave = [
            (violation["id"], [node["html"][:200] for node in violation["nodes"]])
            for violation in found
            if violation["impact"] in GRAVE
        ]
        assert grave == [], screen
        assert find_overflow(page) <= 0, f"{screen} is scrolled sideways"
        assert list_cut_texts(page) == [], screen
        keep_picture(page, f"{screen.lower()}-{scheme}-{width}")
    context.close()
    assert errors == []


def find_overflow(page: Any) -> int:
    """By how many pixels a page is wider than the window."""
    found: int = page.evaluate(
        """() => {
            const main = document.querySelector("[data-testid=stMain]");
            return Math.max(main.scrollWidth - main.clientWidth,
                            document.documentElement.scrollWidth - innerWidth);
        }"""
    )
    return found


def list_cut_texts(page: Any) -> list[str]:
    """Texts of charts that reach out of their chart, texts that end in dots, overlapping facts.

    The box around a text is up to 3 pixels larger than its letters.
    """
    found: list[str] = page.evaluate(
        """() => {
            const cut = [];
            for (const svg of document.querySelectorAll("[data-testid=stVegaLiteChart] svg")) {
                const outer = svg.getBoundingClientRect();
                for (const text of svg.querySelectorAll("text")) {
                    const inner = text.getBoundingClientRect();
                    const shown = inner.width > 0 && getComputedStyle(text).opacity !== "0";
                    if (shown && (inner.right > outer.right + 3 || inner.left < outer.left - 3
                        || text.textContent.endsWith("\\u2026"))) cut.push(text.textContent);
                }
            }
            for (const fact of document.querySelectorAll(".facts > div")) {
                if (fact.scrollWidth > fact.clientWidth + 1) cut.push(fact.textContent);
            }
            return cut;
        }"""
    )
    return found
