"""What tests of families share: random weights, members of a space, and ONNX Runtime's opinion."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernet.data import DataShape
from supernet.graph.lowering import lower
from supernet.graph.onnx_model import to_onnx
from supernet.space import Architecture
from supernet.supernet import Supernet


def shake(net: Supernet, scale: float = 0.3) -> Supernet:
    """Float64, every weight random: biases and normalisation too, so that each one matters."""
    net.double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise * scale)
    return net


def shake_statistics(net: Supernet, scale: float) -> Supernet:
    """Float32, every weight and statistic random, shared kernel transforms a little less."""
    net.eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.05 if name.startswith("shared") else scale))
        for name, buffer in net.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
    return net


def draw_members(net: Supernet, count: int, seed: int = 0) -> list[Architecture]:
    """The smallest, the largest and ``count`` random architectures."""
    drawn = net.space.decode(net.space.sample(np.random.default_rng(seed), count))
    return [net.space.smallest, net.space.largest, *drawn]


def draw_tokens(vocabulary: int, count: int, length: int, seed: int = 0) -> Tensor:
    """Random token ids ``(count, length)``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocabulary, (count, length), generator=generator)


def assert_onnx_runtime_agrees(network: nn.Module, inputs: Tensor, rtol: float = 1e-7) -> Tensor:
    """Fail unless ONNX Runtime computes what a network in eval mode does; returns its outputs."""
    ort = pytest.importorskip("onnxruntime")
    model = to_onnx(*lower(network, (inputs,))).SerializeToString()
    runner = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected: Tensor = network(inputs)
    got = runner.run(None, {runner.get_inputs()[0].name: inputs.numpy()})[0]
    np.testing.assert_allclose(got, expected.numpy(), rtol=rtol, atol=1e-5)
    return expected


def assert_gradients_agree(found: nn.Module, expected: dict[str, Tensor], rtol: float) -> None:
    """Fail unless the gradients of parameters are those of the tensors of the same names."""
    for name, parameter in found.named_parameters():
        gradient = expected[name].grad
        if gradient is None:  # a layer that is not there
            assert parameter.grad is None or not parameter.grad.any()
        else:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, gradient, rtol=rtol, atol=1e-8)


def describe_images(*size: int) -> DataShape:
    """Images of seven classes."""
    return DataShape("image-classification", size, 7, tuple("abcdefg"), (0.5,) * 3, (0.2,) * 3)


def assert_images_are_refused(family: ModuleType, preset: str, side: int, message: str) -> None:
    """Fail unless a preset takes neither oblong images nor small ones, for the stated reason."""
    with pytest.raises(ValueError, match="images are 32x40; this family takes square ones"):
        family.configure(preset, describe_images(3, 32, 40))
    with pytest.raises(ValueError, match=message):
        family.configure(preset, describe_images(3, side, side))
