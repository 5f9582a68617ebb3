"""Names for help texts, read from folders without importing what is in them."""

from __future__ import annotations

import pkgutil
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def _list_modules(*folder: str) -> str:
    found = (module.name for module in pkgutil.iter_modules([str(_ROOT.joinpath(*folder))]))
    return ", ".join(sorted(name for name in found if not name.startswith("_")))


BACKENDS = _list_modules("hardware", "devices")
ENGINES = f"array, {_list_modules('search', 'engines', 'algorithms')}"
PREDICTORS = f"auto, {_list_modules('predictors', 'models')}"
STRATEGIES = _list_modules("search", "strategies")
