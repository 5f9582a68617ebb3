"""How long people wait for the explorer on 50,000 evaluations, 45 choices and 8 devices.

python benchmarks/explorer_scale.py
python benchmarks/explorer_scale.py --dashboard /path/to/environment/bin/optuna-dashboard
python benchmarks/explorer_scale.py --rows 2000 --write /tmp/run

A cold start reaches from the start of the process to the first chart in a headless Chromium that is
open already; ``plain`` is the same for a page of Streamlit with one small chart. An interaction
reaches from the input to the page that is drawn. With optuna-dashboard, which is no dependency,
the same evaluations are measured in it as well; writing them as a study takes minutes, and
``--study`` keeps it. The machine has to be idle; where it is not, the seconds of ``plain`` say how
much that adds, and processor time is as it would be.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _dashboard import measure_dashboard, write_study
from _interactions import WATCH, list_interactions, list_screens
from _large_run import write_large_run
from _options import read_options
from _served import (
    chromium,
    find_free_port,
    measure_memory,
    measure_processor,
    new_page,
    started,
    wait_for_answer,
)

from app.records.columns.evaluation_columns import read_evaluations

# A chart that is there: Vega says so by its role, and so does the explorer's own.
CHART = "[role=graphics-document] path, [role=application][aria-label]"
_HEALTH = "/_stcore/health"
_PLAIN = """
import altair, pandas, streamlit
streamlit.altair_chart(
    altair.Chart(pandas.DataFrame({"x": [1, 2], "y": [1, 3]})).mark_point().encode(x="x", y="y")
)
"""


def main() -> None:
    args = read_options(
        __doc__,
        rows=50_000,
        repeats=5,
        run="",
        write="",
        browser="chromium",
        dashboard="",
        study="",
    )
    if args.write:
        write_large_run(Path(args.write), args.rows)
        return
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(args.run or Path(scratch) / "run")
        if not args.run:
            write_large_run(run, args.rows)
        found: dict[str, Any] = {"rows": args.rows, "reading_seconds": time_reading(run)}
        with chromium(args.browser) as browser:
            found |= measure_explorer(browser, run, args.repeats)
            found["plain"] = measure_plain(browser, Path(scratch), args.repeats)
            if args.dashboard:
                study = Path(args.study or Path(scratch) / "study.log")
                if not study.exists():
                    write_study(study, run / "searches/default")
                found["optuna_dashboard"] = measure_dashboard(browser, args.dashboard, study)
    print(json.dumps(found, indent=2))


def time_reading(run: Path) -> dict[str, float]:
    """Seconds of reading the log of evaluations as it is shown."""
    log = run / "evaluations.jsonl"
    log.with_name("evaluations.columns.npz").unlink(missing_ok=True)
    first = _time(lambda: read_evaluations(log, _refuse))
    again = min(_time(lambda: read_evaluations(log, _refuse)) for _ in range(3))
    return {"without_columns": round(first, 3), "with_columns": round(again, 3)}


def measure_explorer(browser: Any, run: Path, repeats: int) -> dict[str, Any]:
    """Cold starts, interactions and memory."""
    _say("cold starts")
    starts = [_start_explorer(browser, run) for _ in range(repeats)]
    _say("interactions")
    port = find_free_port()
    with started(_explore(run, port)) as pid, new_page(browser) as page:
        page.add_init_script(WATCH)
        wait_for_answer(f"http://localhost:{port}{_HEALTH}")
        page.goto(f"http://localhost:{port}")
        page.locator(CHART).first.wait_for()
        seconds = {
            name: [interaction() for _ in range(repeats)]
            for name, interaction in list_interactions(page)
        }
        screens = {name: interaction() for name, interaction in list_screens(page)}
        memory = measure_memory(pid)
    every = [second for found in seconds.values() for second in found]
    return {
        "cold_start_seconds": _summarise(starts),
        "interaction_seconds": {
            name: round(statistics.median(found), 3) for name, found in seconds.items()
        },
        "interaction_median": round(statistics.median(every), 3),
        "interaction_95th": round(float(np.quantile(every, 0.95)), 3),
        "first_look_at_screen_seconds": {n: round(value, 3) for n, value in screens.items()},
        "memory": memory,
    }


def _explore(run: Path, port: int) -> list[str]:
    command = [sys.executable, "-m", "supernet", "explore", str(run)]
    return [*command, "--port", str(port), "--headless"]


def _start_explorer(browser: Any, run: Path) -> dict[str, float]:
    port = find_free_port()
    return _time_start(browser, _explore(run, port), port)


def measure_plain(browser: Any, folder: Path, repeats: int) -> dict[str, float]:
    """Cold starts of Streamlit with a chart of three points."""
    _say("cold starts of a plain page")
    script = folder / "plain.py"
    script.write_text(_PLAIN, encoding="utf-8")
    found = []
    for _ in range(repeats):
        port = find_free_port()
        flags = [f"--server.port={port}", "--server.headless=true", "--server.address=localhost"]
        flags += ["--browser.gatherUsageStats=false", "--server.fileWatcherType=none"]
        command = [sys.executable, "-m", "streamlit", "run", str(script), *flags]
        found.append(_time_start(browser, command, port))
    return _summarise(found)


def _time_start(browser: Any, command: list[str], port: int) -> dict[str, float]:
    """Seconds from the start of a process to its answer, and to the first chart.

    The processor time of the server tells what a busy machine adds.
    """
    address = f"http://localhost:{port}"
    with new_page(browser) as page:
        begun = time.perf_counter()
        with started(command) as pid:
            wait_for_answer(f"{address}{_HEALTH}")
            answered = time.perf_counter() - begun
            page.goto(address, wait_until="commit")
            page.locator(CHART).first.wait_for()
            chart = time.perf_counter() - begun
            return {
                "first_answer": answered,
                "first_chart": chart,
                "server_processor": measure_processor(pid),
            }


def _summarise(found: list[dict[str, float]]) -> dict[str, float]:
    """Medians, and the slowest chart."""
    medians = {name: statistics.median(f[name] for f in found) for name in found[0]}
    slowest = max(f["first_chart"] for f in found)
    return {name: round(value, 2) for name, value in {**medians, "slowest": slowest}.items()}


def _time(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _refuse(warning: str) -> None:
    raise AssertionError(warning)


if __name__ == "__main__":
    main()
