"""What people do in the explorer, by the names that its widgets have for everybody."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

# Notes when the page last heard from its server, and when it last changed.
WATCH = """(() => {
    const Plain = window.WebSocket;
    window.WebSocket = class extends Plain {
        constructor(...given) {
            super(...given);
            this.addEventListener('message', () => { window.heard = performance.now(); });
        }
    };
    const seen = new MutationObserver(() => { window.changed = performance.now(); });
    seen.observe(document, {subtree: true, childList: true, attributes: true});
})()"""
# Milliseconds from the input to the last change, once nothing has happened for a while.
_SETTLED = """() => new Promise((done, fail) => {
    const begun = window.begun, quiet = 300, limit = begun + 30000;
    const look = () => {
        const now = performance.now(), app = document.querySelector('[data-testid=stApp]');
        const last = Math.max(window.heard, window.changed || 0);
        const idle = app.dataset.testScriptState === 'notRunning';
        if (window.heard > begun && idle && now - last > quiet) done(last - begun);
        else if (now > limit) fail(new Error('the page did not settle'));
        else requestAnimationFrame(look);
    };
    look();
})"""
_IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"

Interaction = Callable[[], float]


def list_interactions(page: Any) -> Iterator[tuple[str, Interaction]]:
    """Every interaction with the front: its name, and what does it and gives its seconds.

    Args:
        page: The explorer, opened with :data:`WATCH` in it.
    """
    page.locator(_IDLE).wait_for()
    slider = page.locator("[data-testid=stSlider]").get_by_role("slider").first
    keys = itertools.cycle(["ArrowRight", "ArrowRight", "ArrowLeft"])
    yield "budget", lambda: _follow(page, lambda: slider.press(next(keys)))
    for label in ("Across", "Up", "Colour"):
        box = page.get_by_role("combobox", name=label, exact=True)
        yield f"axis {label}", lambda box=box: _choose_next(page, box)
    # As it was, so that what follows finds the front where it is.
    page.reload()
    plot = page.get_by_role("application")
    plot.wait_for()
    page.locator(_IDLE).wait_for()
    layer = page.get_by_text("Dominated", exact=True)
    yield "layer of dominated points", lambda: _follow(page, layer.click)

    def choose_point() -> float:
        plot.focus()
        plot.press("ArrowRight")
        return _follow(page, lambda: plot.press("Enter"))

    yield "click on a point", choose_point
    corners = itertools.cycle([(0.2, 0.3), (0.35, 0.5), (0.5, 0.2)])
    yield "box", lambda: _draw_box(page, plot, *next(corners))
    page.get_by_role("tab", name="Space").click()
    page.locator(_IDLE).wait_for()
    page.get_by_text("Filter by the values of choices").click()
    ranges = page.locator("[data-testid=stSlider]").get_by_role("slider")
    ranges.first.wait_for()
    # Each has two ends; the lower one of another choice is moved each time.
    places = itertools.count(step=2)
    yield "filter", lambda: _follow(page, lambda: ranges.nth(next(places)).press("ArrowRight"))


def list_screens(page: Any) -> Iterator[tuple[str, Interaction]]:
    """Going from screen to screen."""
    for name in ("Network", "Compare", "Space", "Devices", "Predictors", "Search", "Training"):
        tab = page.get_by_role("tab", name=name, exact=True)
        yield name, lambda tab=tab: _follow(page, tab.click)


def _choose_next(page: Any, box: Any) -> float:
    """Open a list before the clock starts; choosing its next entry is what is timed."""
    box.click()
    page.keyboard.press("ArrowDown")
    return _follow(page, lambda: page.keyboard.press("Enter"))


def _draw_box(page: Any, plot: Any, left: float, top: float) -> float:
    page.get_by_role("button", name=re.compile("box", re.IGNORECASE)).first.click()
    place = plot.bounding_box()
    across, down = place["x"] + left * place["width"], place["y"] + top * place["height"]
    page.mouse.move(across, down)
    page.mouse.down()
    page.mouse.move(across + 0.3 * place["width"], down + 0.4 * place["height"], steps=5)
    return _follow(page, page.mouse.up)


def _follow(page: Any, act: Callable[[], object]) -> float:
    """Act, and wait until the page has settled; seconds up to its last change."""
    page.evaluate("() => { window.begun = performance.now(); }")
    act()
    return float(page.evaluate(_SETTLED)) / 1000
