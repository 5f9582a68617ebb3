"""How a search went: its progress while it runs, its hypervolume, and what it tried when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.analysis.progress import share_values
from app.explorer.context import Context, linked
from app.explorer.derived import Selection, encode_points, find_effects, name_selection
from app.explorer.drawn import show_chart
from app.explorer.live_search import SILENCE, RunningSearch, list_running, watch_search
from app.explorer.markup import write_text
from app.explorer.opened import isolated, open_trace
from app.explorer.panels.header import show_next_step
from app.explorer.panels.selection_bar import show_selection
from app.records.numbers import format_items
from app.records.quantities import find_stored_quantity
from app.records.searches.front import Front
from app.reporting.charts.population_charts import (
    Population,
    draw_population,
    draw_values_over_time,
)
from app.reporting.charts.progress_charts import draw_hypervolume
from app.runs.run_view import RunView
from supernet.errors import InputError
from supernet.space import SearchSpace

# Seconds between two looks at a search that runs.
_EVERY = 2.0
_VALIDATION = "val"
_MOST_KEPT = 16

Places = NDArray[np.intp]


def show(context: Context) -> None:
    """Draw what runs at this moment, and how the search that is looked at went."""
    running = list_running(context.run.path)
    if running:
        silent = all(watch_search(context.run.path, one).silence > SILENCE for one in running)
        # Looked at again and again only while something is heard of.
        watch = st.fragment(_show_running, run_every=None if silent else _EVERY)
        watch(context.run.path, running)
    if context.front is not None or not running:
        _show_finished(context)


def _show_running(run: Path, before: Sequence[RunningSearch]) -> None:
    running = list_running(run)
    if {one.name for one in running} != {one.name for one in before}:
        # One has ended: its front is there now.
        st.rerun()
    for search in running:
        with isolated(f"The progress of search {search.name}"):
            _show_progress(run, search)


def _show_progress(run: Path, search: RunningSearch) -> None:
    found = watch_search(run, search)
    done = len(found.values)
    st.markdown(f"**Search {write_text(search.name)} is running**")
    planned = format_items(search.planned, "evaluation")
    st.progress(
        min(done / max(search.planned, 1), 1.0),
        text=f"{done:,} of at most {planned}; what was evaluated before is not made again.",
    )
    if found.silence > SILENCE:
        st.warning(
            f"Nothing was evaluated for {found.silence / 60:.0f} minutes. Should its command have "
            "been ended, it goes on from here when it is run again."
        )
    if done:
        axis = find_stored_quantity(found.objective, found.unit, "maximize")
        nowhere = np.zeros(done, dtype=np.bool_)
        population = Population(np.arange(1, done + 1), found.digests, found.values, nowhere)
        st.altair_chart(draw_population(population, axis), key=f"running {run} {search.name}")


@linked
def _show_finished(context: Context) -> None:
    front = context.front
    if front is None:
        show_next_step(context.run, context.place)
        return
    show_selection(context)
    selection = name_selection(context)
    left, right = st.columns(2, gap="large")
    with left, isolated("The progress of this search"):
        _show_hypervolume(context, selection, front)
    order = _order_points(context, selection, front)
    with right, isolated("The population of this search"):
        _show_population(context, selection, front, order)
    space = context.space
    if space is not None and len(order):
        with isolated("The values that were tried"):
            _show_values(context, selection, front, space, order)


def _show_hypervolume(context: Context, selection: Selection, front: Front) -> None:
    st.markdown("**Progress of the search**")
    try:
        rows = open_trace(context.run.path / "searches" / front.search, front.trace_digests)
    except (OSError, InputError) as error:
        st.warning(write_text(error))
        rows = ()
    if rows:
        show_chart(
            f"progress {context.key}",
            (selection[0], str(len(rows)), str(front.trace_digests)),
            lambda: draw_hypervolume(rows),
        )
    else:
        st.info("No progress was recorded for this search.")
    for sentence in (describe_volume(front), describe_end(front)):
        if sentence:
            st.caption(sentence)


def describe_volume(front: Front) -> str:
    """The hypervolume of a front, as predicted, verified and beside random search."""
    volume = front.hypervolume
    parts = []
    if volume.predicted is not None and volume.verified is not None:
        parts.append(
            f"Hypervolume of the front: {volume.predicted:.4g} as predicted, "
            f"{volume.verified:.4g} verified."
        )
    baseline = front.baseline
    if baseline is None:
        parts.append("Random search was not run beside it; its command with `--baseline` adds it.")
    elif baseline.hypervolume is not None:
        made = format_items(baseline.evaluations, "evaluation")
        parts.append(f"Random search found {baseline.hypervolume:.4g} with {made}.")
    return " ".join(parts)


def describe_end(front: Front) -> str:
    """Why a search ended, what failed, and how far noise blurs its front."""
    reasons = {
        "time": "its time limit",
        "stagnation": "a front that stood still",
        "exhausted": "a space that was used up",
    }
    parts = []
    if front.stopped in reasons:
        parts.append(f"The search ended by {reasons[front.stopped]}.")
    if front.failed:
        failed = format_items(
            front.failed, "evaluation failed and is", "evaluations failed and are"
        )
        parts.append(f"{failed} left out.")
    close = int(front.indistinguishable.sum())
    if close:
        parts.append(
            f"{format_items(close, 'further point is', 'further points are')} behind the front by "
            "less than the noise of their evaluations."
        )
    return " ".join(parts)


def _order_points(context: Context, selection: Selection, front: Front) -> Places:
    logged = len(context.run.evaluations)
    return _find_order(f"{selection[0]} {logged}", context.run, front)


@st.cache_resource(max_entries=_MOST_KEPT, show_spinner=False)
def _find_order(content: str, _run: RunView, _front: Front) -> Places:
    """Places of the points of a front in the order of the log; those that are not in it are not."""
    log = _run.evaluations
    mine = (log.split == _VALIDATION) & (log.checkpoint == _front.checkpoint)
    logged = dict.fromkeys(log.digest[mine].tolist())
    found = [place for digest in logged for place in _front.find_places(digest)]
    return np.array(found, dtype=np.intp)


def _show_population(context: Context, selection: Selection, front: Front, order: Places) -> None:
    st.markdown("**What was evaluated when**")
    if not len(order):
        st.info(
            "The log of this run does not hold what this search evaluated, so that the order of "
            "its evaluations is not known."
        )
        return
    axes = {axis.name: axis for axis in front.axes}
    name = st.selectbox(
        "Quantity",
        list(axes),
        list(axes).index(front.quality.name),
        format_func=lambda found: axes[found].axis_label,
        key=f"quantity {context.key}",
    )
    axis = axes[str(name)]
    kept = np.flatnonzero(context.kept[order])
    places = order[kept]
    population = Population(
        kept + 1, front.digests[places].tolist(), front.column(axis.name).value[places],
        front.on_front[places],
    )  # fmt: skip
    show_chart(
        f"population {context.key}",
        (*selection, axis.name, str(len(order))),
        lambda: draw_population(population, axis),
    )
    st.caption(
        "In the order of the log: what an earlier search had evaluated comes first. The line is "
        "the best so far."
    )


def _show_values(
    context: Context, selection: Selection, front: Front, space: SearchSpace, order: Places
) -> None:
    st.markdown("**Which values were tried when**")
    names = [choice.name for choice in space.choices if len(choice.values) > 1]
    name = str(
        st.selectbox(
            "Choice",
            names,
            names.index(_find_first(selection, front, space, names)),
            key=f"tried {context.key}",
        )
    )
    encoded = encode_points(selection[0], front, space)
    shown = encoded.select(order[context.kept[order] & encoded.known[order]])
    if not len(shown.rows):
        st.info("No network passes the filters.")
        return
    choice = space.choice(name)
    ends, shares = share_values(shown, space.index(name), len(choice.values))
    show_chart(
        f"values {context.key}",
        (*selection, name, str(len(order))),
        lambda: draw_values_over_time(name, [str(v) for v in choice.values], ends, shares),
    )


def _find_first(
    selection: Selection, front: Front, space: SearchSpace, names: Sequence[str]
) -> str:
    """The choice that matters most to the quality, or the first one where that is not known."""
    everything = np.ones(len(front.points), dtype=np.bool_)
    effects = find_effects((selection[0], "everything"), everything, front, space, front.quality)
    ranked = [] if effects is None else [effect.name for effect in effects.rank()]
    return next((name for name in ranked if name in names), names[0])
