"""Gradients the user has dropped are not kept alive by cached subnetworks."""

from __future__ import annotations

import weakref

import numpy as np
import torch

from supernet.families import ofa_mobilenetv3


def test_dropped_gradients_are_freed_when_the_next_subnetwork_runs() -> None:
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.PRESETS["tiny"]).train()
    space = supernet.space
    (other,) = space.decode(space.sample(np.random.default_rng(0), 1))
    supernet(supernet.example(space.largest, 2), space.largest).sum().backward()
    gradients = [weakref.ref(p.grad) for p in supernet.parameters() if p.grad is not None]
    before = [reference().clone() for reference in gradients]
    assert len(gradients) > 50
    supernet(supernet.example(other, 2), other).sum().backward()
    assert all(reference() is not None for reference in gradients)
    assert any(not torch.equal(r(), old) for r, old in zip(gradients, before, strict=True))
    supernet.zero_grad(set_to_none=True)
    supernet(supernet.example(other, 2), other)
    assert not any(reference() is not None for reference in gradients)
