"""The lower half of the explorer: layers, latency breakdown, genomes, search progress, export."""

from __future__ import annotations

import json
import re
from pathlib import Path

import streamlit as st

from app.explorer import layers, markup
from app.explorer.architecture_charts import choose_columns, draw_breakdown, draw_genomes
from app.explorer.markup import write_text
from app.explorer.opened import isolated, open_trace
from app.records.front import Front, Point
from app.records.quantities import LATENCY
from app.reporting.markdown import write_code
from app.reporting.progress_charts import draw_hypervolume, draw_learning_curve, draw_parity
from app.runs.command_lines import export_command
from app.runs.run_view import RunView
from supernet.errors import InputError
from supernet.space import SearchSpace

# Names of folders that mean the same on every system, and no other folder.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def show_tabs(
    run: RunView, front: Front, chosen: Point | None, compared: Point | None, key: str
) -> None:
    """Draw the tabs on one search.

    Args:
        run: The run.
        front: What the search found.
        chosen: The architecture within the budget.
        compared: The one to compare it with.
        key: Names the search, unique among those of the session.
    """
    names = ["Layers", "Latency breakdown", "Along the front", "Search and predictor", "Export"]
    first, second, third, fourth, fifth = st.tabs(names)
    space = run.space
    if space is not None and front.space_digest not in ("", space.digest):
        st.warning("This search was made in another space than space.json holds.")
        space = None
    with first, isolated("The layers"):
        if chosen is not None:
            _show_layers(run, front, chosen, compared)
        else:
            st.info("Raise the budget to choose a subnetwork.")
    with second, isolated("The breakdown"):
        _show_breakdown(front, chosen, compared, key)
    with third, isolated("The architectures along the front"):
        st.caption(
            "Every front architecture is a column, cheapest on the left; darker is a larger value, "
            "empty is a skipped layer. The chosen one is framed."
        )
        _show_genomes(space, front, chosen, key)
    with fourth, isolated("The progress of this search"):
        _show_search(run, front, key)
    with fifth, isolated("The export"):
        if chosen is not None:
            _show_export(run, front, chosen)
        else:
            st.info("Raise the budget to choose a subnetwork.")


def _show_genomes(space: SearchSpace | None, front: Front, chosen: Point | None, key: str) -> None:
    digest = chosen.digest if chosen else None
    members = [p for p in front.list_front() if p.best(front.cost.name) is not None]
    rows = len(space) if space is not None else max((len(p.choices) for p in members), default=0)
    columns = choose_columns(members, rows, digest)
    if len(columns) < len(members):
        st.caption(f"{len(columns):,} of {len(members):,} are drawn.")
    genome = layers.line_up(space, columns)
    st.altair_chart(draw_genomes(genome, front, digest), key=f"genome {key}")


def _show_layers(run: RunView, front: Front, chosen: Point, compared: Point | None) -> None:
    space = run.space if run.space and run.space.digest == front.space_digest else None
    rows = layers.group_layers(space, chosen.choices, compared.choices if compared else None)
    left, right = st.columns([1.4, 1], gap="large")
    left.markdown(markup.write_layers(rows), unsafe_allow_html=True)
    with right:
        if compared is None:
            st.caption("Darker is larger among the legal values of the choice.")
            st.caption(
                "Choose a second architecture on the left, or click one in the chart, to "
                "see the difference."
            )
            return
        changed = layers.list_changes(rows)
        st.markdown(
            f"**{write_code(chosen.digest)}** against **{write_code(compared.digest)}**: "
            f"{len(changed)} choice{'s' if len(changed) != 1 else ''} differ"
        )
        st.table(
            [
                {
                    # Cells of a table are Markdown, too.
                    "": write_text(axis.title),
                    "chosen": write_text(axis.show(ours)),
                    "compared": write_text(axis.show(theirs)),
                    "difference": write_text(axis.show_difference(ours, theirs)),
                }
                for axis in front.axes
                for ours, theirs in [(chosen.best(axis.name), compared.best(axis.name))]
            ]
        )


def _show_breakdown(front: Front, chosen: Point | None, compared: Point | None, key: str) -> None:
    if chosen is None or not chosen.breakdown:
        st.info(
            "Raise the budget to choose a subnetwork."
            if chosen is None
            else "This search stored no latency of single units."
        )
        return
    total = sum(cost for _, cost in chosen.breakdown)
    latency = front.cost if front.cost.per_device else LATENCY
    real = chosen.estimate(latency.name)
    sentence = (
        f"The units add up to {latency.show(total)} in the table; the whole network is "
        f"predicted at {latency.show(real.predicted)} after calibration and measured at "
        f"{latency.show(real.value)} on {front.device}."
    )
    st.caption(write_text(sentence))
    st.altair_chart(draw_breakdown(chosen, compared), key=f"breakdown {key}")


def _show_search(run: RunView, front: Front, key: str) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Progress of the search**")
        try:
            rows = open_trace(run.path / "searches" / front.search, front.trace_digests)
        except (OSError, InputError) as error:
            st.warning(write_text(error))
            rows = ()
        if rows:
            st.altair_chart(draw_hypervolume(rows), key=f"progress {key}")
        else:
            st.info("No progress was recorded for this search.")
        volume = front.hypervolume
        if volume.predicted is not None and volume.verified is not None:
            st.caption(
                f"Hypervolume of the front: {volume.predicted:.4g} as predicted, "
                f"{volume.verified:.4g} verified."
            )
        if _describe_end(front):
            st.caption(_describe_end(front))
    with right:
        st.markdown("**How well the predictor did**")
        for name, report in front.reports.items():
            st.caption(f"Predictor of {write_text(name)}, on architectures it had not seen")
            st.markdown(
                markup.write_facts(markup.list_card(report, front.find_axis(name)), grid=True),
                unsafe_allow_html=True,
            )
            if len(report.curve) > 1:
                st.altair_chart(draw_learning_curve(report.curve), key=f"curve {name} {key}")
        if not front.reports:
            st.info("This search used no predictor, or stored no report of it.")
        chart = draw_parity(front, front.quality)
        if chart is not None:
            st.altair_chart(chart, key=f"parity {key}")


def _describe_end(front: Front) -> str:
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
        parts.append(f"{front.failed} evaluations failed and are left out.")
    close = sum(p.indistinguishable for p in front.points)
    if close:
        parts.append(
            f"{close} further points are behind the front by less than the noise of their "
            "evaluations."
        )
    return " ".join(parts)


def _show_export(run: RunView, front: Front, point: Point) -> None:
    record = {
        "version": 1,
        "space": front.space_digest,
        "digest": point.digest,
        "choices": dict(point.choices),
    }
    st.markdown(f"Chosen: **{write_code(point.digest)}**")
    st.download_button(
        "Download the architecture (JSON)",
        json.dumps(record, indent=2) + "\n",
        file_name=f"{point.digest}.json",
        mime="application/json",
    )
    folder = st.text_input(
        "Folder for the export (ONNX, safetensors, card, parity proof)",
        str(run.path / "exports" / point.digest),
        key=f"out {run.path} {point.digest}",
    )
    st.code(
        export_command(run.path, point.digest, Path(folder)),
        language="bash",
        wrap_lines=True,
    )
    if st.button("Export now", type="primary"):
        with st.spinner("Extracting, recalibrating and checking the subnetwork"):
            done, message = export(run.path, point.digest, folder)
        (st.success if done else st.error)(write_text(message))


def export(run: Path, digest: str, folder: str) -> tuple[bool, str]:
    """Run the export job in this process; whether it worked, and a sentence about it."""
    try:
        out = find_export_folder(run, folder)
    except InputError as error:
        return False, str(error)
    try:
        # The page opens where torch is not installed; exporting alone needs it.
        from app.jobs.export import export_job
    except ImportError as error:
        return False, (
            f"Exporting needs {error.name or 'torch'}, which is not installed here; "
            "run the command above on the machine that trained the run"
        )
    try:
        done = export_job(run, digest, out, lambda _line: None)
    except (OSError, InputError, RuntimeError) as error:
        return False, str(error)
    return True, (
        f"Written to {done.folder}; the largest difference between torch and ONNX Runtime "
        f"over real inputs is {done.max_abs_difference:.2g}"
    )


def find_export_folder(run: Path, folder: str) -> Path:
    """The folder that a page may write: one of the run's own exports, and no link to elsewhere.

    Args:
        run: The run directory.
        folder: What the user typed: its path, or its name alone.

    Raises:
        InputError: It is another folder.
    """
    exports = run / "exports"
    found = exports / folder
    if found.parent != exports or not _NAME.fullmatch(found.name):
        raise InputError(
            f"{folder} is no folder of {exports}, the only place that a page may write to; "
            "run the command above to export to another one"
        )
    for place in (exports, found):
        if place.is_symlink():
            raise InputError(
                f"{place} is a link; run the command above to export to where it leads"
            )
    return found
