"""Seconds of every interaction with the explorer on a front of many points.

python benchmarks/explorer.py --points 4000
python benchmarks/explorer.py --points 20000 --browser chromium

In process, Streamlit's test driver runs the page and draws nothing, and processor time is counted;
the seconds of a browser reach from the input to the page that is finished, transfer and drawing
included, and need an idle machine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _options import read_options
from streamlit.testing.v1 import AppTest

from app.commands.serve_explorer import prepare
from app.explorer import page as page_module
from supernet.families import ofa_mobilenetv3
from supernet.space import Architecture

PORT = 8788
FINISHED = "[data-testid=stApp][data-test-script-state=notRunning]"


def main() -> None:
    args = read_options(__doc__, points=4000, on_front=0.25, seed=0, browser="")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        write_run(run, args.points, args.on_front, args.seed)
        size = (run / "searches/default/front.json").stat().st_size
        found: dict[str, Any] = {"points": args.points, "front_megabytes": round(size / 1e6, 1)}
        found["processor_seconds"] = time_in_process(run)
        if args.browser:
            found["seconds_in_browser"] = time_in_browser(run, args.browser)
    print(json.dumps(found, indent=2))


def time_in_process(run: Path) -> dict[str, float]:
    """Processor seconds of each interaction, the least of three."""
    sys.argv = ["page.py", str(run)]
    page = AppTest.from_file(str(page_module.__file__), default_timeout=600)
    first = _time(page.run, time.process_time)

    def run_changed(change: Callable[[int], object], number: int) -> None:
        change(number)
        page.run()

    def repeat(change: Callable[[int], object]) -> float:
        return min(_time(partial(run_changed, change, n), time.process_time) for n in range(3))

    def box(label: str) -> Any:
        return next(b for b in page.selectbox if label in b.label)

    slider = page.slider[0]
    digests = [option.partition(" ")[0] for option in box("Compare").options[1:]]
    axes = box("Horizontal").options
    seconds = {
        "first": first,
        "nothing_changed": repeat(lambda n: None),
        "budget": repeat(
            lambda n: page.slider[0].set_value(slider.min + (slider.max - slider.min) * (n + 1) / 4)
        ),
        "compared": repeat(lambda n: box("Compare").set_value(digests[n * 7])),
        "axis": repeat(lambda n: box("Horizontal").set_value(axes[n])),
        "other_points": repeat(lambda n: page.checkbox[0].set_value(n % 2 == 0)),
    }
    assert not page.exception
    return {name: round(value, 3) for name, value in seconds.items()}


def time_in_browser(run: Path, browser: str) -> dict[str, float]:
    """Seconds of each interaction in a Chromium at ``browser``, the least of three."""
    from playwright.sync_api import Error as BrowserError
    from playwright.sync_api import sync_playwright

    server = subprocess.Popen(prepare([run], PORT, headless=True), stdout=subprocess.DEVNULL)
    try:
        with sync_playwright() as playwright:
            opened = playwright.chromium.launch(
                executable_path=shutil.which(browser) or browser, args=["--no-sandbox"]
            )
            page = opened.new_page(viewport={"width": 1500, "height": 1500})
            page.set_default_timeout(120_000)
            for _ in range(120):
                try:
                    page.goto(f"http://localhost:{PORT}")
                    break
                except BrowserError:
                    time.sleep(0.5)
            page.get_by_role("slider").wait_for()
            page.locator(FINISHED).wait_for()

            def repeat(act: Callable[[], object]) -> float:
                return round(min(_time(lambda: _follow(page, act)) for _ in range(3)), 3)

            page.get_by_role("slider").focus()
            seconds = {"budget": repeat(lambda: page.keyboard.press("ArrowRight"))}
            behind = page.get_by_text("Show other evaluated points")
            seconds["other_points"] = repeat(behind.click)
            box = page.locator("[data-testid=stSidebar]").get_by_role("combobox").last

            def compare() -> None:
                box.click()
                page.keyboard.press("ArrowDown")
                page.keyboard.press("Enter")

            seconds["compared"] = repeat(compare)
            opened.close()
    finally:
        server.terminate()
        server.wait(timeout=20)
    return seconds


def _follow(page: Any, act: Callable[[], object]) -> None:
    """Act, and wait until the page has been run again and drawn."""
    # The state changes on the page a moment after the input; this sees it however short it is.
    page.evaluate(
        """() => { window.ran = new Promise(done => {
            const app = document.querySelector('[data-testid=stApp]');
            const seen = new MutationObserver(() => {
                if (app.dataset.testScriptState === 'running') window.started = true;
                if (window.started && app.dataset.testScriptState === 'notRunning') {
                    seen.disconnect(); window.started = false;
                    requestAnimationFrame(() => requestAnimationFrame(done));
                }
            });
            seen.observe(app, {attributes: true});
        }); }"""
    )
    act()
    page.evaluate("() => window.ran")


def _time(act: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    act()
    return clock() - start


def write_run(folder: Path, count: int, on_front: float, seed: int) -> None:
    """Write a run with a front of made-up figures over the full OFA-MobileNetV3 space."""
    space = ofa_mobilenetv3.make_space(ofa_mobilenetv3.PRESETS["imagenet"])
    rng = np.random.default_rng(seed)
    architectures = space.decode(space.sample(rng, count))
    points = [make_point(a, rng, rng.random() < on_front) for a in architectures]
    shape = {"task": "image-classification", "input": [3, 224, 224], "classes": 2,
             "labels": ["a", "b"], "mean": [0.5] * 3, "std": [0.3] * 3}  # fmt: skip
    _write(folder / "run.json", {
        "format": 1, "created": "2026-01-01T00:00:00+00:00", "family": "ofa_mobilenetv3",
        "preset": "imagenet", "family_config": {}, "seed": 0, "space": space.digest,
        "data": {"spec": "digits", "fingerprint": "made up", "shape": shape},
        "recipe": {}, "versions": {}, "stages": {"train": {"status": "complete"}},
    })  # fmt: skip
    _write(folder / "space.json", space.to_json())
    _write(folder / "searches/default/front.json", {
        "format": 1, "device": "cpu", "space": space.digest, "evaluations": count, "points": points,
        "objectives": [
            {"name": "accuracy", "unit": "fraction", "direction": "maximize"},
            {"name": "latency_ms", "unit": "ms", "direction": "minimize"},
        ],
    })  # fmt: skip
    volumes = "".join(f"{n},{1 - np.exp(-n / 500):.6f}\n" for n in range(1, count + 1))
    trace = folder / "searches/default/hypervolume.csv"
    trace.write_text(f"evaluations,hypervolume\n{volumes}", encoding="utf-8")


def make_point(
    architecture: Architecture, rng: np.random.Generator, verified: bool
) -> dict[str, Any]:
    """One entry of ``points``, with everything that a search writes of it."""
    latency = float(rng.uniform(10, 60))
    accuracy = 0.8 - 0.2 * float(np.exp(-latency / 15)) + 0.002 * float(rng.standard_normal())
    found = {"value": accuracy, "low": accuracy - 0.01, "high": accuracy + 0.01}
    timed = {"value": latency, "low": 0.98 * latency, "high": 1.02 * latency}
    return {
        "digest": architecture.digest,
        "architecture": architecture.to_dict(),
        "on_front": verified,
        "verified": verified,
        "objectives": {
            "accuracy": {"predicted": accuracy + 0.003, "source": "evaluated", **found},
            "latency_ms": {"predicted": 1.03 * latency, "source": "measured", **timed},
        },
        "parameters": int(1e5 * latency),
        "macs": int(1e7 * latency),
        "size_bytes": int(4e5 * latency),
        "breakdown": [{"unit": f"block.{n}", "latency_ms": latency / 22} for n in range(22)],
    }


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
