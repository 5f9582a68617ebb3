"""Back and forward in a browser: the page follows the address, as it does when it is opened."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import parse_qs

import streamlit as st

from app.explorer.context import adopt_query

NAME, _KEY = "supernet_history", "history"
# An address is shorter; what a browser sends is not to be relied on.
_LONGEST, _MOST_FIELDS = 60_000, 600
# Streamlit calls it on every rerun.
_SCRIPT = """
const listening = new WeakMap();

export default function ({ parentElement, setTriggerValue }) {
  window.removeEventListener("popstate", listening.get(parentElement));
  const tell = () => setTriggerValue("moved", window.location.search || "?");
  listening.set(parentElement, tell);
  window.addEventListener("popstate", tell);
  return () => window.removeEventListener("popstate", tell);
}
"""


def follow_history() -> None:
    """Look at what the address names whenever its browser goes back or forward.

    Streamlit changes the address and does not say so when that is undone.
    """
    _register()(key=_KEY, on_moved_change=_follow)


def parse_address(search: object) -> dict[str, list[str]] | None:
    """The query of an address, as the browser spells it; ``None`` for what is none."""
    if not isinstance(search, str) or len(search) > _LONGEST:
        return None
    try:
        return parse_qs(
            search.removeprefix("?"), keep_blank_values=True, max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        return None


def _follow() -> None:
    found = st.session_state.get(_KEY)
    query = None if found is None else parse_address(found.get("moved"))
    if query is not None:
        adopt_query(query)


@cache
def _register() -> Callable[..., Any]:
    """The component, registered once in a process."""
    return st.components.v2.component(NAME, js=_SCRIPT)
