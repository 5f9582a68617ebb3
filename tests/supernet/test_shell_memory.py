"""What subnetworks keep in memory: no gradient that was dropped, none that nothing asked for."""

from __future__ import annotations

import weakref

import numpy as np
import torch

from supernet.families import ofa_mobilenetv3
from supernet.space import Architecture


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


def test_kernel_transforms_have_a_gradient_in_steps_that_use_them_alone() -> None:
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.PRESETS["tiny"]).train()
    space = supernet.space
    kernels = [name for name in space.names if name.endswith("kernel")]
    cropped = space.architecture(space.largest.to_dict() | dict.fromkeys(kernels[:2], 3))

    def moved() -> set[str]:
        return {name for name, p in supernet.shared.named_parameters() if p.grad is not None}

    inputs = torch.rand((4, *supernet.inputs.shape), generator=torch.Generator().manual_seed(0))
    for norm in (m for m in supernet.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.ones_(norm.weight)  # blocks that start as identities teach nothing

    def backward(architecture: Architecture) -> None:
        supernet(inputs, architecture)[:, 0].sum().backward()

    for architecture, used in ((space.largest, 0), (cropped, 2), (space.largest, 2)):
        backward(architecture)
        assert len(moved()) == used
    assert all(supernet.shared[name].grad.abs().max() > 0 for name in moved())
    assert all(p.grad is not None for name, p in supernet.model.named_parameters())
    # Frozen and released again, dropped and used again.
    supernet.shared.requires_grad_(False)
    supernet.zero_grad(set_to_none=True)
    backward(cropped)
    assert not moved()
    supernet.shared.requires_grad_(True)
    backward(cropped)
    assert len(moved()) == 2
