"""The Streamlit page on run directories, as `app.explorer.serve` serves it."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this folder on the path, where its modules would hide others of their names; from
# a checkout `app` needs the one that holds it.
if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    del sys.path[0]
if str(Path(__file__).resolve().parents[2]) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.explorer import audit_panel, markup, tabs
from app.explorer.local_requests import is_local
from app.explorer.markup import write_text
from app.explorer.opened import Unreadable, isolated, open_run, outline_run
from app.records import numbers, picking
from app.records.formats import list_formats, read_formats
from app.records.front import Front, Point
from app.records.quantities import Quantity, find_stored_quantity
from app.reporting.front_chart import CLICKED, Emphasis, draw_front
from app.reporting.markdown import write_code
from app.runs import command_lines, run_view
from app.runs.run_view import RunView

NONE = "nothing"


def main(arguments: list[str]) -> None:
    """Draw the page for the run directories named on the command line."""
    st.set_page_config(page_title="Supernet explorer", page_icon="🔎", layout="wide")
    # The server refuses strangers; should it be another than the one that does, this does.
    if not is_local(st.context.headers.get_all("Host") or ["localhost"]):
        st.stop()
    st.markdown(markup.STYLE, unsafe_allow_html=True)
    runs = run_view.find_runs([Path(name) for name in arguments or ["."]])
    missing = [name for name in arguments if not run_view.find_runs([Path(name)])]
    for name in missing:
        st.error(
            f"{write_text(name)} is not a run directory: it has no run.json, and no folder in "
            "it has one."
        )
    if not runs:
        st.title("Supernet explorer")
        st.info("There is no run to show. Make one, then open it:")
        st.code("supernet quickstart --out RUN\nsupernet explore RUN", language="bash")
        return
    with st.sidebar:
        st.markdown("### Supernet explorer")
        path = st.selectbox("Run", runs, format_func=lambda p: _shorten(p, runs), key="run")
    path = path or runs[0]
    run = open_run(path)
    if isinstance(run, Unreadable):
        st.error(write_text(run.reason))
    else:
        _show_run(runs, run)
    _list_unreadable([other for other in runs if other != path])


def _show_run(runs: list[Path], run: RunView) -> None:
    front = _select_search(run)
    with isolated("The header of this run"):
        _show_header(run, front)
    with isolated("This search"):
        if front is None:
            _suggest_next(run)
        elif not front.points:
            st.info("This search has not evaluated anything yet; run its command again to go on.")
        else:
            _show_front(run, front, _select_overlays(runs, run, front))
    with isolated("The audits of this run"):
        audit_panel.show_audits(run.path)


def _list_unreadable(others: list[Path]) -> None:
    """Name the runs that cannot be chosen, and why, below the one that is shown."""
    reasons = [found.reason for p in others if isinstance(found := outline_run(p), Unreadable)]
    if reasons:
        title = f"{len(reasons)} other run{'s' if reasons[1:] else ''} could not be read"
        with st.expander(title):
            for reason in reasons:
                st.warning(write_text(reason))


def _shorten(path: Path, runs: list[Path]) -> str:
    name = path.resolve().name
    same = [p for p in runs if p.resolve().name == name]
    return name if len(same) == 1 else str(path)


def _select_search(run: RunView) -> Front | None:
    """Device and search selectors; the search made for the chosen device."""
    # Devices that have a search come first, so that the page opens with something to see.
    names = list(dict.fromkeys((*(f.device for f in run.fronts.values()), *run.devices)))
    if not names:
        return None
    with st.sidebar:
        device = st.selectbox(
            "Device", names, format_func=lambda d: d or "none", key=f"device {run.path}"
        )
        mine = [name for name, front in run.fronts.items() if front.device == device]
        if not mine:
            return None
        name = st.selectbox("Search", mine, key=f"search {run.path} {device}")
    return run.fronts[str(name)]


def _select_overlays(runs: list[Path], run: RunView, front: Front) -> list[tuple[str, Front]]:
    """Fronts of other searches with the same two figures, as chosen in the sidebar."""
    wanted = (front.quality.name, front.cost.name)
    found: dict[str, tuple[Path, str]] = {}
    for path in runs:
        searches = outline_run(path)
        if isinstance(searches, Unreadable):
            continue  # It is named below, with the reason.
        for search in searches:
            here = path == run.path and search.name == front.search
            if not here and (search.quality, search.cost) == wanted:
                name = f"{_shorten(path, runs)} / {search.name} ({search.device})"
                found[name] = (path, search.name)
    if not found:
        return []
    with st.sidebar:
        chosen = st.multiselect("Draw beside it", list(found), key=f"overlay {run.path}")
    overlays = []
    for label in chosen:
        path, search_name = found[label]
        other = open_run(path)
        if not isinstance(other, Unreadable) and search_name in other.fronts:
            overlays.append((label, other.fronts[search_name]))
    return overlays


# -- header ----------------------------------------------------------------------------------------


def _show_header(run: RunView, front: Front | None) -> None:
    st.markdown(f"## {write_text(run.path.resolve().name)}")
    family = f"{run.family} ({run.preset})" if run.preset else run.family
    entries = [("Family", family, ""), ("Data", run.data, "")]
    if run.precision:
        entries.append(("Precision", run.precision.replace(",", ", "), "a choice of each unit"))
    if run.space is not None:
        size = numbers.format_space_size(run.space.size)
        entries.append(
            ("Search space", size, f"networks, {numbers.format_items(len(run.space), 'choice')}")
        )
        for label, member in (("Largest", run.space.largest), ("Smallest", run.space.smallest)):
            quality = run_view.find_quality(run, member.digest)
            if quality is not None:
                judged = find_stored_quantity(quality.objective, quality.unit, "maximize")
                split = {"val": "validation"}.get(quality.split, quality.split)
                title = f"{label}, {split} {quality.objective}"
                entries.append((title, judged.show(quality.value), ""))
    if front is not None and front.evaluations:
        note = f"evaluations, {front.strategy}".rstrip(", ")
        entries.append(("Search", f"{front.evaluations:,}", note))
    st.markdown(markup.write_facts(entries), unsafe_allow_html=True)
    _show_table_verdict(run, front)
    if run.problems:
        count = len(run.problems)
        with st.expander(f"{numbers.format_items(count, 'file')} could not be used", expanded=True):
            for problem in run.problems:
                st.warning(write_text(problem))


def _show_table_verdict(run: RunView, front: Front | None) -> None:
    names = [front.device] if front is not None else list(run.devices)
    for name in names:
        device = run.devices.get(name)
        if device is None:
            continue
        title = f"Latency table of **{write_text(name)}**"
        if device.description:
            title += f" ({write_text(device.description)})"
        report = device.report
        if report is None:
            st.warning(f"{title} has not been validated: treat table latencies as a guess.")
            continue
        verdict = write_text(report.verdict) or "It carries no verdict."
        figures = markup.describe_table(report)
        if report.trustworthy:
            st.caption(f"{title}: trustworthy · {figures}", help=verdict)
        else:
            st.warning(
                f"{title}. {verdict} Rely only on measured latencies of verified picking.  \n"
                f"{figures}"
            )


def _suggest_next(run: RunView) -> None:
    step = run_view.suggest_command(run)
    if step is None:
        st.info("No search was made for this device; choose another one on the left.")
        return
    st.info(f"{write_text(step[0])} Run next:")
    st.code(step[1], language="bash")


# -- front, budget and chosen subnetwork -----------------------------------------------------------


def _show_front(run: RunView, front: Front, overlays: list[tuple[str, Front]]) -> None:
    key = f"{run.path} {front.search}"
    left, right = st.columns([1.75, 1], gap="large")
    with right:
        budget = _ask_budget(front, key)
        chosen = _show_chosen(run, front, budget)
    compared = _select_compared(front, chosen, key)
    with left:
        first, second, third = st.columns([1, 1, 1.1], vertical_alignment="bottom")
        with first:
            x = _ask_axis("Horizontal", front, front.cost, f"x {key}")
        with second:
            y = _ask_axis("Vertical", front, front.quality, f"y {key}")
        behind = third.checkbox("Show other evaluated points", key=f"behind {key}")
        emphasis = Emphasis(
            chosen=chosen.digest if chosen else None,
            compared=compared.digest if compared else None,
            budget=budget,
            behind=behind,
            others=overlays,
        )
        st.altair_chart(
            draw_front(front, x, y, emphasis),
            key=f"front {key}",
            on_select=lambda: compare_clicked(front, key),
            selection_mode=CLICKED,
        )
        method = front.latency_method
        st.caption(
            "Bars are 95 % intervals. Click a point to compare it with the chosen one.",
            help=f"Latency: {write_text(method)}" if method else None,
        )
    tabs.show_tabs(run, front, chosen, compared, key)


def _ask_axis(label: str, front: Front, default: Quantity, key: str) -> Quantity:
    axes = {axis.axis_label: axis for axis in front.axes}
    names = list(axes)
    return axes[str(st.selectbox(label, names, names.index(default.axis_label), key=key))]


def _ask_budget(front: Front, key: str) -> float | None:
    """The budget in the stored unit of the front's cost; ``None`` when nothing was measured."""
    costs = front.column(front.cost.name).value[front.measured].tolist()
    if not costs:
        st.warning(
            "No point of this search was verified by measurement yet. "
            "Running the search command again finishes the verification."
        )
        return None
    scale = front.cost.scale
    low, high = 0.85 * min(costs) * scale, max(costs) * scale
    step = 10.0 ** math.floor(math.log10((high - low or 1.0) / 100))
    low, high = math.floor(low / step) * step, (math.floor(high / step) + 1) * step
    start = picking.pick_knee(front)
    wanted = front.limits.get(front.cost.name)
    value = start.best(front.cost.name) if start else max(costs)
    value = (value if wanted is None else wanted) or max(costs)
    # Rounding up keeps the point that the default was taken from within the budget.
    value = min(max(math.ceil(value * scale / step) * step, low), high)
    decimals = max(0, -math.floor(math.log10(step)))
    label = f"{front.cost.title.capitalize()} budget ({front.cost.shown_unit})"
    budget = st.slider(
        write_text(label + _describe_place(front)),
        round(low, 9),
        round(high, 9),
        round(value, 9),
        step,
        format=f"%.{decimals}f",
        key=f"budget {key}",
    )
    return float(budget) / scale


def _describe_place(front: Front) -> str:
    """On which device a latency budget is spent, and whether latencies were measured there."""
    if not front.cost.per_device:
        return ""
    device = front.cost.device or front.device
    return f", {'by the table of' if device in front.unmeasured else 'measured on'} {device}"


def _show_chosen(run: RunView, front: Front, budget: float | None) -> Point | None:
    if budget is None:
        return None
    cost, quality = front.cost, front.quality
    answer = picking.pick(front, budget)
    if answer.point is None:
        nearest = answer.nearest
        if nearest is not None:
            sentence = (
                f"No verified subnetwork meets {cost.show(budget)}: the nearest feasible is "
                f"{nearest.digest} with {cost.show(nearest.best(cost.name))} and "
                f"{quality.show(nearest.best(quality.name))} {quality.title}."
            )
            st.error(write_text(sentence))
        return None
    point = answer.point
    with st.container(border=True):
        st.markdown(f"Recommended within the budget: **{write_code(point.digest)}**")
        st.markdown(
            markup.write_facts(_list_figures(front, point), grid=True), unsafe_allow_html=True
        )
        formats = read_formats(point.choices)
        if formats:
            st.caption(write_text(f"Precision: {list_formats(formats)}."))
    if answer.ties:
        assert answer.best is not None
        others = numbers.format_items(len(answer.ties), "other verified subnetwork")
        sentence = (
            f"{others} within the budget cannot be told apart from it in {quality.title}, of which "
            f"it is the cheapest; the highest is {answer.best.digest} with "
            f"{quality.show(answer.best.best(quality.name))}."
        )
        st.caption(write_text(sentence))
    if cost.per_device:
        pick = command_lines.pick_command(run.path, front.search, budget)
        st.caption("The same from the command line")
        export = command_lines.export_command(
            run.path, point.digest, Path(f"exported-{point.digest}")
        )
        st.code(f"{pick}\n{export}", language="bash", wrap_lines=True)
    return point


def _list_figures(front: Front, point: Point) -> list[tuple[str, str, str]]:
    entries = []
    for axis in front.axes:
        estimate = point.estimate(axis.name)
        if estimate.best is None:
            continue
        interval = estimate.interval
        note = ""
        if interval is not None:
            low, high = interval
            wide = max(estimate.best - low, high - estimate.best) * axis.scale
            note = f"± {numbers.format_digits(wide, 2)}" if wide else ""
        entries.append((axis.title.capitalize(), axis.show(estimate.best), note))
        if estimate.test is not None:
            entries.append((f"Test {axis.title}", axis.show(estimate.test), ""))
    return entries


def compare_clicked(front: Front, key: str) -> None:
    """Compare with the point of this front that was clicked; a click elsewhere changes nothing."""
    event = st.session_state.get(f"front {key}") or {}
    found = event.get("selection", {}).get(CLICKED, [])
    if found and found[0].get("digest") in front.labels:
        st.session_state[f"compare {key}"] = found[0]["digest"]


def _select_compared(front: Front, chosen: Point | None, key: str) -> Point | None:
    labels = front.labels
    with st.sidebar:
        name = st.selectbox(
            "Compare the chosen one with",
            [NONE, *labels],
            format_func=lambda d: labels.get(d, d),
            key=f"compare {key}",
        )
    if name == NONE or (chosen is not None and name == chosen.digest):
        return None
    return front.find_point(str(name))


if __name__ == "__main__":
    main(sys.argv[1:])
