"""A Streamlit page with nothing but the interactive chart of a front and what it reports."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from app.records.searches.front import parse_front
from app.reporting.scatter.component import show_scatter
from app.reporting.scatter.payload import build_payload
from app.reporting.scatter.view import CLOSE, DOMINATED, INTERVALS, ScatterView
from tests.toys.explored_runs import front_json, small_space

front = parse_front(front_json(small_space()), "front.json", "default")
state = st.session_state
told: list[tuple[str, Any]] = state.setdefault("told", [])
seen: dict[str, Any] = state.setdefault("seen", {"chosen": None, "region": None, "budgets": (0.2,)})


def hear(name: str, value: Any) -> None:
    told.append((name, value))
    seen[name] = value


view = ScatterView(
    front.cost, front.quality, shown=frozenset((CLOSE, DOMINATED, INTERVALS)), **seen
)
show_scatter(
    build_payload(front, view),
    key="front",
    on_click=lambda digest: hear("chosen", digest),
    on_region=lambda region: hear("region", region),
    on_budgets=lambda budgets: hear("budgets", budgets),
)
st.code(json.dumps(told), language=None)
