"""Runs as the page opens them: kept while their files are as they were, and each by itself.

Whatever a file holds, it costs the run it belongs to and none of the others.
"""

from __future__ import annotations

import os
import stat
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import streamlit as st

from app.explorer.markup import write_text
from app.records.searches import picking
from app.records.searches.front import Front
from app.records.searches.trace import FILE as TRACE
from app.records.searches.trace import Hypervolume, TraceDigests, read_trace
from app.runs import run_view
from app.runs.run_view import RunView
from supernet.errors import InputError

# Whole runs are large, outlines are small.
_MOST_OPEN, _MOST_OUTLINED = 8, 2000
_READ = ("run.json", "space.json", "evaluations.jsonl")
_READ_INSIDE = {
    "devices": ("device.json", "report.json", "table.parquet"),
    "searches": ("front.json", "search.json"),
}

# A file's name with what changes when its content does; all of them for a run.
State = tuple[tuple[str | int, ...], ...]


@dataclass(frozen=True)
class Unreadable:
    """A run that cannot be shown, and why, as a sentence."""

    path: Path
    reason: str


@dataclass(frozen=True)
class SearchOutline:
    """A search in a list of many, or that could be drawn beside another.

    Args:
        name: Its name.
        device: Its first device.
        quality: Name of the quality it searched for.
        cost: Name of the cost.
        strategy: Its strategy.
        evaluations: Architectures it evaluated.
        members: Of them on the front.
        best: The best quality on the front, as people read it.
        cheapest: The least cost on the front, as people read it.
        hypervolume: Of the verified front; ``None`` where it is not known.
    """

    name: str
    device: str
    quality: str
    cost: str
    strategy: str = ""
    evaluations: int = 0
    members: int = 0
    best: str = ""
    cheapest: str = ""
    hypervolume: float | None = None


@contextmanager
def isolated(what: str) -> Iterator[None]:
    """Show a failure of one part of the page in its place, and go on with the next part.

    Args:
        what: The part, as the beginning of a sentence.
    """
    try:
        yield
    except Exception as error:
        st.error(write_text(_describe_failure(f"{what} cannot be shown", error)))


def open_run(path: Path) -> RunView | Unreadable:
    """Read a run directory, or take it as it was read while none of its files changed."""
    return _open_run(path, observe_run(path))


def outline_run(path: Path) -> tuple[SearchOutline, ...] | Unreadable:
    """List the searches of a run without keeping all that is known of them."""
    return _outline_run(path, observe_run(path))


def open_trace(folder: Path, digests: TraceDigests) -> tuple[Hypervolume, ...]:
    """Read the progress of a search, or take it as it was read.

    Args:
        folder: Folder of the search.
        digests: What its front says the file must hold.

    Raises:
        InputError: The file is damaged.
    """
    return _open_trace(folder, digests, _observe([folder / TRACE]))


@st.cache_resource(max_entries=_MOST_OPEN, show_spinner=False)
def _open_run(path: Path, state: State) -> RunView | Unreadable:
    try:
        return _drop_unusable(run_view.load_run(path))
    except (OSError, InputError) as error:
        return Unreadable(path, str(error))
    except Exception as error:
        return Unreadable(path, _describe_failure(f"{path} cannot be read", error))


@st.cache_resource(max_entries=_MOST_OUTLINED, show_spinner=False)
def _outline_run(path: Path, state: State) -> tuple[SearchOutline, ...] | Unreadable:
    run = _open_run(path, state)
    if isinstance(run, Unreadable):
        return run
    return tuple(_outline_search(name, front) for name, front in run.fronts.items())


def _outline_search(name: str, front: Front) -> SearchOutline:
    quality, cost = front.quality, front.cost
    values, costs = (front.column(axis.name).best[front.on_front] for axis in (quality, cost))
    values, costs = values[~np.isnan(values)], costs[~np.isnan(costs)]
    best = values.max(initial=-np.inf) if quality.maximize else values.min(initial=np.inf)
    return SearchOutline(
        name,
        front.device,
        quality.name,
        cost.name,
        front.strategy,
        front.evaluations,
        int(front.on_front.sum()),
        quality.show(float(best) if len(values) else None),
        cost.show(float(costs.min()) if len(costs) else None),
        front.hypervolume.verified,
    )


@st.cache_resource(max_entries=_MOST_OPEN, show_spinner=False)
def _open_trace(folder: Path, digests: TraceDigests, state: State) -> tuple[Hypervolume, ...]:
    return read_trace(folder, digests)


def _drop_unusable(run: RunView) -> RunView:
    """Leave out searches whose content cannot be worked with, a problem for each."""
    usable, problems = {}, list(run.problems)
    for name, front in run.fronts.items():
        try:
            _derive(front)
        except Exception as error:
            problems.append(_describe_failure(f"Search {name} cannot be shown", error))
        else:
            usable[name] = front
    return replace(run, fronts=usable, problems=tuple(problems))


def _derive(front: Front) -> None:
    """Work out, once for all interactions, what every view of a front needs."""
    front.list_front()
    picking.list_measured(front)
    _ = front.axes, front.find_places(None)


def _describe_failure(what: str, error: Exception) -> str:
    """A sentence about an error that nobody foresaw, whose trace goes to the terminal."""
    traceback.print_exception(error, file=sys.stderr)
    return (
        f"{what}: one of its files holds what this release cannot work with "
        f"({type(error).__name__}; the trace is in the terminal)"
    )


def observe_run(path: Path) -> State:
    """What changes when a file of a run does; it costs no reading."""
    found = [path / name for name in _READ]
    for parent, names in _READ_INSIDE.items():
        folders = sorted((path / parent).glob("*"))
        found += [folder / name for folder in folders for name in ("", *names)]
    return _observe(found)


def _observe(found: list[Path]) -> State:
    state = []
    for path in found:
        try:
            facts = os.stat(path)
        except OSError:
            continue
        changing = (facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size)
        # A folder changes when anything is written there: arrays beside a front say nothing new.
        known = () if stat.S_ISDIR(facts.st_mode) else changing
        state.append((str(path), *known, facts.st_ino))
    return tuple(state)
