"""Freed memory stays with the process where the C library can be told so."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from app.runs.allocator import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def run():
    for _ in range(50):
        blocks = [torch.ones(1 << 18) for _ in range(4)]
        del blocks
run()
before = faults()
run()
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")
def test_blocks_are_not_mapped_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    found = {}
    for mode in ("keep", "default"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True
        )
        said, faults = done.stdout.split()
        found[mode] = int(faults)
        if said == "False":
            pytest.skip("this C library cannot be told")
    assert found["keep"] < 100, found
    assert found["default"] >= found["keep"]


def test_a_users_own_thresholds_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.runs.allocator import keep_freed_memory

    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert keep_freed_memory() is False
