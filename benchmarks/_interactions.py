"""What people do in the explorer, by the names that its widgets have for everybody.

An interaction that the page does not offer is left out.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

# Resolves when the page has run again and was drawn; sees a run however short it is.
_WATCH = """() => { window.ran = new Promise((done, fail) => {
    setTimeout(() => fail(new Error('the page did not run again')), 20000);
    const app = document.querySelector('[data-testid=stApp]');
    let begun = false;
    const seen = new MutationObserver(() => {
        const state = app.dataset.testScriptState;
        begun ||= state === 'running';
        if (begun && state === 'notRunning') {
            seen.disconnect();
            requestAnimationFrame(() => requestAnimationFrame(done));
        }
    });
    seen.observe(app, {attributes: true});
}); }"""

Interaction = Callable[[], float]


def list_interactions(page: Any) -> Iterator[tuple[str, Interaction]]:
    """Every interaction that the page offers: its name, and what does it and gives its seconds."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    slider = page.get_by_role("slider").first
    if slider.count():
        keys = itertools.cycle(["ArrowRight", "ArrowRight", "ArrowLeft"])

        def move_budget() -> None:
            slider.focus()
            page.keyboard.press(next(keys))

        yield "budget", lambda: _follow(page, move_budget)
    for label in ("Horizontal", "Vertical"):
        box = page.get_by_role("combobox", name=label)
        if box.count():
            yield f"axis {label.lower()}", lambda box=box: _follow(page, _choose_next(page, box))
    behind = page.get_by_text("Show other evaluated points")
    if behind.count():
        yield "other points", lambda: _follow(page, behind.click)
    marks = page.locator("[role=graphics-document] path[aria-roledescription=point]")
    if marks.count():
        places = itertools.count()

        def click_point() -> None:
            marks.nth(next(places) % marks.count()).click(force=True)

        yield "click on a point", lambda: _follow(page, click_point)


def _choose_next(page: Any, box: Any) -> Callable[[], None]:
    """Open a list before the clock starts; choosing its next entry is what is timed."""
    box.click()
    page.keyboard.press("ArrowDown")
    return lambda: page.keyboard.press("Enter")


def _follow(page: Any, act: Callable[[], object]) -> float:
    """Act, and wait until the page is drawn; seconds in between."""
    page.evaluate(_WATCH)
    begun = time.perf_counter()
    act()
    page.evaluate("() => window.ran")
    return time.perf_counter() - begun
