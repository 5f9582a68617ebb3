"""The units of one network: the latency of each, and what each holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from app.explorer import markup
from app.explorer.context import Context
from app.explorer.markup import write_text
from app.explorer.networks.block_sums import Amounts, Block, sum_blocks
from app.records.formats import read_formats
from app.records.numbers import MISSING, format_percent
from app.records.quantities import LATENCY, PARAMETERS, SIZE
from app.records.searches.front import Front, Point, UnitLatency
from supernet.errors import InputError
from supernet.space import Value

Breakdown = tuple[tuple[str, float], ...]
# Of one unit: its parameters and its bytes.
Sizes = Mapping[str, tuple[int, int]]


def show_units(context: Context, front: Front, point: Point) -> None:
    """Draw the latency of every unit, and its parameters and bytes on demand."""
    units = find_breakdown(context, front, point)
    if isinstance(units, str):
        st.info(write_text(units))
        ask_breakdown(context, point)
    else:
        st.caption(write_text(_describe_total(front, point, units)))
        # Only what is drawn has to wait for the library that draws it.
        from app.explorer.architecture_charts import draw_breakdown

        parts = tuple(UnitLatency(unit=unit, latency_ms=latency) for unit, latency in units)
        whole = point.replace(unit_latencies=parts)
        st.altair_chart(draw_breakdown(whole), key=f"breakdown {context.key}")
    latencies = {} if isinstance(units, str) else dict(units)
    # Sums of blocks stand above the button that completes them.
    sums = st.container()
    asked = f"sizes {context.key} {point.digest}"
    if st.button(
        "Count parameters and bytes of each unit",
        key=f"count {context.key}",
        help="Builds the network without its weights, which needs torch and some seconds.",
    ):
        st.session_state[asked] = True
    sizes: Sizes = {}
    if st.session_state.get(asked):
        found = _count(context.run.path, point.digest, dict(point.choices))
        if isinstance(found, str):
            st.error(write_text(found))
        else:
            sizes = found
            _show_sizes(sizes, latencies)
    with sums:
        _show_blocks(context, front, point, latencies, sizes)


def _describe_total(front: Front, point: Point, units: Breakdown) -> str:
    total = sum(cost for _, cost in units)
    latency = front.cost if front.cost.per_device else LATENCY
    real = point.estimate(latency.name)
    how = "measured" if real.source == "measured" else "stated"
    return (
        f"The units add up to {latency.show(total)} in the table; the whole network is "
        f"predicted at {latency.show(real.predicted)} after calibration and {how} at "
        f"{latency.show(real.value)} on {front.device}."
    )


def _show_blocks(
    context: Context, front: Front, point: Point, latencies: Mapping[str, float], sizes: Sizes
) -> None:
    """Draw what blocks take and hold, as far as it is known of their units."""
    latency = front.cost if front.cost.per_device else LATENCY
    units = {
        unit: Amounts(latencies.get(unit), *sizes.get(unit, (None, None)))
        for unit in dict.fromkeys((*sizes, *latencies))
    }
    whole = Amounts(
        point.estimate(latency.name).predicted,
        point.best(PARAMETERS.name),
        # Of units, bytes are those of float32 whatever their format is.
        None if read_formats(point.choices) else point.best(SIZE.name),
    )
    names = context.space.names if context.space else tuple(point.choices)
    blocks = sum_blocks(names, units, whole)
    if not blocks:
        return
    header = ["block", "units", "latency", "share", *(["parameters", "bytes"] if sizes else [])]
    total = blocks[-1].amounts.latency_ms
    rows = [_write_block(block, total)[: len(header)] for block in blocks]
    st.markdown("**Blocks**")
    st.markdown(markup.write_table(header, rows, "Blocks"), unsafe_allow_html=True)
    st.caption(
        "Sums over the units of each block. The whole is what the latency table predicts, and what "
        "no unit has of it is the rest."
    )


def _write_block(block: Block, total: float | None) -> tuple[str, ...]:
    amounts = block.amounts
    latency = amounts.latency_ms
    return (
        f"\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}{block.name}" if block.level > 1 else block.name,
        f"{block.units:,}" if block.units else MISSING,
        LATENCY.show(latency),
        MISSING if latency is None or not total else format_percent(latency / total),
        PARAMETERS.show(amounts.parameters),
        SIZE.show(amounts.size_bytes),
    )


def _show_sizes(found: Sizes, latencies: Mapping[str, float]) -> None:
    rows = [
        (
            unit,
            LATENCY.show(latencies.get(unit)),
            PARAMETERS.show(sizes[0]) if sizes else MISSING,
            SIZE.show(sizes[1]) if sizes else MISSING,
        )
        for unit in dict.fromkeys((*found, *latencies))
        for sizes in [found.get(unit)]
    ]
    header = ("unit", "latency", "parameters", "bytes")
    st.markdown(markup.write_table(header, rows, "Units"), unsafe_allow_html=True)
    st.caption("Bytes are those of weights and statistics as float32.")


@st.cache_data(max_entries=64, show_spinner="Building the network")
def _count(run: Path, digest: str, _choices: Mapping[str, Value]) -> Sizes | str:
    """What each unit holds, or why that is unknown."""
    try:
        # The page opens where torch is not installed; counting alone needs it.
        from app.jobs.blocks import count_blocks

        found = count_blocks(run, _choices)
    except ImportError as error:
        return f"Counting needs {error.name or 'torch'}, which is not installed here"
    except (OSError, InputError) as error:
        return str(error)
    return {part.unit: (part.parameters, part.size_bytes) for part in found}


def find_breakdown(context: Context, front: Front, point: Point) -> Breakdown | str:
    """The latency of each unit: as the search stored it, or worked out once somebody asked.

    Returns:
        Name and milliseconds of every unit; a sentence where they are not known.
    """
    if point.breakdown:
        return point.breakdown
    if st.session_state.get(_name_asked(context, point)):
        device = front.cost.device or front.device
        return _break_down(context.run.path, device, point.digest, dict(point.choices))
    return f"The search stored no latency of single units of {point.digest}."


def ask_breakdown(context: Context, point: Point) -> None:
    """Draw the button that works out what the search did not store."""
    asked = _name_asked(context, point)
    if point.breakdown or st.session_state.get(asked):
        return

    def ask() -> None:
        st.session_state[asked] = True

    st.button(
        f"Work out the units of {point.digest}",
        key=f"ask {asked}",
        on_click=ask,
        help="Looks them up in the latency table, which needs torch and some seconds.",
    )


def _name_asked(context: Context, point: Point) -> str:
    return f"breakdown asked {context.key} {point.digest}"


@st.cache_data(max_entries=64, show_spinner="Looking units up in the latency table")
def _break_down(
    run: Path, device: str, digest: str, _choices: Mapping[str, Value]
) -> Breakdown | str:
    try:
        # The page opens where torch is not installed; looking units up alone needs it.
        from app.jobs.blocks import break_down

        return break_down(run, device, _choices)
    except ImportError as error:
        return f"This needs {error.name or 'torch'}, which is not installed here"
    except (OSError, InputError) as error:
        return str(error)
