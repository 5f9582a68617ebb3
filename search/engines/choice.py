"""Engines by name: what evolves on predictions inside ``predictor_guided`` and ``linas``."""

from __future__ import annotations

from search.engines.array_nsga2 import optimise
from search.engines.contract import Engine
from supernet.space import nearest

__all__ = ["ENGINES", "Engine", "find_engine"]

# The first is the default.
ENGINES: tuple[str, ...] = ("array",)


def find_engine(name: str) -> Engine:
    """The engine called ``name``.

    Args:
        name: One of :data:`ENGINES`.

    Returns:
        What strategies take as ``build(fit, engine=...)``.

    Raises:
        ValueError: There is no such engine; the nearest name and the list are in the message.
    """
    if name not in ENGINES:
        raise ValueError(
            f"unknown engine {name!r}{nearest(name, ENGINES)}; engines are {', '.join(ENGINES)}"
        )
    return optimise
