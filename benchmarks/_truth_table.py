"""The comparison of inherited and true accuracies as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.records.numbers import format_items

HEADER = (
    "recipe", "passes", "steps", "CPU s", "tau (90 %)", "above MACs (90 %)", "top quarter",
    "within MACs", "gap, points (90 %)", "worst", "smallest / middle / largest third",
    "smallest / largest, %", "hypervolume, %", "of the chosen, %",
)  # fmt: skip


def write_table(found: Mapping[str, Any]) -> str:
    """Write a table of recipes under rows of MACs and of the truth itself, and a line on the truth.

    Args:
        found: What the benchmark prints as JSON, ``None`` for what is not known.
    """
    alone, macs = found["alone"], found["macs"]
    rows = [
        _fill("*MACs alone*", _write_taus(macs, _write_with(macs["tau"], macs["tau_90"], ".2f"))),
        *(
            _fill(f"*{name}*", _write_taus(taus, _write(taus["tau"], ".2f")))
            for name, taus in (
                ("one training alone, with another", _take(alone, "of_two_seeds")),
                ("exact accuracies, with the mean truth (estimate)", _take(alone, "ceiling")),
            )
        ),
        *(_write_recipe(row) for row in found["recipes"]),
    ]
    lines = [_join(HEADER), _join(["---"] * len(HEADER)), *rows]
    ends = _write_several([alone["smallest"], alone["largest"]], ".1f", 100)
    one, top, sampling = (
        _write(alone[f"standard_error_{name}"], ".2f")
        for name in ("of_one_seed", "of_one_seed_top_quarter", "from_samples")
    )
    seconds = _write(alone["cpu_seconds"], ".0f")
    times = format_items(alone["seeds"], "time")
    about = (
        f"{found['task']}: {found['networks']} networks, each trained alone {times} "
        f"(`{alone['recipe']}`, {alone['steps']} steps, {seconds} CPU s, {ends} % smallest and "
        f"largest), {found['samples']} samples of {found['bases']} bases. Standard error of one "
        f"training alone {one} points, {top} in the top quarter; of an accuracy from its samples "
        f"{sampling}."
    )
    return "\n".join([*lines, "", about])


def _write_recipe(row: Mapping[str, Any]) -> str:
    name = f"`{row['recipe']}`"
    if row["diverged"]:
        name += f" ({row['diverged']} of {row['seeds']} diverged)"
    cells = {
        "passes": str(row["passes"]),
        "steps": str(row["steps"]),
        "CPU s": _write(row["cpu_seconds"], ".0f"),
    }
    if row["diverged"] < row["seeds"]:
        thirds = [row[f"gap_{part}_third"] for part in ("smallest", "middle", "largest")]
        cells |= {
            **_write_taus(row, _write_with(row["tau"], row["tau_90"], ".2f")),
            "above MACs (90 %)": _write_with(
                row["tau_above_macs"], row["tau_above_macs_90"], "+.2f"
            ),
            "gap, points (90 %)": _write_with(row["gap"], row["gap_90"], "+.1f"),
            "worst": _write(row["worst_gap"], "+.1f"),
            "smallest / middle / largest third": _write_several(thirds, "+.1f"),
            "smallest / largest, %": _write_several([row["smallest"], row["largest"]], ".1f", 100),
            "hypervolume, %": _write(row["hypervolume"], ".1f", 100),
            "of the chosen, %": _write(row["hypervolume_chosen"], ".1f", 100),
        }
    return _fill(name, cells)


def _take(alone: Mapping[str, Any], kind: str) -> dict[str, float | None]:
    return {name: alone[name][kind] for name in ("tau", "tau_top_quarter", "tau_within_macs")}


def _write_taus(row: Mapping[str, Any], of_all: str) -> dict[str, str]:
    return {
        "tau (90 %)": of_all,
        "top quarter": _write(row["tau_top_quarter"], ".2f"),
        "within MACs": _write(row["tau_within_macs"], ".2f"),
    }


def _fill(name: str, cells: Mapping[str, str]) -> str:
    return _join([name, *(cells.get(title, "") for title in HEADER[1:])])


def _join(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _write(value: float | None, form: str, times: float = 1) -> str:
    return "?" if value is None else format(times * value, form)


def _write_with(value: float | None, interval: Sequence[float | None], form: str) -> str:
    low, high = (_write(end, form) for end in interval)
    return f"{_write(value, form)} ({low} to {high})"


def _write_several(values: Sequence[float | None], form: str, times: float = 1) -> str:
    return " / ".join(_write(value, form, times) for value in values)
