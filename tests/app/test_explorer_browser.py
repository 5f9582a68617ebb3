"""The explorer in a real Chromium: served as a user serves it, driven by mouse and keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.analysis.regions import Region, find_inside
from app.explorer.views.view_state import ViewState, read_query, write_query
from app.records.searches import picking
from app.records.searches.front import Front
from app.runs import run_view
from tests.app.chromium import listen, open_chromium
from tests.app.served import keep_picture, serve_runs, wait_until_idle
from tests.toys.explored_runs import write_hostile_run, write_run

pytestmark = pytest.mark.browser

WAIT_MS = 60_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A run directory and the address under which a real server shows it."""
    run = tmp_path_factory.mktemp("browser") / "digits-run"
    write_run(run)
    write_hostile_run(run.parent / "of-a-stranger")
    with serve_runs([run, run.parent / "of-a-stranger"], run.parent) as address:
        yield run, address


@pytest.fixture(scope="module")
def front(served: tuple[Path, str]) -> Front:
    return run_view.load_run(served[0]).fronts["default"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails its test where it reports an error or asks another machine."""
    opened = open_tab(browser)
    yield opened
    requests, errors = opened.heard
    opened.context.close()
    assert errors == []
    # Everything comes from this machine: the page works without a network.
    assert {re.sub(r"^\w+://([^/:]+).*", r"\1", address) for address in requests} <= {
        "localhost", *(a for a in requests if a.startswith(("data:", "blob:")))
    }  # fmt: skip


def open_tab(browser: Any) -> Any:
    context = browser.new_context(viewport={"width": 1500, "height": 1100})
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.heard = listen(page)
    return page


def named(page: Any, digest: str) -> None:
    """Wait until the page names ``digest`` as the recommended subnetwork."""
    page.locator("p", has_text="Recommended within the budget").locator(
        "code", has_text=digest
    ).wait_for()


def chart(page: Any) -> Any:
    found = page.locator(".scatter .plot")
    found.wait_for()
    return found


def find_state(page: Any) -> ViewState:
    """What the address of a page says."""
    from urllib.parse import parse_qs, urlsplit

    state, dropped = read_query(parse_qs(urlsplit(page.url).query, keep_blank_values=True))
    assert dropped == ()
    return state


def test_moving_the_slider_changes_the_named_subnetwork(
    served: tuple[Path, str], page: Any, front: Front
) -> None:
    page.goto(served[1])
    members = picking.list_measured(front)
    chart(page)
    keep_picture(page, "front")
    slider = page.locator("[data-testid=stSlider] input")
    slider.focus()
    page.keyboard.press("End")
    recommended = picking.pick(front, 1e9).point
    assert recommended is not None
    named(page, recommended.digest)
    page.keyboard.press("Home")
    page.get_by_text("No verified subnetwork meets").wait_for()
    assert page.locator("code", has_text=members[0].digest).count() == 0
    steps = 0
    while page.get_by_text("No verified subnetwork meets").count() and steps < 60:
        page.keyboard.press("ArrowRight")
        # The slider reports after a moment; the page has to follow before the next step.
        page.wait_for_timeout(300)
        wait_until_idle(page)
        steps += 1
    named(page, members[0].digest)
    assert find_state(page).budgets[0] >= (members[0].best("latency_ms") or 9)


def test_every_screen_opens_by_keyboard(served: tuple[Path, str], page: Any) -> None:
    page.goto(served[1])
    chart(page)
    page.get_by_role("tab", name="Front", exact=True).focus()
    for screen, text in (
        ("Network", "The units add up to"),
        ("Compare", "Nothing is beside it yet"),
        ("Space", "is a column, cheapest on the left"),
        ("Devices", "Predicted against measured"),
        ("Predictors", "Report card of the predictor"),
        ("Search", "Progress of the search"),
        ("Training", "Training of the supernet"),
        ("Runs", "Fronts over each other"),
    ):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        panel = page.locator("[role=tabpanel]:visible")
        panel.get_by_text(text).first.wait_for()
        assert find_state(page).screen == screen
        wait_until_idle(page)
        keep_picture(page, screen.lower())
        page.get_by_role("tab", name=screen, exact=True).focus()


def test_a_point_is_chosen_and_kept_by_keyboard_alone(
    served: tuple[Path, str], page: Any, front: Front
) -> None:
    page.goto(served[1])
    chart(page).focus()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.get_by_text("Chosen by hand").wait_for()
    digest = find_state(page).chosen
    assert front.find_point(digest) == front.list_front()[-1]
    page.get_by_role("button", name="Keep to compare").press("Enter")
    page.get_by_role("button", name="Back to the best within the budget").press("Enter")
    best = picking.pick_knee(front)
    assert best is not None
    page.get_by_text("Recommended within the budget").wait_for()
    page.get_by_role("tab", name="Compare", exact=True).press("Enter")
    page.get_by_text("choices differ").wait_for()
    page.get_by_text("Shapley").wait_for()
    wait_until_idle(page)
    assert page.locator(".genes .changed").count() > 0
    assert find_state(page) == ViewState(screen="Compare", compared=(digest,))
    keep_picture(page, "compare-why")


def test_a_box_selects_and_an_address_restores_all_of_it(
    served: tuple[Path, str], page: Any, front: Front, browser: Any
) -> None:
    page.goto(f"{served[1]}?shown=dominated")
    box = chart(page).bounding_box()
    page.locator(".scatter button", has_text="Box").click()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"], steps=5)
    page.mouse.up()
    # A tab that was left may still hold what it showed.
    said = page.locator("[role=tabpanel]:visible").get_by_text("points are selected")
    said.wait_for()
    region = find_state(page).region
    assert region is not None
    columns = [front.column(name).best for name in (region.x, region.y)]
    count = int(find_inside(region, *columns).sum())
    assert 0 < count < len(front.points)
    assert said.inner_text().startswith(f"{count} of {len(front.points)} points")

    page.get_by_role("button", name="Add a budget").click()
    page.locator("[data-testid=stNumberInput] input").wait_for()
    wait_until_idle(page)
    page.get_by_role("tab", name="Space", exact=True).click()
    page.get_by_text("is a column, cheapest on the left").wait_for()
    wait_until_idle(page)
    here = find_state(page)
    assert here.screen == "Space"
    assert len(here.budgets) == 2
    assert here.region == region

    other = open_tab(browser)
    other.goto(page.url)
    other.get_by_text("is a column, cheapest on the left").wait_for()
    wait_until_idle(other)
    assert find_state(other) == here
    # What is done in one browser stays there.
    other.get_by_role("tab", name="Front", exact=True).click()
    chart(other)
    wait_until_idle(other)
    panel = other.locator("[role=tabpanel]:visible")
    panel.locator("[data-testid=stButton]", has_text="Clear selection").click()
    panel.get_by_text("points are selected").wait_for(state="detached")
    other.wait_for_url(lambda address: "region" not in address)
    page.get_by_role("tab", name="Front", exact=True).click()
    said.wait_for()
    wait_until_idle(page)
    assert find_state(page).region == region
    assert find_state(other).region is None
    other.context.close()


def test_an_address_reads_nothing_but_the_runs_that_were_given(
    served: tuple[Path, str], page: Any
) -> None:
    outside = served[0].parent / "not-given"
    write_run(outside, seed=5)
    state = ViewState(
        run=str(outside), search="../../not-given/searches/default", device="/etc", x="/etc/passwd",
        chosen="ffffffffffff", region=Region("a", "b", "box", ((0.0, 0.0), (1.0, 1.0))),
    )  # fmt: skip
    query = "&".join(f"{key}={value}" for key, found in write_query(state).items()
                     for value in found)  # fmt: skip
    page.goto(f"{served[1]}?{query}")
    page.get_by_text("The address named what is not here").wait_for()
    page.get_by_role("heading", name="digits-run").wait_for()
    chart(page)
    wait_until_idle(page)
    assert page.get_by_text("not-given").count() == 0
    assert find_state(page) == ViewState()


def test_back_and_forward_lead_through_what_was_looked_at(
    served: tuple[Path, str], page: Any
) -> None:
    page.goto(served[1])
    chart(page)
    for screen in ("Network", "Runs"):
        page.get_by_role("tab", name=screen, exact=True).click()
        page.wait_for_url(f"**screen={screen}")
        wait_until_idle(page)
    for move, screen in ((page.go_back, "Network"), (page.go_back, "Front"),
                         (page.go_forward, "Network")):  # fmt: skip
        move()
        page.locator("[role=tab][aria-selected=true]", has_text=screen).wait_for()
        wait_until_idle(page)
        assert find_state(page).screen == screen


def test_a_run_that_grows_says_so(served: tuple[Path, str], page: Any) -> None:
    page.goto(served[1])
    chart(page)
    assert page.get_by_text("has grown or changed").count() == 0
    with (served[0] / "evaluations.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"torn')
    page.get_by_text("has grown or changed").wait_for()
    page.get_by_role("button", name="Show what is new").click()
    page.get_by_text("has grown or changed").wait_for(state="detached")
    chart(page)


def test_names_out_of_files_load_and_link_nothing(served: tuple[Path, str], page: Any) -> None:
    page.goto(f"{served[1]}?run=of-a-stranger&shown=dominated")
    page.get_by_role("heading", name="of-a-stranger").wait_for()
    plot = chart(page)
    plot.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_text("Chosen by hand").wait_for()
    page.get_by_role("button", name="Keep to compare").click()
    page.get_by_role("button", name="Back to the best within the budget").click()
    for screen in ("Network", "Compare", "Space", "Devices", "Predictors", "Search", "Runs"):
        page.get_by_role("tab", name=screen, exact=True).click()
        page.locator("[role=tabpanel]:visible").wait_for()
        wait_until_idle(page)
        assert page.get_by_text("cannot be shown").count() == 0, screen
        for made in ("a[href*=evil]", "img[src*=evil]", "img[src*=http]", ".katex"):
            assert page.locator(made).count() == 0, (screen, made)
    # What was written is what is read.
    shown = page.locator("body").inner_text().replace("\N{WORD JOINER}", "")
    assert "![x](http://evil.example/i.png) [l](https://evil.example/a) www.evil.example" in shown
    assert "a@evil.example $x$ :red[r] <img src=http://evil.example/j.png>" in shown
