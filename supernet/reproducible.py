"""Matrix products whose last bits do not depend on where in memory their operands lie."""

from __future__ import annotations

import os
import platform
from collections.abc import Set
from pathlib import Path

VARIABLE = "MKL_CBWR"
_AVX512 = frozenset(("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"))


def use_reproducible_kernels() -> str | None:
    """Ask the matrix library that torch brings on x86 for its reproducible mode.

    Intel MKL otherwise picks kernels by the alignment and the strides of the operands, so the
    same product of the same numbers may end in other bits once a process has been stopped and
    continued. MKL reads the variable once, at its first product: call this before torch is
    imported. Processes started afterwards inherit it. A value that the user has set is kept, the
    empty one, which leaves the mode off, included.

    Returns:
        The value in force; None where torch does not use MKL.

    Source: Intel oneMKL developer guide, "Obtaining Numerically Reproducible Results".
    """
    if VARIABLE not in os.environ and platform.machine().lower() in ("x86_64", "amd64"):
        os.environ[VARIABLE] = _branch(_flags(), os.environ.get("MKL_ENABLE_INSTRUCTIONS", ""))
    return os.environ.get(VARIABLE)


def _branch(flags: Set[str], limit: str) -> str:
    """The fastest branch with a strict mode that the processor has and the user permits."""
    limited = bool(limit) and not limit.startswith("AVX512")
    if flags >= _AVX512 and not limited:
        return "AVX512,STRICT"
    if "avx2" in flags and (not limited or limit == "AVX2"):
        return "AVX2,STRICT"
    return "AUTO"


def _flags() -> frozenset[str]:
    """What the processor can do as Linux names it; nothing on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return next(
        (frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")),
        frozenset(),
    )
