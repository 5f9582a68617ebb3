"""The reproducible mode: which one, whose word counts, and products that stay what they were."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from supernet import reproducible
from supernet.reproducible import VARIABLE, use_reproducible_kernels

pytestmark = pytest.mark.exactness
AVX512 = "avx2 avx512f avx512bw avx512cd avx512dq avx512vl"
# The same numbers, elsewhere in memory and with other strides.
PRODUCTS = """
import sys
from supernet.reproducible import use_reproducible_kernels
use_reproducible_kernels()
import torch
torch.set_num_threads(1)
if not torch.backends.mkl.is_available():
    sys.exit(5)
generator = torch.Generator().manual_seed(0)
for dtype in (torch.float32, torch.float64):
    for m, k, n in ((3, 5, 7), (17, 33, 31), (64, 64, 64), (60, 100, 35)):
        a = torch.randn(m, k, generator=generator).to(dtype)
        b = torch.randn(n, k, generator=generator).to(dtype)
        expected = a @ b.T
        wide = torch.zeros(n, k + 3, dtype=dtype)[:, :k].copy_(b)
        assert torch.equal(a @ wide.T, expected), (dtype, m, "strided")
        for offset in range(1, 8):
            moved = torch.empty(n * k + 8, dtype=dtype)[offset : offset + n * k].view(n, k)
            assert torch.equal(a @ moved.copy_(b).T, expected), (dtype, m, offset)
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )


def test_products_do_not_depend_on_where_their_operands_lie() -> None:
    done = python(PRODUCTS)
    if done.returncode == 5:
        pytest.skip("this torch was built without MKL")
    assert done.returncode == 0, done.stderr


def test_the_command_chooses_before_torch_is_imported() -> None:
    code = f"""
import os, sys
from app.commands.main import main
sys.argv = ["supernet", "--version"]
try:
    main()
except SystemExit as ended:
    assert not ended.code
from supernet.reproducible import use_reproducible_kernels
assert "torch" not in sys.modules
print(os.environ.get({VARIABLE!r}) == use_reproducible_kernels())
"""
    done = python(code)
    assert done.stdout.splitlines()[-1:] == ["True"], done.stderr


@pytest.mark.parametrize(
    ("machine", "flags", "limit", "expected"),
    [
        ("x86_64", AVX512, "", "AVX512,STRICT"),
        ("AMD64", AVX512, "AVX512_E1", "AVX512,STRICT"),
        ("x86_64", AVX512, "AVX2", "AVX2,STRICT"),
        ("x86_64", AVX512, "SSE4_2", "AUTO"),
        ("x86_64", "sse2 avx2 avx512f", "", "AVX2,STRICT"),
        ("x86_64", "sse2", "", "AUTO"),
        ("x86_64", "", "", "AUTO"),
        ("aarch64", "", "", None),
        ("arm64", "", "", None),
    ],
)
def test_the_branch_is_one_that_processor_and_user_allow(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, limit: str, expected: str | None
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", limit)
    monkeypatch.setattr(reproducible, "_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(reproducible.platform, "machine", lambda: machine)
    assert use_reproducible_kernels() == expected
    assert os.environ.get(VARIABLE) == expected


@pytest.mark.parametrize("value", ["COMPATIBLE", ""])
def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert use_reproducible_kernels() == value
