"""Which architectures train in a step: one sampler per module, found by its name."""

from __future__ import annotations

import pkgutil


def names() -> tuple[str, ...]:
    """The samplers in this folder, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_"))
