"""A place in a network that one of several modules takes."""

from __future__ import annotations

from typing import Any

from torch import nn

from supernet.errors import InputError


class Alternatives(nn.Module):
    """Candidate modules for one place; a ``Pick`` row says which of them an architecture has.

    The plain network is the largest subnetwork, so on its own this module runs the candidate
    which that one has. In a subnetwork the chosen candidate stands here directly.

    Args:
        default: Name of the candidate that the largest architecture has.
        candidates: The modules by name; ``nn.Identity()`` for a layer that may be absent.

    Raises:
        InputError: ``default`` is not among the candidates.
    """

    def __init__(self, default: str, /, **candidates: nn.Module) -> None:
        super().__init__()
        if default not in candidates:
            raise InputError(
                f"default {default!r} is not a candidate; candidates are {', '.join(candidates)}"
            )
        self.default = default
        for name, candidate in candidates.items():
            self.add_module(name, candidate)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._modules[self.default](*args, **kwargs)  # type: ignore[misc]
