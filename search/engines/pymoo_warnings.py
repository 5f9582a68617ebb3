"""pymoo without its warnings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def quiet_pymoo() -> Iterator[None]:
    """Silence divisions by empty ranges inside pymoo, which also changes the warning filters."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
