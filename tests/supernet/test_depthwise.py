"""Depthwise convolutions of subnetworks in training: same outputs, same gradients, less time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from supernet.elastic import depthwise
from supernet.families import ofa_mobilenetv3
from supernet.testing.exactness import relative_difference


def _gradients(layer: nn.Conv2d, inputs: torch.Tensor, *, ours: bool) -> list[torch.Tensor]:
    x = inputs.clone(memory_format=torch.preserve_format).requires_grad_()
    layer.zero_grad()
    outputs = depthwise.make_fast_forward(layer)(x) if ours else layer(x)
    weights = torch.linspace(-1, 1, outputs.numel()).view(outputs.shape)
    (outputs * weights).sum().backward()
    assert x.grad is not None
    return [outputs.detach(), x.grad, *(p.grad.clone() for p in layer.parameters())]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "bias"),
    [((7, 7), 5, 1, True), ((2, 2), 7, 1, False), ((2, 2), 3, 1, False), ((7, 6), 5, 2, False),
     ((8, 8), 7, 2, True), ((6, 8), (5, 7), (2, 1), False), ((8, 7), 5, 3, False)],
)  # fmt: skip
def test_gradients_are_those_of_the_plain_layer(size, kernel, stride, bias, layout) -> None:
    torch.manual_seed(0)
    padding = (kernel // 2,) * 2 if isinstance(kernel, int) else tuple(k // 2 for k in kernel)
    layer = nn.Conv2d(6, 6, kernel, stride, padding, groups=6, bias=bias)
    layer = layer.double()
    inputs = torch.randn(4, 6, *size).double().to(memory_format=layout)
    assert depthwise._pays(layer.kernel_size, layer.stride, inputs)
    plain, ours = (_gradients(layer, inputs, ours=flag) for flag in (False, True))
    assert torch.equal(plain[0], ours[0]), "the same kernel with the same operands"
    for expected, found in zip(plain[1:], ours[1:], strict=True):
        assert expected.abs().max() > 0.01
        assert relative_difference(found, expected) < 1e-12


def test_other_layers_are_left_alone() -> None:
    class Own(nn.Conv2d):
        pass

    assert depthwise.is_depthwise(nn.Conv2d(4, 4, 5, groups=4))
    for layer in (nn.Conv2d(4, 4, 5), nn.Conv2d(4, 8, 5, groups=4), nn.Conv2d(1, 1, 5),
                  nn.Conv2d(4, 4, 5, groups=4, dilation=2), Own(4, 4, 5, groups=4),
                  nn.Conv2d(4, 4, 5, groups=4, padding="same")):  # fmt: skip
        assert not depthwise.is_depthwise(layer)


def test_bf16_and_evaluation_take_the_plain_way(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(depthwise, "compute_weight_gradient", refuse)
    layer = nn.Conv2d(4, 4, 5, padding=2, groups=4)
    forward, inputs = depthwise.make_fast_forward(layer), torch.randn(2, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert forward(inputs).dtype == torch.bfloat16
    with torch.no_grad():
        assert torch.equal(forward(inputs), layer(inputs))
    with pytest.raises(AssertionError):
        forward(inputs).sum().backward()


def test_a_subnetwork_trains_with_it_and_an_extracted_one_is_plain() -> None:
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.PRESETS["tiny"])
    largest = supernet.space.largest
    shell, extracted = supernet.shell(largest).network, supernet.extract(largest)
    layers = [m for m in shell.modules() if "forward" in m.__dict__]
    assert len(layers) == 7
    assert all(depthwise.is_depthwise(layer) for layer in layers)
    assert not any("forward" in m.__dict__ for m in extracted.modules())
