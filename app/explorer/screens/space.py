"""The search space: what its choices do, what the front makes of them, and a range for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from app.analysis.common_choices import Prevalence, list_shared
from app.analysis.importance import LEAST_ROWS, MainEffects
from app.explorer import layers
from app.explorer.architecture_charts import choose_columns, draw_genomes
from app.explorer.context import Context, linked
from app.explorer.derived import Selection, find_common, find_effects, name_selection
from app.explorer.drawn import show_chart
from app.explorer.markup import write_text
from app.explorer.opened import isolated
from app.explorer.panels.choice_filters import show_filters
from app.explorer.panels.header import show_next_step
from app.explorer.panels.selection_bar import show_selection
from app.records.numbers import format_items, format_percent
from app.records.quantities import Quantity
from app.records.searches.front import Front
from app.reporting.charts.choice_charts import draw_common, draw_effects, draw_importance
from supernet.space import SearchSpace

# What is shown at first of long lists; the rest is a click away.
_MOST_BARS, _MOST_COMMON, _MOST_EFFECTS = 12, 14, 6
_MOST_CHOSEN = 15
# Above this probability a difference may be chance.
_CHANCE = 0.05


@linked
def show(context: Context) -> None:
    """Draw filters, importance and effects of choices, and the genomes along the front."""
    front = context.front
    if front is None:
        show_next_step(context.run, context.place)
        return
    if not front.points:
        st.info("This search has not evaluated anything yet; run its command again to go on.")
        return
    space, selection = context.space, name_selection(context)
    if space is None:
        held = "This search was made in another space than space.json holds"
        missing = "This run has no space.json that can be read"
        reason = missing if context.run.space is None else held
        st.warning(
            f"{reason}: the values of its front are shown, but not what its choices do, and "
            "nothing can be filtered by them."
        )
    else:
        with isolated("The filters"):
            show_filters(context, space)
            show_selection(context)
        left, right = st.columns(2, gap="large")
        with left, isolated("The importance of choices"):
            quantity = _ask_quantity(context, front)
            effects = find_effects(selection, context.kept, front, space, quantity)
            _show_importance(context, selection, effects, quantity)
        with right, isolated("What the front has in common"):
            _show_common(context, selection, front, space)
        if effects is not None:
            with isolated("The effects of values"):
                _show_effects(context, selection, effects, quantity)
    with isolated("The architectures along the front"):
        _show_genomes(context, selection, front, space)


def _ask_quantity(context: Context, front: Front) -> Quantity:
    axes = {axis.name: axis for axis in front.axes}
    name = st.selectbox(
        "What choices do to",
        list(axes),
        list(axes).index(front.quality.name),
        format_func=lambda found: axes[found].axis_label,
        key=f"effect on {context.key}",
    )
    return axes[str(name)]


def _show_importance(
    context: Context, selection: Selection, effects: MainEffects | None, quantity: Quantity
) -> None:
    st.markdown("**Which choices matter**")
    if effects is None:
        st.info(
            write_text(
                f"This takes {format_items(LEAST_ROWS, 'evaluated network')} with more than one "
                f"{quantity.title}; "
                "here are fewer, or all have the same."
            )
        )
        return
    ranked = effects.rank()
    every = len(ranked) <= _MOST_BARS or st.checkbox(
        f"All {format_items(len(ranked), 'choice')}", key=f"all choices {context.key}"
    )
    shown = ranked if every else ranked[:_MOST_BARS]
    show_chart(
        f"importance {context.key}",
        (*selection, quantity.name, str(len(shown))),
        lambda: draw_importance(shown, quantity),
    )
    st.caption(write_text(describe_fit(effects, quantity)))


def describe_fit(effects: MainEffects, quantity: Quantity) -> str:
    """How much the effects of single choices explain, of what, and what the rest is."""
    used = format_items(effects.rows, "network")
    if effects.rows < effects.of:
        used += f" evenly spread over {effects.of:,}"
    explained = format_percent(max(effects.explained, 0.0))
    sentence = (
        f"Effects of single choices, added up, explain {explained} of the variance of "
        f"{quantity.title} over {used}, each left out of the fit that it judges (R²)."
    )
    rest = "The rest is what choices do together"
    if effects.noise is None:
        return f"{sentence} {rest}, and noise."
    return f"{sentence} {rest}, and noise of the evaluations ({format_percent(effects.noise)})."


def _show_common(context: Context, selection: Selection, front: Front, space: SearchSpace) -> None:
    st.markdown("**What the front has in common**")
    found = find_common(selection, context.kept, front, space)
    if not found:
        st.info("No network of the front passes the filters.")
        return
    members = int((front.on_front & context.kept).sum())
    st.caption(write_text(describe_common(found, members)))
    telling = [one for one in found if one.lift != 1][:_MOST_COMMON]
    if telling:
        show_chart(f"common {context.key}", selection, lambda: draw_common(telling))


def describe_common(found: Sequence[Prevalence], members: int) -> str:
    """What all front networks share, and how many values are on it more often than chance has it.

    Args:
        found: The least explicable by chance first.
        members: Networks of the front.
    """
    networks = format_items(members, "network")
    shared = [f"{one.name} = {one.value}" for one in list_shared(tuple(found))]
    parts = []
    if shared:
        more = f" and {len(shared) - 6} more" if len(shared) > 6 else ""
        parts.append(f"All front networks ({members:,}) have {', '.join(shared[:6])}{more}.")
    telling = sum(one.chance < _CHANCE for one in found)
    if telling:
        parts.append(
            f"{format_items(telling, 'value is', 'values are')} on the front more often than in "
            f"{networks} drawn at random from the evaluated ones (probability below 5 % for all "
            "together)."
        )
    else:
        parts.append(
            f"No value is on the front more often than it may be in {networks} drawn at random "
            "from the evaluated ones."
        )
    return " ".join(parts)


def _show_effects(
    context: Context, selection: Selection, effects: MainEffects, quantity: Quantity
) -> None:
    st.markdown("**What each value does**")
    ranked = {effect.name: effect for effect in effects.rank() if len(effect.values) > 1}
    chosen = st.multiselect(
        "Choices",
        list(ranked),
        list(ranked)[:_MOST_EFFECTS],
        key=f"effects {context.key}",
        max_selections=_MOST_CHOSEN,
    )
    if chosen:
        shown = [ranked[name] for name in chosen]
        show_chart(
            f"effects of values {context.key}",
            (*selection, quantity.name, *chosen),
            lambda: draw_effects(shown, quantity),
        )
    st.caption(
        write_text(
            f"Expected {quantity.title} with each value, everything else being as it is on "
            "average; bars are 95 % intervals. A choice of a block is about networks that have it."
        )
    )


def _show_genomes(
    context: Context, selection: Selection, front: Front, space: SearchSpace | None
) -> None:
    st.markdown("**The architectures along the front**")
    st.caption(
        "Every front architecture is a column, cheapest on the left; darker is a larger value, "
        "empty is a skipped layer. The chosen one is framed."
    )
    digest = context.chosen.digest if context.chosen else None
    cost = front.column(front.cost.name).best
    places = np.flatnonzero(front.on_front & context.kept & ~np.isnan(cost))
    members = [front.points[i] for i in places[np.argsort(cost[places], kind="stable")]]
    if not members:
        st.info("No network of the front passes the filters.")
        return
    rows = len(space) if space is not None else max(len(p.choices) for p in members)
    columns = choose_columns(members, rows, digest)
    if len(columns) < len(members):
        st.caption(f"{len(columns):,} of {len(members):,} are drawn.")
    show_chart(
        f"genome {context.key}",
        (*selection, digest or ""),
        lambda: draw_genomes(layers.line_up(space, columns), front, digest),
    )
