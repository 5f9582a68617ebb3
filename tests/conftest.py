"""Settings that every test shares."""

from __future__ import annotations

import os

import pytest

from supernet.reproducible import use_reproducible_kernels

# The contract suites are libraries; their assertions shall say what they compared, as in tests.
pytest.register_assert_rewrite(
    "supernet.testing", "search.testing", "predictors.testing", "hardware.testing"
)

# Small networks are slower on several threads than on one, and results must not depend on it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As the commands do, and like them before torch is imported: what they promise bit for bit is
# tested in process too. An empty MKL_CBWR in the environment keeps it off.
use_reproducible_kernels()


# A process that came to one of these last would go on alone when all others have ended.
LONGEST = ("test_docs.py", "test_clutter_run.py", "test_evaluator.py", "test_search_command.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; processes take files in the order of the tests."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """One torch thread, so that timings and sums do not depend on the machine."""
    import torch

    torch.set_num_threads(1)
