"""Every family, for tests that go through all of them."""

from __future__ import annotations

import pytest

from supernet.families import (
    attentivenas,
    autoformer,
    matlm,
    matvit,
    nas_bench_macro,
    ofa_mobilenetv3,
    ofa_proxyless,
    ofa_resnet50,
    resnet,
    spos,
    superkernel,
    uib,
    vit_resnas,
)

FAMILIES = (attentivenas, autoformer, matlm, matvit, nas_bench_macro, ofa_mobilenetv3,
            ofa_proxyless, ofa_resnet50, resnet, spos, superkernel, uib, vit_resnas)  # fmt: skip
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__[18:])
"""Gives a test the module of each family that needs no other package, as ``family``."""
