"""Random subnetworks in random precisions, made ready to be run by ONNX Runtime, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from supernet.graph.language import Graph
from supernet.graph.lowering import lower
from supernet.graph.onnx_model import to_onnx
from supernet.precision.elastic import make_precision_elastic
from supernet.quality.batch_statistics import recalibrate
from supernet.quality.evaluate import round_activations
from supernet.quantization.execution import find_execution
from supernet.quantization.formats import parse_policy
from supernet.space import Architecture
from supernet.supernet import Supernet


@dataclass(frozen=True)
class Prepared:
    """An extracted network with ranges from random inputs, and what it is written as.

    Args:
        architecture: What it is.
        network: The simulation.
        inputs: Random samples as it takes them.
        outputs: What the simulation makes of them, ``(n, classes)`` or ``(n, length, classes)``.
        graph: Its trace.
        values: Values of the graph's weights.
        model: The graph as an ONNX model.
    """

    architecture: Architecture
    network: nn.Module
    inputs: Tensor
    outputs: np.ndarray
    graph: Graph
    values: Mapping[str, np.ndarray]
    model: bytes

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        """The samples by the name of the graph's input."""
        return {self.graph.inputs[0].name: self.inputs.numpy()}


def build_elastic(family: ModuleType, policy: str, preset: str = "") -> Supernet:
    """Build a family's supernet with random weights and make it elastic in precision."""
    torch.manual_seed(0)
    net: Supernet = family.build(family.PRESETS[preset or family.DEFAULT_PRESET])
    return make_precision_elastic(net, parse_policy(policy)).eval()


def draw_prepared(
    net: Supernet, count: int, *, seed: int = 0, samples: int = 16
) -> Iterator[Prepared]:
    """Draw random architectures, precisions included, and make them ready one by one.

    Args:
        net: Elastic in precision.
        count: How many.
        seed: Draws architectures and inputs.
        samples: Random inputs for statistics, ranges and comparisons.
    """
    rng = np.random.default_rng(seed)
    for architecture in net.space.decode(net.space.sample(rng, count)):
        shape = (samples, *net.input_shape(architecture))
        inputs = torch.from_numpy(rng.random(shape, dtype=np.float32))
        if not net.inputs.dtype.is_floating_point:
            inputs = (inputs * 10).long()
        yield prepare(net, architecture, inputs)


def prepare(net: Supernet, architecture: Architecture, inputs: Tensor) -> Prepared:
    """Extract, recalibrate, fold, calibrate and write one subnetwork."""
    network = net.extract(architecture).eval()
    with torch.no_grad():
        recalibrate(network, [inputs])
        network.eval()
        execution = find_execution(network)
        if execution is not None:
            round_activations(network, execution, [inputs], "minmax")
        outputs = network(inputs)
    graph, found = lower(network, (inputs[:1],))
    values = {name: value for name, value in found.items() if value is not None}
    model = to_onnx(graph, values).SerializeToString()
    logits = getattr(outputs, "logits", outputs).numpy()
    return Prepared(architecture, network, inputs, logits, graph, values, model)
