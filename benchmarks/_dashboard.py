"""The same evaluations in optuna-dashboard, as a program of another environment."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import optuna
from _served import find_free_port, measure_memory, new_page, started, wait_for_answer
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from app.records.columns.stored_front import open_front

_CHART = ".js-plotly-plot .main-svg .trace, .js-plotly-plot .gl-canvas"
_NAME = "large"


def write_study(path: Path, search: Path) -> None:
    """Write the points of a search as a finished study.

    Args:
        path: The journal.
        search: Folder of the search.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    front = open_front(search)
    choices = front.choices
    known = {
        name: CategoricalDistribution(tuple(sorted(values)))
        for name, values in zip(choices.names, choices.values, strict=True)
    }
    directions = [objective.direction for objective in front.objectives]
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, study_name=_NAME, directions=directions)
    for point in front.points:
        params = dict(point.choices)
        latencies = {name: point.best(name) for name in point.estimates}
        trial = optuna.trial.create_trial(
            params=params,
            distributions={name: known[name] for name in params},
            values=[float(point.best(o.name) or 0.0) for o in front.objectives],
            user_attrs={"digest": point.digest, **latencies},
        )
        study.add_trial(trial)


def measure_dashboard(
    browser: Any, program: str, study: Path, seconds: float = 300
) -> dict[str, Any]:
    """Cold start to the first chart of the study, one interaction, and memory.

    Args:
        browser: A Chromium.
        program: Path of ``optuna-dashboard``.
        study: The journal.
        seconds: After which a chart is given up.
    """
    from playwright.sync_api import TimeoutError as NothingThere

    port = find_free_port()
    address = f"http://127.0.0.1:{port}"
    command = [program, str(study), "--port", str(port), "--host", "127.0.0.1"]
    with new_page(browser) as page:
        page.set_default_timeout(1000 * seconds)
        begun = time.perf_counter()
        with started(command) as pid:
            wait_for_answer(f"{address}/api/meta")
            answered = time.perf_counter() - begun
            page.goto(f"{address}/dashboard/studies/0", wait_until="commit")
            found: dict[str, Any] = {"first_answer": round(answered, 2)}
            try:
                page.locator(_CHART).first.wait_for()
                found["first_chart"] = round(time.perf_counter() - begun, 2)
                found["interaction_seconds"] = _time_interaction(page)
            except NothingThere:
                found["first_chart"] = f"none in {seconds:.0f} s"
            found["memory"] = measure_memory(pid)
    return found


def _time_interaction(page: Any, repeats: int = 3) -> float:
    """Median seconds of switching the axis of the history to a logarithm and back."""
    page.evaluate(
        """() => {
            const plot = document.querySelector('#plot-history .js-plotly-plot')
                || document.querySelector('#plot-history');
            plot.on('plotly_afterplot', () => { window.drawn = performance.now(); });
        }"""
    )
    found = []
    for _ in range(repeats):
        page.evaluate("() => { window.drawn = 0; window.begun = performance.now(); }")
        page.locator(".MuiSwitch-input").first.evaluate("found => found.click()")
        page.wait_for_function("() => window.drawn > 0")
        found.append(float(page.evaluate("() => window.drawn - window.begun")) / 1000)
    return round(statistics.median(found), 3)
