"""The Streamlit page on run directories: ``streamlit run app/explorer.py -- RUN [RUN...]``."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this folder, not its parent, on the path; from a checkout `app` needs the parent.
if str(Path(__file__).resolve().parents[1]) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app import charts, layers, markup, points, view, words
from app.points import Front, Objective, Point
from app.view import RunView

NONE = "nothing"
PLOT = {"displaylogo": False, "displayModeBar": False}


def main(arguments: list[str]) -> None:
    """Draw the page for the run directories named on the command line."""
    st.set_page_config(page_title="Supernet explorer", page_icon="🔎", layout="wide")
    st.markdown(markup.STYLE, unsafe_allow_html=True)
    runs = view.find_runs([Path(name) for name in arguments or ["."]])
    missing = [name for name in arguments if not view.find_runs([Path(name)])]
    for name in missing:
        st.error(f"{name} is not a run directory: it has no run.json, and no folder in it has one.")
    if not runs:
        st.title("Supernet explorer")
        st.info("There is no run to show. Make one, then open it:")
        st.code("supernet quickstart --out RUN\nsupernet explore RUN", language="bash")
        return
    with st.sidebar:
        st.markdown("### Supernet explorer")
        path = st.selectbox("Run", runs, format_func=lambda p: _short(p, runs), key="run")
    run = _open(path)
    if run is None:
        return
    front = _select_search(run)
    _header(run, front)
    if front is None:
        _nothing_to_show(run)
        return
    if not front.points:
        st.info("This search has not evaluated anything yet; run its command again to go on.")
        return
    _front_page(run, front, _select_overlays(runs, run, front))


def _open(path: Path) -> RunView | None:
    try:
        return view.load_run(path)
    except (OSError, ValueError) as error:
        st.error(_sentence(error))
        return None


def _short(path: Path, runs: list[Path]) -> str:
    name = path.resolve().name
    same = [p for p in runs if p.resolve().name == name]
    return name if len(same) == 1 else str(path)


def _select_search(run: RunView) -> Front | None:
    """Device and search selectors; the search made for the chosen device."""
    names = list(dict.fromkeys((*run.devices, *(f.device for f in run.fronts.values()))))
    with st.sidebar:
        device = st.selectbox("Device", names, key=f"device {run.path}") if names else None
        mine = [name for name, front in run.fronts.items() if front.device == device]
        if not mine:
            return None
        name = st.selectbox("Search", mine, key=f"search {run.path} {device}")
    return run.fronts[str(name)]


def _select_overlays(runs: list[Path], run: RunView, front: Front) -> list[tuple[str, Front]]:
    """Fronts of other searches with the same two figures, as chosen in the sidebar."""
    wanted = (front.quality.name, front.cost.name)
    found: dict[str, Front] = {}
    for path in runs:
        try:
            other = run if path == run.path else view.load_run(path)
        except (OSError, ValueError):
            continue  # The run is listed and says what is wrong with it when it is opened.
        for name, candidate in other.fronts.items():
            here = path == run.path and name == front.search
            if not here and (candidate.quality.name, candidate.cost.name) == wanted:
                found[f"{_short(path, runs)} / {name} ({candidate.device})"] = candidate
    if not found:
        return []
    with st.sidebar:
        chosen = st.multiselect("Draw beside it", list(found), key=f"overlay {run.path}")
    return [(name, found[name]) for name in chosen]


# -- header ----------------------------------------------------------------------------------------


def _header(run: RunView, front: Front | None) -> None:
    st.markdown(f"## {_plain(run.path.resolve().name)}")
    family = f"{run.family} ({run.preset})" if run.preset else run.family
    entries = [("Family", family, ""), ("Data", run.data, "")]
    if run.space is not None:
        size = words.space_size(run.space.size)
        entries.append(("Search space", size, f"networks, {len(run.space)} choices"))
        for label, member in (("Largest", run.space.largest), ("Smallest", run.space.smallest)):
            quality = view.quality_of(run, member.digest)
            if quality is not None:
                shown = Objective(quality.objective, quality.unit, quality.unit == "fraction")
                title = f"{label} network, {quality.split} {quality.objective}"
                entries.append((title, words.shown(shown, quality.value), ""))
    if front is not None and front.evaluations is not None:
        note = f"evaluations, {front.strategy}".rstrip(", ")
        entries.append(("Search", f"{front.evaluations:,}", note))
    st.markdown(markup.facts(entries), unsafe_allow_html=True)
    _table_verdict(run, front)
    if run.problems:
        count = len(run.problems)
        with st.expander(
            f"{count} file{'s' if count > 1 else ''} could not be used", expanded=True
        ):
            for problem in run.problems:
                st.warning(_plain(problem))


def _table_verdict(run: RunView, front: Front | None) -> None:
    names = [front.device] if front is not None else list(run.devices)
    for name in names:
        device = run.devices.get(name)
        if device is None:
            continue
        title = f"Latency table of **{_plain(name)}**"
        if device.description:
            title += f" ({_plain(device.description)})"
        report = device.report
        if report is None:
            st.warning(f"{title} has not been validated: treat table latencies as a guess.")
        elif report.trusted is False:
            reason = f" {_plain(report.sentence)}." if report.sentence else ""
            st.warning(
                f"{title} is **not trustworthy**.{reason} {markup.table_facts(report)}. "
                "Only measured latencies of verified points can be relied on."
            )
        else:
            verdict = "trustworthy" if report.trusted else "without a verdict"
            st.caption(f"{title}: {verdict} · {markup.table_facts(report)}")


def _nothing_to_show(run: RunView) -> None:
    step = view.next_command(run)
    if step is None:
        st.info("No search was made for this device; choose another one on the left.")
        return
    st.info(f"{step[0]} Run next:")
    st.code(step[1], language="bash")


# -- front, budget and chosen subnetwork -----------------------------------------------------------


def _front_page(run: RunView, front: Front, overlays: list[tuple[str, Front]]) -> None:
    key = f"{run.path} {front.search}"
    left, right = st.columns([1.75, 1], gap="large")
    with right:
        budget = _budget_slider(front, key)
        chosen = _chosen_card(run, front, budget)
    compared = _compared(front, chosen, key)
    with left:
        axes = {words.axis_label(axis): axis for axis in front.axes}
        names = list(axes)
        first, second, third = st.columns([1, 1, 1.1], vertical_alignment="bottom")
        x = axes[str(first.selectbox(
            "Horizontal", names, names.index(words.axis_label(front.cost)), key=f"x {key}"
        ))]  # fmt: skip
        y = axes[str(second.selectbox(
            "Vertical", names, names.index(words.axis_label(front.quality)), key=f"y {key}"
        ))]  # fmt: skip
        dominated = third.checkbox("Show points behind the front", key=f"dominated {key}")
        marks = charts.Marks(
            chosen.digest if chosen else None, compared.digest if compared else None,
            budget, dominated, overlays,
        )  # fmt: skip
        st.plotly_chart(
            charts.front_figure(front, x, y, marks),
            key=f"front {key}",
            on_select=lambda: _click(key),
            selection_mode="points",
            config=PLOT,
        )
        st.caption(
            "Bars are the stored intervals. Click a point to compare it with the chosen one."
        )
    _tabs(run, front, chosen, compared, key)


def _budget_slider(front: Front, key: str) -> float | None:
    """The budget in the stored unit of the front's cost; ``None`` when nothing was measured."""
    costs = [p.estimate(front.cost.name).value or 0.0 for p in points.measured(front)]
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
    start = points.knee(front)
    wanted = front.limits.get(front.cost.name)
    value = start.best(front.cost.name) if start else max(costs)
    value = (value if wanted is None else wanted) or max(costs)
    # Rounding up keeps the point that the default was taken from within the budget.
    value = min(max(math.ceil(value * scale / step) * step, low), high)
    unit = front.cost.shown_unit
    decimals = max(0, -math.floor(math.log10(step)))
    budget = st.slider(
        f"{front.cost.title.capitalize()} budget ({unit}), measured on {front.device}",
        round(low, 9), round(high, 9), round(value, 9), step,
        format=f"%.{decimals}f", key=f"budget {key}",
    )  # fmt: skip
    return float(budget) / scale


def _chosen_card(run: RunView, front: Front, budget: float | None) -> Point | None:
    if budget is None:
        return None
    cost, quality = front.cost, front.quality
    answer = points.pick(front, budget)
    if answer.point is None:
        nearest = answer.nearest
        if nearest is not None:
            st.error(
                f"No verified subnetwork meets {words.shown(cost, budget)}: the nearest feasible "
                f"is {nearest.digest} with {words.shown(cost, nearest.best(cost.name))} and "
                f"{words.shown(quality, nearest.best(quality.name))} {quality.title}."
            )
        return None
    point = answer.point
    with st.container(border=True):
        st.markdown(f"Best verified subnetwork within the budget: **`{point.digest}`**")
        st.markdown(markup.facts(_figures(front, point)), unsafe_allow_html=True)
    if cost.name == points.LATENCY:
        pick = view.pick_command(run.path, front.search, budget)
        st.caption("The same from the command line")
        export = view.export_command(run.path, point.digest, Path(f"exported-{point.digest}"))
        st.code(f"{pick}\n{export}", language="bash", wrap_lines=True)
    return point


def _figures(front: Front, point: Point) -> list[tuple[str, str, str]]:
    entries = []
    for axis in front.axes:
        estimate = point.estimate(axis.name)
        if estimate.best is None:
            continue
        interval = estimate.interval_around(estimate.value)
        note = ""
        if interval is not None and estimate.value is not None:
            wide = max(interval) * axis.scale
            note = f"± {words.significant(wide, 2)}" if wide else ""
        entries.append((axis.title.capitalize(), words.shown(axis, estimate.best), note))
        if estimate.test is not None:
            entries.append((f"Test {axis.title}", words.shown(axis, estimate.test), ""))
    return entries


def _click(key: str) -> None:
    """Compare with the point that was clicked in the front chart."""
    event = st.session_state.get(f"front {key}") or {}
    clicked = event.get("selection", {}).get("points", [])
    data = clicked[0].get("customdata") if clicked else None
    if data:
        st.session_state[f"compare {key}"] = data[0] if isinstance(data, list) else data["0"]


def _compared(front: Front, chosen: Point | None, key: str) -> Point | None:
    ordered = sorted(front.points, key=lambda p: p.best(front.cost.name) or 0.0)
    labels = {
        p.digest: f"{p.digest} · {words.shown(front.quality, p.best(front.quality.name))} · "
        f"{words.shown(front.cost, p.best(front.cost.name))}"
        for p in ordered
    }
    with st.sidebar:
        name = st.selectbox(
            "Compare the chosen one with", [NONE, *labels],
            format_func=lambda d: labels.get(d, d), key=f"compare {key}",
        )  # fmt: skip
    if name == NONE or (chosen is not None and name == chosen.digest):
        return None
    return front.point(str(name))


# -- details ---------------------------------------------------------------------------------------


def _tabs(
    run: RunView, front: Front, chosen: Point | None, compared: Point | None, key: str
) -> None:
    names = ["Layers", "Latency breakdown", "Along the front", "Search and predictor", "Export"]
    first, second, third, fourth, fifth = st.tabs(names)
    space = run.space
    if space is not None and front.space_digest not in ("", space.digest):
        st.warning("This search was made in another space than space.json holds.")
        space = None
    with first:
        if chosen is not None:
            _layer_view(run, front, chosen, compared)
        else:
            st.info("Raise the budget to choose a subnetwork.")
    with second:
        _breakdown(front, chosen, compared)
    with third:
        st.caption(
            "Every front architecture is a column, cheapest on the left; darker is a larger value, "
            "empty is a skipped layer. The chosen one is framed."
        )
        members = [p for p in front.on_front() if p.best(front.cost.name) is not None]
        figure = charts.genome_figure(
            layers.genome(space, members), front, chosen.digest if chosen else None
        )
        st.plotly_chart(figure, key=f"genome {key}", config=PLOT)
    with fourth:
        _search_progress(run, front, key)
    with fifth:
        if chosen is not None:
            _export(run, front, chosen)
        else:
            st.info("Raise the budget to choose a subnetwork.")


def _layer_view(run: RunView, front: Front, chosen: Point, compared: Point | None) -> None:
    space = run.space if run.space and run.space.digest == front.space_digest else None
    rows = layers.layers(space, chosen.choices, compared.choices if compared else None)
    left, right = st.columns([1.4, 1], gap="large")
    left.markdown(markup.layer_table(rows), unsafe_allow_html=True)
    with right:
        if compared is None:
            st.caption("Darker is larger among the legal values of the choice.")
            st.caption("Choose a second architecture on the left, or click one in the chart, to "
                       "see the difference.")  # fmt: skip
            return
        changed = layers.differences(rows)
        st.markdown(f"**`{chosen.digest}`** against **`{compared.digest}`**: "
                    f"{len(changed)} choice{'s' if len(changed) != 1 else ''} differ")  # fmt: skip
        st.table(
            [
                {
                    "": axis.title,
                    "chosen": words.shown(axis, chosen.best(axis.name)),
                    "compared": words.shown(axis, compared.best(axis.name)),
                    "difference": words.difference(
                        axis, chosen.best(axis.name), compared.best(axis.name)
                    ),
                }
                for axis in front.axes
            ]
        )


def _breakdown(front: Front, chosen: Point | None, compared: Point | None) -> None:
    if chosen is None or not chosen.breakdown:
        st.info(
            "Raise the budget to choose a subnetwork."
            if chosen is None
            else "This search stored no latency of single units."
        )
        return
    total = sum(cost for _, cost in chosen.breakdown)
    real = chosen.estimate(points.LATENCY)
    st.caption(
        f"The units add up to {words.milliseconds(total)} in the table; the whole network is "
        f"predicted at {words.milliseconds(real.predicted)} after calibration and measured at "
        f"{words.milliseconds(real.value)} on {front.device}."
    )
    st.plotly_chart(charts.breakdown_figure(chosen, compared), key="breakdown", config=PLOT)


def _search_progress(run: RunView, front: Front, key: str) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Progress of the search**")
        try:
            rows = view.hypervolumes(run.path, front.search)
        except (OSError, ValueError) as error:
            st.warning(_sentence(error))
            rows = ()
        if rows:
            st.plotly_chart(charts.hypervolume_figure(rows), key=f"progress {key}", config=PLOT)
        else:
            st.info("No progress was recorded for this search.")
        volume = front.hypervolume
        if "predicted" in volume and "verified" in volume:
            st.caption(
                f"Hypervolume of the front: {volume['predicted']:.4g} as predicted, "
                f"{volume['verified']:.4g} verified."
            )
    with right:
        st.markdown("**How well the predictor did**")
        for name, report in front.reports.items():
            st.caption(f"Predictor of {name}, on architectures it had not seen")
            st.markdown(
                markup.facts([(k.replace("_", " "), _figure(v), "") for k, v in report.items()
                              if isinstance(v, (int, float, str))], small=True),
                unsafe_allow_html=True,
            )  # fmt: skip
        if not front.reports:
            st.info("This search used no predictor, or stored no report of it.")
        figure = charts.parity_figure(front, front.quality)
        if figure is not None:
            st.plotly_chart(figure, key=f"parity {key}", config=PLOT)


def _figure(value: object) -> str:
    return words.significant(value) if isinstance(value, float) else str(value)


def _export(run: RunView, front: Front, point: Point) -> None:
    record = {
        "version": 1, "space": front.space_digest, "digest": point.digest,
        "choices": dict(point.choices),
    }  # fmt: skip
    st.markdown(f"Chosen: **`{point.digest}`**")
    st.download_button(
        "Download the architecture (JSON)", json.dumps(record, indent=2) + "\n",
        file_name=f"{point.digest}.json", mime="application/json",
    )  # fmt: skip
    folder = st.text_input(
        "Folder for the export (ONNX, safetensors, card, parity proof)",
        str(run.path / "exports" / point.digest), key=f"out {run.path} {point.digest}",
    )  # fmt: skip
    st.code(
        view.export_command(run.path, point.digest, Path(folder)), language="bash", wrap_lines=True
    )
    if st.button("Export now", type="primary"):
        with st.spinner("Extracting, recalibrating and checking the subnetwork"):
            done, message = export(run.path, point.digest, Path(folder))
        (st.success if done else st.error)(_plain(message))


def export(run: Path, digest: str, out: Path) -> tuple[bool, str]:
    """Run the export job in this process; whether it worked, and a sentence about it."""
    try:
        jobs = importlib.import_module("app.jobs")
    except ImportError as error:
        return False, (
            f"Exporting needs {error.name or 'torch'}, which is not installed here; "
            "run the command above on the machine that trained the run"
        )
    try:
        jobs.export_job(run, digest, out)
    except (OSError, ValueError) as error:
        return False, _sentence(error)
    return True, f"Written to {out}"


def _sentence(error: Exception) -> str:
    return _plain(str(error))


def _plain(text: str) -> str:
    """Text from files as Markdown that shows it as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#$~|" else c for c in text)


if __name__ == "__main__":
    main(sys.argv[1:])
