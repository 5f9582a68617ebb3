"""The devices: their tables, how far these can be trusted, and one network on all of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import streamlit as st

from app.explorer.architecture_charts import merge_units
from app.explorer.context import Context, linked
from app.explorer.derived import name_selection
from app.explorer.device_files import DeviceHistory, open_history
from app.explorer.device_latencies import (
    agree_devices,
    average_shares,
    list_on_devices,
    name_searches,
    share_latency,
)
from app.explorer.drawn import show_chart
from app.explorer.markup import write_text
from app.explorer.opened import isolated
from app.explorer.panels.selection_bar import show_selection
from app.records import numbers
from app.records.formats import read_formats
from app.records.numbers import format_items, format_percent
from app.records.searches.front import Front, Point
from app.reporting.charts.device_charts import (
    draw_agreement,
    draw_on_devices,
    draw_table_parity,
    draw_unit_shares,
)
from app.reporting.markdown import write_code
from app.runs.run_view import DeviceView, RunView

FLOAT = "float"


@linked
def show(context: Context) -> None:
    """Draw the devices of the run."""
    run = context.run
    if not run.devices:
        st.info("No device has been profiled for this run, so that no latency table is known.")
        return
    histories = {name: open_history(run.path / "devices" / name) for name in run.devices}
    with isolated("The tables"):
        _list_tables(run, histories)
    left, right = st.columns(2, gap="large")
    with left, isolated("The table of this device"):
        _show_table(context, histories)
    searches = name_searches(run)
    with right, isolated("The agreement of devices"):
        _show_agreement(context, searches)
    front, point = context.front, context.chosen
    if front is None or point is None:
        st.info("Choose a network on the screen Front to see it on every device.")
        return
    show_selection(context)
    left, right = st.columns(2, gap="large")
    with left, isolated("The network on all devices"):
        _show_network(context, searches, point)
        _show_precision(front, point)
    with right, isolated("The shares of units"):
        _show_shares(context, front, point)


def _list_tables(run: RunView, histories: Mapping[str, DeviceHistory]) -> None:
    st.markdown("**Latency tables**")
    st.dataframe(
        [_describe_table(device, histories[name]) for name, device in run.devices.items()],
        hide_index=True,
    )


def _describe_table(device: DeviceView, history: DeviceHistory) -> dict[str, str]:
    """A line about a table; the text is shown as it is."""
    report = device.report
    about = {"made": history.created[:10], "is": device.description}
    if report is None:
        return {"device": device.name, "verdict": "not validated yet", **about}
    shares = {
        "mean error": report.mape,
        "within 10 %": report.within_10,
        "repeat noise": report.floor_mape,
    }
    tau = report.kendall_tau
    return {
        "device": device.name,
        "verdict": {True: "trustworthy", False: "not trustworthy", None: "none"}[
            report.trustworthy
        ],
        **{name: "" if v is None else format_percent(v) for name, v in shares.items()},
        "Kendall τ": "" if tau is None else f"{tau:.2f}",
        "judged on": "" if report.networks is None else format_items(report.networks, "network"),
        "units": "" if report.units is None else f"{report.units:,}",
        **about,
    }


def _show_table(context: Context, histories: Mapping[str, DeviceHistory]) -> None:
    st.markdown("**Predicted against measured**")
    run = context.run
    names = list(run.devices)
    current = context.front.device if context.front else ""
    name = st.selectbox(
        "Latency table of",
        names,
        names.index(current) if current in names else 0,
        key=f"table of {context.key}",
    )
    device = run.devices[str(name)]
    report, history = device.report, histories[str(name)]
    if report is None:
        st.info("This table has not been validated, so that nothing was measured beside it.")
    elif not report.points:
        st.info("The report of this table does not keep the networks that were measured.")
    else:
        points = report.points
        key = f"table {context.key}"
        state = (str(name), history.created, str(len(points)), str(points[-1]))
        show_chart(key, state, lambda: draw_table_parity(points))
        if report.verdict:
            st.caption(write_text(report.verdict))
        bare = report.without_borders
        if bare is not None and bare.mape is not None:
            st.caption(
                "Did changing between precisions cost nothing, the mean error would be "
                f"{format_percent(bare.mape)}."
            )
    for sentence in describe_drift(run, str(name), history):
        st.caption(write_text(sentence))


def describe_drift(run: RunView, device: str, history: DeviceHistory) -> list[str]:
    """How a device moved, from table to table and from its table to each search, in sentences."""
    found = []
    drift = history.drift
    if drift is not None:
        made = f" of {history.created_before[:10]}" if history.created_before else ""
        found.append(
            f"Against the table before this one{made}, networks take {drift.ratio:.3f} times as "
            f"long on {device} (median of {format_items(drift.networks, 'network')} measured for "
            f"both, {drift.low:.3f} to {drift.high:.3f})."
        )
    for name, front in run.fronts.items():
        ratio = front.latency_ratios.get(device)
        if ratio is None and device == front.device:
            ratio = front.latency_ratio
        if ratio is not None:
            found.append(
                f"When search {name} measured its front, networks took {ratio:.3f} times as long "
                f"on {device} as this table predicts (median)."
            )
    return found or [f"No search has measured networks on {device} since its table was made."]


def _show_agreement(context: Context, searches: str) -> None:
    st.markdown("**Do devices rank networks alike?**")
    devices, pairs = agree_devices(searches, context.run)
    if len(devices) < 2:
        st.info("Latencies of evaluated networks are known on one device only.")
        return
    if all(pair.spearman is None for pair in pairs):
        st.info("No two devices have the latencies of enough of the same networks.")
        return
    key = f"agreement {context.run.path}"
    show_chart(key, (searches,), lambda: draw_agreement(devices, pairs))
    counts = [pair.networks for pair in pairs if pair.spearman is not None]
    least, most = min(counts), max(counts)
    over = format_items(most, "evaluated network")
    over = over if least == most else f"{least:,} to {over}"
    st.caption(
        f"Spearman's rank correlation of the latencies that the tables give {over}. "
        "What is searched on one device holds for another where it is near 1."
    )


def _show_network(context: Context, searches: str, point: Point) -> None:
    st.markdown(f"**{write_code(point.digest)} on every device**")
    found = list_on_devices(context.run, point)
    if not found:
        st.info("No search of this run knows a latency of this network.")
        return
    state = (searches, point.digest)
    show_chart(f"on devices {context.key}", state, lambda: draw_on_devices(found))
    if all(one.measured_ms is None for one in found):
        st.caption("It was measured on none of them; a picked network is measured by its search.")


def _show_precision(front: Front, point: Point) -> None:
    formats = read_formats(point.choices)
    if not formats:
        return
    st.markdown("**Precision**")
    shares = share_latency(point)
    along = [read_formats(member.choices) for member in front.list_front()]
    named = dict.fromkeys((*formats.values(), *(f for one in along for f in one.values())))
    rows = []
    for name in named:
        units = [unit for unit, found in formats.items() if found == name]
        everywhere = sum(found == name for one in along for found in one.values())
        rows.append(
            {
                "format": name,
                "units": f"{len(units):,} of {len(formats):,}",
                "of its latency": format_percent(sum(shares.get(unit, 0.0) for unit in units))
                if shares
                else numbers.MISSING,
                "of units along the front": format_percent(
                    everywhere / max(sum(map(len, along)), 1)
                ),
            }
        )
    left = sum(share for unit, share in shares.items() if unit not in formats)
    if left > 0:
        rows.append({"format": f"no choice ({FLOAT})", "of its latency": format_percent(left)})
    st.dataframe(rows, hide_index=True)


def _show_shares(context: Context, front: Front, point: Point) -> None:
    st.markdown("**Where the time goes**")
    chosen = share_latency(point)
    places = np.flatnonzero(front.on_front & context.kept)
    members = [member for i in places if (member := front.points[i]).breakdown]
    if not chosen and not members:
        st.info("This search stored no latency of single units.")
        return
    along = average_shares(members)
    order = merge_units([list(chosen), *([u for u, _ in m.breakdown] for m in members)])
    show_chart(
        f"shares {context.key}",
        (*name_selection(context), point.digest),
        lambda: draw_unit_shares(chosen, along, order),
    )
    st.caption(
        write_text(
            f"By the table of {front.device}, over {format_items(len(members), 'front network')}."
        )
    )
