"""The report's page in a real Chromium, from a file and without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.jobs.report import PAGE, report_job
from app.records.searches.front import Front, read_front
from tests.app.chromium import listen, open_chromium
from tests.app.served import PICTURES
from tests.toys.explored_runs import write_hostile_run, write_run

pytestmark = pytest.mark.browser

LIGHT, DARK = (36, 41, 47), (230, 233, 236)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, that of a stranger, and reports of both."""
    folder = tmp_path_factory.mktemp("static")
    write_run(folder / "run")
    write_hostile_run(folder / "stranger")
    for name in ("run", "stranger"):
        report_job(folder / name, lambda _line: None, out=folder / f"{name}-out", baseline=False)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as opened:
        yield opened


def open_page(browser: Any, path: Path, *, dark: bool = False, width: int = 1280) -> Any:
    """The page of a report, without a network; it fails where the page reports an error."""
    context = browser.new_context(
        offline=True,
        color_scheme="dark" if dark else "light",
        viewport={"width": width, "height": 844},
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.heard = listen(page)
    page.goto(path.as_uri())
    page.locator("[data-part=points] tbody tr").first.wait_for()
    return page


@pytest.fixture
def page(browser: Any, written: Path) -> Iterator[Any]:
    opened = open_page(browser, written / "run-out" / PAGE)
    yield opened
    requests, errors = opened.heard
    opened.context.close()
    assert errors == []
    assert requests == [(written / "run-out" / PAGE).as_uri()], "one file and nothing else"


@pytest.fixture(scope="module")
def front(written: Path) -> Front:
    return read_front(written / "run/searches/default")


def listed(page: Any) -> list[str]:
    found: list[str] = page.locator("[data-part=points] tbody button").all_inner_texts()
    return found


def columns(page: Any) -> list[str]:
    found: list[str] = page.locator("[data-part=genome] thead th").all_inner_texts()
    return found


def card(page: Any) -> str:
    found: str = page.locator("[data-part=card] h3").inner_text()
    return found


def drag(page: Any, path: list[tuple[float, float]]) -> None:
    """Press, move and let go, by shares of the chart's width and height."""
    box = page.locator(".plot").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in path]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def test_a_lasso_filters_the_table_and_the_choices(page: Any, front: Front) -> None:
    assert set(listed(page)) == {p.digest for p in front.points}
    page.get_by_role("button", name="Lasso").click()
    # Around the left half of the chart, whatever is drawn there.
    drag(page, [(0.02, 0.0), (0.5, 0.0), (0.5, 0.95), (0.02, 0.95)])
    selected = listed(page)
    assert 0 < len(selected) < len(front.points)
    latencies = {p.digest: p.best("latency_ms") or 0.0 for p in front.points}
    left = [latencies[digest] for digest in selected]
    right = [latency for digest, latency in latencies.items() if digest not in selected]
    assert max(left) < max(right)
    shown = page.locator("[data-part=selected]").inner_text()
    members = [p.digest for p in front.list_front() if p.digest in selected]
    assert shown == f"Selected: {len(selected)} points, {len(members)} of them on the front."
    assert columns(page) == members
    page.get_by_role("button", name="Clear selection").click()
    assert len(listed(page)) == len(front.points)


def test_a_box_holds_what_lies_left_of_its_edge(page: Any, front: Front) -> None:
    page.get_by_role("button", name="Box").click()
    box = page.locator(".plot").bounding_box()
    line = page.locator(".plot > svg .axis").first
    axis = {end: float(line.get_attribute(end)) for end in ("x1", "x2")}
    middle = (axis["x1"] + axis["x2"]) / 2
    drag(page, [(axis["x1"] / box["width"] - 0.01, 0), (middle / box["width"], 0.9)])
    # The domain of the axis is as the payload says, and a box ends in the middle of it.
    low, high = page.evaluate(
        "JSON.parse(document.querySelector('script[data-search]').textContent).scatter.x.domain"
    )
    edge = (low + high) / 2
    near = 0.004 * (high - low)
    selected = set(listed(page))
    for point in front.points:
        latency = point.best("latency_ms") or 0.0
        if abs(latency - edge) > near:
            assert (point.digest in selected) == (latency < edge), point.digest


def test_pointing_at_a_mark_tells_what_it_is(page: Any, front: Front) -> None:
    chosen = front.find_point(card(page))
    tip = page.locator(".tip")
    assert not tip.is_visible()
    plot = page.locator(".plot")
    plot.focus()
    page.keyboard.press("Home")
    x, y = (float(page.locator(".ring").get_attribute(name)) for name in ("cx", "cy"))
    plot.evaluate("(element) => element.blur()")
    assert not tip.is_visible()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + x + 2, box["y"] + y + 2)
    cheapest = front.list_front()[0]
    assert cheapest.digest in tip.inner_text()
    assert front.cost.show(cheapest.best("latency_ms")) in tip.inner_text()
    page.mouse.click(box["x"] + x + 2, box["y"] + y + 2)
    assert card(page) == cheapest.digest != chosen.digest


def test_a_card_says_all_that_is_known_of_a_network(page: Any, front: Front) -> None:
    point = front.list_front()[-1]
    page.locator("[data-part=points] button", has_text=point.digest).click()
    said = page.locator("[data-part=card]").inner_text()
    for axis in front.axes:
        assert axis.show(point.best(axis.name)) in said
    assert "measured" in said
    assert "kernel 5" in said or "kernel 3" in said
    for unit, _ in point.breakdown:
        assert unit in said
    assert f"supernet export --run run --arch {point.digest}" in said
    assert page.evaluate("document.activeElement.textContent") == point.digest, "the focus stays"


def test_keys_go_along_the_front_choose_and_take_a_selection_away(page: Any, front: Front) -> None:
    members = [p.digest for p in front.list_front()]
    plot = page.locator(".plot")
    plot.focus()
    page.keyboard.press("End")
    assert members[-1] in page.locator(".scatter [role=status]").inner_text()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert card(page) == members[-2]
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert card(page) == members[1]
    page.get_by_role("button", name="Box").click()
    drag(page, [(0.2, 0.1), (0.5, 0.8)])
    assert len(listed(page)) < len(front.points)
    plot.focus()
    page.keyboard.press("Escape")
    assert len(listed(page)) == len(front.points)


def ticks(page: Any) -> list[str]:
    found: list[str] = page.locator(".plot > svg").first.locator("text").all_text_contents()
    return found


def test_zooming_by_wheel_keys_and_buttons_and_back(page: Any) -> None:
    home = ticks(page)
    plot = page.locator(".plot")
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(100)
    assert ticks(page) == home, "who scrolls past the chart does not zoom"
    page.evaluate("window.scrollTo(0, 0)")
    plot.focus()
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(100)
    assert ticks(page) != home
    page.keyboard.press("0")
    assert ticks(page) == home
    for key in ("+", "-", "Shift+ArrowRight"):
        page.keyboard.press(key)
        assert ticks(page) != home, key
        page.keyboard.press("0")
    page.get_by_role("button", name="All: zoom").click()
    page.get_by_role("button", name="Front: zoom").click()
    assert ticks(page) == home
    drag(page, [(0.5, 0.5), (0.4, 0.4)])
    assert ticks(page) != home
    page.mouse.dblclick(box["x"] + 500, box["y"] + 300)
    assert ticks(page) == home


def test_the_table_of_the_front_stands_for_the_chart(page: Any, front: Front) -> None:
    page.get_by_text("The front as a table").click()
    table = page.locator(".scatter table")
    assert table.locator("tbody tr").count() == len(front.list_front())
    assert table.locator("tbody tr td:first-child").all_inner_texts() == [
        p.digest for p in front.list_front()
    ]
    plot = page.locator(".plot")
    label = plot.get_attribute("aria-label")
    assert re.match(r"accuracy over latency, search default\. \d+ points on the front", label)


def test_names_of_a_stranger_make_nothing(browser: Any, written: Path) -> None:
    path = written / "stranger-out" / PAGE
    page = open_page(browser, path)
    page.locator(".plot").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    requests, errors = page.heard
    for made in ("img", "a[href*=evil]", "iframe"):
        assert page.locator(made).count() == 0, made
    assert "<img src=http://evil.example/j.png>" in page.locator("body").inner_text()
    assert (requests, errors) == ([path.as_uri()], [])
    page.context.close()


@pytest.mark.parametrize(
    ("dark", "width"), [(False, 1280), (True, 1280), (False, 390), (True, 390)]
)
def test_light_and_dark_and_no_wider_than_the_screen(
    browser: Any, written: Path, dark: bool, width: int
) -> None:
    page = open_page(browser, written / "run-out" / PAGE, dark=dark, width=width)
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    color = page.evaluate("getComputedStyle(document.querySelector('h1')).color")
    assert color == f"rgb{DARK if dark else LIGHT}"
    # What is drawn on the canvas: something, and in colours of its own.
    shades = page.evaluate(
        """() => {
          const canvas = document.querySelector(".plot canvas");
          const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const found = new Set();
          for (let n = 0; n < data.length; n += 4)
            if (data[n + 3] === 255) found.add([data[n], data[n + 1], data[n + 2]].join());
          return [...found];
        }"""
    )
    blue = "79,168,224" if dark else "0,114,178"
    assert blue in shades
    cut = page.evaluate(
        """() => [...document.querySelectorAll(".plot text")].filter((text) => {
          const [box, plot] = [text, text.closest(".plot")].map((e) => e.getBoundingClientRect());
          return box.left < plot.left - 1 || box.right > plot.right + 1;
        }).map((text) => text.textContent)"""
    )
    assert cut == []
    if PICTURES:
        name = f"report-{'dark' if dark else 'light'}-{width}.png"
        page.screenshot(path=str(Path(PICTURES) / name), full_page=True)
    page.context.close()


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 390)])
def test_the_page_can_be_used_by_everybody(
    browser: Any, written: Path, dark: bool, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(browser, written / "run-out" / PAGE, dark=dark, width=width)
    for more in page.locator("summary").all():
        more.click()
    page.locator("[data-part=points] tbody button").first.click()
    found = [
        (violation["id"], [node["html"][:200] for node in violation["nodes"]])
        for violation in axe.run(page).response["violations"]
    ]
    page.context.close()
    assert found == []


def test_without_scripts_there_are_headings_tables_and_pictures(
    browser: Any, written: Path
) -> None:
    context = browser.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto((written / "run-out" / PAGE).as_uri())
    # A browser of tests leaves out the sentence itself: test_static_page.py has it.
    assert page.get_by_role("heading", name="Search default").is_visible()
    assert page.get_by_text("Some Processor (6/1/1)").is_visible()
    assert page.locator(".picture svg").first.is_visible()
    context.close()
