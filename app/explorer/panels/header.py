"""What stands above every screen: which run this is, and whether its tables can be trusted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import streamlit as st

from app.explorer import markup
from app.explorer.markup import write_text
from app.records import numbers
from app.records.quantities import find_stored_quantity
from app.records.searches.front import Front
from app.runs import run_view
from app.runs.run_view import DeviceView, RunView
from supernet.space import SearchSpace


def show_header(run: RunView, front: Front | None) -> None:
    """Draw the facts about a run, the verdict on its latency tables, and what is damaged."""
    st.markdown(f"### {write_text(run.path.resolve().name)}")
    st.markdown(markup.write_facts(_list_facts(run, front)), unsafe_allow_html=True)
    _warn_of_tables(run, front)
    if run.problems:
        count = len(run.problems)
        with st.expander(f"{numbers.format_items(count, 'file')} could not be used", expanded=True):
            for problem in run.problems:
                st.warning(write_text(problem))


def show_next_step(run: RunView, place: Path | None = None) -> None:
    """Say what a run lacks before there is a front to show, and the command that provides it.

    Args:
        run: The run.
        place: Where it is for somebody who types the command; by default its path.
    """
    step = run_view.suggest_command(replace(run, path=place or run.path))
    if step is None:
        st.info("No search was made for this device; choose another one on the left.")
        return
    st.info(f"{write_text(step[0])} Run next:")
    st.code(step[1], language="bash")


def _list_facts(run: RunView, front: Front | None) -> list[tuple[str, str, str]]:
    family = f"{run.family} ({run.preset})" if run.preset else run.family
    entries = [("Family", family, ""), ("Data", run.data, "")]
    if run.precision:
        entries.append(("Precision", run.precision.replace(",", ", "), "a choice of each unit"))
    if run.space is not None:
        size = numbers.format_space_size(run.space.size)
        entries.append(
            ("Search space", size, f"networks, {numbers.format_items(len(run.space), 'choice')}")
        )
        entries += _list_ends(run, run.space)
    if front is not None and front.evaluations:
        note = f"evaluations, {front.strategy}".rstrip(", ")
        entries.append(("Search", f"{front.evaluations:,}", note))
    return entries


def _list_ends(run: RunView, space: SearchSpace) -> list[tuple[str, str, str]]:
    """The qualities of the smallest and the largest network, as far as they are on record."""
    found = []
    for label, member in (("smallest", space.smallest), ("largest", space.largest)):
        quality = run_view.find_quality(run, member.digest)
        if quality is not None:
            judged = find_stored_quantity(quality.objective, quality.unit, "maximize")
            split = {"val": "validation"}.get(quality.split, quality.split)
            found.append((label, judged.show(quality.value), f"{split} {quality.objective}"))
    if len(found) == 2 and found[0][2] == found[1][2]:
        (_, low, note), (_, high, _) = found
        return [("Smallest and largest", f"{low} and {high}", note)]
    return [(label.capitalize(), value, note) for label, value, note in found]


def describe_tables(run: RunView, front: Front | None) -> list[str]:
    """What validation found about the tables that latencies come from, a Markdown line each."""
    return [
        f"{_name_table(device)}: trustworthy · {markup.describe_table(device.report)}"
        for device in _list_devices(run, front)
        if device.report is not None and device.report.trustworthy
    ]


def _warn_of_tables(run: RunView, front: Front | None) -> None:
    for device in _list_devices(run, front):
        report, title = device.report, _name_table(device)
        if report is None:
            st.warning(f"{title} has not been validated: treat table latencies as a guess.")
        elif not report.trustworthy:
            verdict = write_text(report.verdict) or "It carries no verdict."
            st.warning(
                f"{title}. {verdict} Rely only on measured latencies of verified picking.  \n"
                f"{markup.describe_table(report)}"
            )


def _list_devices(run: RunView, front: Front | None) -> list[DeviceView]:
    names = [front.device] if front is not None else list(run.devices)
    return [run.devices[name] for name in names if name in run.devices]


def _name_table(device: DeviceView) -> str:
    title = f"Latency table of **{write_text(device.name)}**"
    return f"{title} ({write_text(device.description)})" if device.description else title
