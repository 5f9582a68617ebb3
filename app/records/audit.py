"""Reading a stored audit, and saying in one sentence what it found; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supernet import files

FORMAT_VERSION = 1
_NEEDED = ("objective", "unit", "split", "networks", "kendall_tau", "sparse_kendall_tau",
           "spearman", "kendall_tau_of_macs", "gap", "by_size", "spread", "monotonicity", "choices",
           "calibration", "seconds")  # fmt: skip


def read_audit(folder: Path) -> dict[str, Any]:
    """The content of an audit's ``audit.json``.

    Raises:
        FileNotFoundError: The audit has not finished.
        ValueError: It is damaged.
    """
    path = folder / "audit.json"
    found = files.read_json(path)
    if (
        not isinstance(found, dict)
        or found.get("version") != FORMAT_VERSION
        or any(name not in found for name in _NEEDED)
    ):
        raise ValueError(f"{path} was damaged or edited; remove it and run the audit again")
    return found


def verdict(found: Mapping[str, Any]) -> str:
    """The ranking in one sentence."""
    tau, count = found["kendall_tau"], len(found["networks"])
    if tau["value"] is None or tau["low"] is None:
        return f"The {count} networks are equally good: there is no ranking to compare."
    if tau["low"] > 0:
        return "Inherited weights rank these networks better than chance."
    return (
        f"These {count} networks do not show that inherited weights rank better than chance "
        "(the interval of tau includes 0)."
    )
