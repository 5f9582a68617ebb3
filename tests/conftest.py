"""Settings that every test shares."""

from __future__ import annotations

import os

# Small networks are slower on several threads than on one, and results must not depend on it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """One torch thread, so that timings and sums do not depend on the machine."""
    import torch

    torch.set_num_threads(1)
