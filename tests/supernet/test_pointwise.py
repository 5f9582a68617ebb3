"""Strided pointwise convolutions in training: same outputs and gradients, no abort."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from supernet.elastic import pointwise
from supernet.families import resnet
from supernet.testing.exactness import relative_difference


def _gradients(layer: nn.Conv2d, inputs: torch.Tensor, *, ours: bool) -> list[torch.Tensor]:
    x = inputs.clone(memory_format=torch.preserve_format).requires_grad_()
    layer.zero_grad()
    outputs = pointwise.make_safe_forward(layer)(x) if ours else layer(x)
    (outputs * torch.linspace(-1, 1, outputs.numel()).view(outputs.shape)).sum().backward()
    assert x.grad is not None
    return [outputs.detach(), x.grad, *(p.grad.clone() for p in layer.parameters())]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("stride", [2, 3, (2, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_the_plain_layer(stride, bias, layout) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 7, 1, stride, bias=bias).double()
    inputs = torch.randn(3, 5, 9, 8).double().to(memory_format=layout)
    plain, ours = (_gradients(layer, inputs, ours=flag) for flag in (False, True))
    assert torch.equal(plain[0], ours[0])
    assert torch.equal(plain[1], ours[1])
    for expected, found in zip(plain[2:], ours[2:], strict=True):
        assert relative_difference(found, expected) < 1e-12


def test_which_layers_are_meant() -> None:
    assert pointwise.is_strided_pointwise(nn.Conv2d(8, 16, 1, 2))
    for layer in (nn.Conv2d(8, 16, 1), nn.Conv2d(8, 16, 3, 2), nn.Conv2d(8, 16, 1, 2, 1),
                  nn.Conv2d(8, 16, 1, 2, groups=2), nn.Linear(8, 16)):  # fmt: skip
        assert not pointwise.is_strided_pointwise(layer)


def test_subnetworks_of_a_family_with_such_layers_train_by_them(monkeypatch) -> None:
    seen = []
    original = pointwise._Pointwise.apply
    monkeypatch.setattr(
        pointwise._Pointwise, "apply", lambda *a: seen.append(a[1].shape) or original(*a)
    )
    supernet = resnet.build(resnet.PRESETS["tiny"]).train()
    smallest = supernet.space.smallest
    supernet(supernet.example(smallest, 2), smallest).sum().backward()
    assert [tuple(shape) for shape in seen] == [(16, 8, 1, 1)]


CODE = """
import torch
from supernet.elastic.pointwise import convolve
torch.manual_seed(0)
for _ in range(100):
    x = torch.randn(8, 8, 64, 64).to(memory_format=torch.channels_last).requires_grad_()
    w = torch.randn(16, 8, 1, 1).to(memory_format=torch.channels_last).requires_grad_()
    convolve(x, w, stride=(2, 2)).sum().backward()
"""


def test_a_hundred_gradients_do_not_end_the_process() -> None:
    # torch.conv2d in its place is aborted by "corrupted size vs. prev_size" with AVX-512.
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
