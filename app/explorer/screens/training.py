"""The training of the supernet: its losses while it runs and after, and what audits found."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import streamlit as st

from app.explorer import markup
from app.explorer.context import Context, linked
from app.explorer.drawn import show_chart
from app.explorer.markup import write_text
from app.explorer.opened import isolated
from app.explorer.panels import audit_panel
from app.records.numbers import format_items
from app.records.quantities import find_stored_quantity
from app.records.training_log import FILE, MetricsRecord, read_metrics
from app.reporting.charts.training_charts import draw_losses, draw_rate
from app.runs.directory import Run
from app.runs.run_view import RunView, find_quality
from supernet.errors import InputError

_MOST_OPEN = 8
# Seconds between two looks at a training that runs.
_EVERY = 2.0
_RUNNING, _TRAIN = "running", "train"


def show(context: Context) -> None:
    """Draw the losses of the training and the audits of its weights."""
    run = context.run
    if run.stages.get(_TRAIN) == _RUNNING:
        # Asked for again and again only while it runs.
        st.fragment(_show_running, run_every=_EVERY)(run)
    else:
        with isolated("The training of this run"):
            _show_training(run, str(run.stages.get(_TRAIN, "")))
    _show_audits(context)


def _show_running(run: RunView) -> None:
    try:
        stage = Run(run.path).stage(_TRAIN)
    except (OSError, InputError) as error:
        st.warning(write_text(error))
        return
    if stage is None or stage.status != _RUNNING:
        # It has ended, and everything else of the page is of before.
        st.rerun()
    with isolated("The training of this run"):
        _show_training(run, _RUNNING)


def _show_training(run: RunView, status: str) -> None:
    st.markdown("**Training of the supernet**")
    rows, warnings = _open_metrics(run.path, _observe(run.path / FILE))
    for warning in warnings:
        st.warning(write_text(f"{warning}."))
    if not rows:
        st.info(
            "No training was logged in this run: its weights were imported, or it has not begun."
        )
        return
    st.markdown(
        markup.write_facts(list_facts(run, status, rows), grid=False), unsafe_allow_html=True
    )
    state = (str(len(rows)), str(rows[-1]))
    left, right = st.columns([2, 1], gap="large")
    with left:
        if any(row.has_losses for row in rows):
            show_chart(f"losses {run.path}", state, lambda: draw_losses(rows))
            st.caption(
                "Losses on the batch of each logged step, and their running median; of the "
                "networks that were sampled for a step, their mean. An audit tells how good single "
                "networks became."
            )
        else:
            st.info("The log of this training holds no losses.")
    with right:
        show_chart(f"rate {run.path}", state, lambda: draw_rate(rows))


def list_facts(
    run: RunView, status: str, rows: tuple[MetricsRecord, ...]
) -> list[tuple[str, str, str]]:
    """How far the training is, its speed and its last losses, as label, value and note."""
    last = rows[-1]
    facts = [("Steps", f"{last.step:,}", f"of {last.steps:,}, {status}".rstrip(", "))]
    recent = rows[-max(len(rows) // 10, 1) :]
    for label, losses in (
        ("Loss of the largest", [row.loss_largest for row in recent]),
        ("Loss of the smallest", [row.loss_smallest for row in recent]),
        ("Loss of sampled ones", [row.loss_sampled for row in recent]),
    ):
        known = [loss for loss in losses if loss is not None]
        if known:
            note = f"nats, median of the last {format_items(len(known), 'report')}"
            facts.append((label, f"{np.median(known):.3g}", note))
    speeds = [row.samples_per_second for row in rows if row.samples_per_second is not None]
    if speeds:
        facts.append(("Speed", f"{np.median(speeds):,.0f}", "samples per second"))
    if run.space is not None:
        for label, member in (("largest", run.space.largest), ("smallest", run.space.smallest)):
            quality = find_quality(run, member.digest)
            if quality is not None and quality.value is not None:
                judged = find_stored_quantity(quality.objective, quality.unit, "maximize")
                split = {"val": "validation"}.get(quality.split, quality.split)
                title = f"{judged.title.capitalize()} of the {label}"
                facts.append((title, judged.show(quality.value), split))
    return facts


@linked
def _show_audits(context: Context) -> None:
    with isolated("The audits of this run"):
        if not Run(context.run.path).audits:
            st.info(
                "No audit was made of this run: `supernet audit` trains some networks alone and "
                "tells whether inherited weights rank them alike."
            )
        audit_panel.show_audits(context.run.path)


@st.cache_resource(max_entries=_MOST_OPEN, show_spinner=False)
def _open_metrics(
    path: Path, state: tuple[int, int]
) -> tuple[tuple[MetricsRecord, ...], tuple[str, ...]]:
    warnings: list[str] = []
    return tuple(read_metrics(path, warnings.append)), tuple(warnings)


def _observe(path: Path) -> tuple[int, int]:
    try:
        facts = os.stat(path)
    except OSError:
        return (0, 0)
    return (facts.st_mtime_ns, facts.st_size)
