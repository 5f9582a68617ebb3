"""Settings that every test shares."""

from __future__ import annotations

import os

import pytest

from supernet.reproducible import use_reproducible_kernels

# Small networks are slower on several threads than on one, and results must not depend on it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As the commands do, and like them before torch is imported: what they promise bit for bit is
# tested in process too. An empty MKL_CBWR in the environment keeps it off.
use_reproducible_kernels()


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """One torch thread, so that timings and sums do not depend on the machine."""
    import torch

    torch.set_num_threads(1)
