"""One architecture as files that need neither torch nor this project: ONNX, safetensors, JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernet import files
from supernet.data import DataSource
from supernet.errors import InputError
from supernet.generation.language_model import find_decoder
from supernet.generation.onnx_decoder import write_decoder
from supernet.graph.integer.saturation import SaturationVerdict, check_graph
from supernet.graph.language import Graph
from supernet.graph.lowering import lower
from supernet.graph.onnx_model import to_onnx
from supernet.graph.quantized.integer_weights import write_integer_weights
from supernet.graph.quantized.packing import stored_bytes
from supernet.quality.evaluate import CALIBRATION_SAMPLES, recalibrate_extracted
from supernet.quantization.calibration import DEFAULT_ESTIMATOR
from supernet.quantization.execution import Execution, find_execution
from supernet.space import Architecture
from supernet.supernet import Supernet

ONNX, WEIGHTS, ARCHITECTURE = "model.onnx", "weights.safetensors", "architecture.json"
DECODER = "decoder.onnx"


@dataclass(frozen=True)
class Exported:
    """A stand-alone network and its files' content.

    Args:
        network: Plain, recalibrated, in eval mode, on the processor.
        onnx: The model: dynamic batch, normalisation of pixels inside.
        weights: Values by parameter or buffer name.
        input_name: Name of the ONNX graph's input.
        input_shape: Shape of one sample.
        input_dtype: ``"float32"`` pixels in 0..1 or ``"int64"`` token ids.
        output_name: Name of the ONNX graph's output, which is logits.
        parameters: Learned weights.
        macs: Multiply-accumulates for one sample.
        calibration_samples: Training samples behind normalisation statistics and ranges.
        graph: The network as it is in the ONNX model.
        normalizes: Whether it has normalisation statistics, which were estimated on these samples.
        calibrates: Whether it rounds activations to ranges that were estimated on some of them.
        formats: Number format of every unit, or layer, that does not compute in float, by path.
        saturation: For layers that multiply integers, by the name of their weight, whether sums
            are exact on processors without 8-bit dot products, too.
        decoder: Of a language model, a second model that takes and gives keys and values, at any
            length (:mod:`supernet.generation.onnx_decoder`). Empty for other networks, and for
            those whose activations have calibrated ranges, which are of whole contexts.
    """

    network: nn.Module
    onnx: bytes
    weights: Mapping[str, np.ndarray]
    input_name: str
    input_shape: tuple[int, ...]
    input_dtype: str
    output_name: str
    parameters: int
    macs: int
    calibration_samples: int
    graph: Graph
    normalizes: bool = False
    calibrates: bool = False
    formats: Mapping[str, str] = field(default_factory=dict)
    saturation: Mapping[str, SaturationVerdict] = field(default_factory=dict)
    decoder: bytes = b""

    @property
    def size_bytes(self) -> int:
        """Bytes that the weights take in the ONNX model, each at its own bits."""
        return stored_bytes(self.graph)

    @property
    def overhead_bytes(self) -> int:
        """All other bytes of the ONNX model: operators, names, constants, quantizers."""
        return len(self.onnx) - self.size_bytes


def export(
    supernet: Supernet,
    architecture: Architecture,
    data: DataSource,
    *,
    calibration_samples: int = CALIBRATION_SAMPLES,
    estimator: str = DEFAULT_ESTIMATOR,
    corrections: bool = True,
) -> Exported:
    """Extract a subnetwork, recalibrate it and write it as an ONNX model.

    Units that compute in integers are written as QuantizeLinear, DequantizeLinear and integer
    weights, exactly as they are simulated: the model is a trace of the simulation.

    Args:
        supernet: Holds the weights.
        architecture: The subnetwork to export.
        data: The data whose training split gives the normalisation statistics.
        calibration_samples: Samples to use, at most.
        estimator: How ranges of activations follow from their values, one of
            :data:`supernet.quantization.calibration.ESTIMATORS`.
        corrections: Equalise and correct layers whose weights have one scale for all channels.

    Raises:
        InputError: An architecture of another space, an operator without an ONNX form, or a
            number format that the runtime cannot execute.
    """
    network = supernet.extract(architecture).eval()
    execution = find_execution(network)
    if execution is not None:
        _check_executable(execution)
    normalizes = any(isinstance(module, _BatchNorm) for module in network.modules())
    used = recalibrate_extracted(
        network,
        supernet,
        architecture,
        data,
        calibration_samples,
        estimator=estimator,
        corrections=corrections,
    )
    network = network.cpu().eval()
    example = supernet.example(architecture, 1)
    graph, found = lower(network, (example,))
    values = {name: value for name, value in found.items() if value is not None}
    model = to_onnx(graph, values)
    # Weights that two layers share are stored once, by the name of the first.
    own = {name for name, _ in (*network.named_parameters(), *network.named_buffers())}
    stored = {name: t for name, t in network.state_dict().items() if name in own}
    state = {name: tensor.detach().cpu().numpy() for name, tensor in stored.items()}
    if execution is not None:
        state = values
    return Exported(
        network=network,
        onnx=model.SerializeToString(),
        weights={name: np.array(value, order="C") for name, value in state.items()},
        input_name=graph.inputs[0].name,
        input_shape=supernet.input_shape(architecture),
        input_dtype=graph.inputs[0].dtype,
        output_name=graph.outputs[0].name,
        parameters=graph.parameters,
        macs=graph.macs,
        calibration_samples=used,
        graph=graph,
        normalizes=normalizes,
        calibrates=execution is not None and bool(execution.calibrated),
        formats={} if execution is None else {p: f.name for p, f in execution.formats.items()},
        saturation={} if execution is None else check_graph(graph, values),
        decoder=_write_decoder(network, execution),
    )


def _write_decoder(network: nn.Module, execution: Execution | None) -> bytes:
    decoder = find_decoder(network)
    if decoder is None or (execution is not None and execution.calibrated):
        return b""
    return write_decoder(decoder)


def _check_executable(execution: Execution) -> None:
    """Refuse formats that only exist as a simulation.

    Raises:
        InputError: Naming the unit, its format and what could be executed in its place.
    """
    for path, form in execution.formats.items():
        reason = form.explain_simulation("ONNX Runtime")
        if reason is not None:
            raise InputError(f"{path or 'the network'} computes in {form.name}, and {reason}")


def write_files(folder: Path, exported: Exported, architecture: Architecture) -> None:
    """Write model, weights and architecture into an existing folder.

    Raises:
        OSError: A write failed.
    """
    files.write_bytes(folder / ONNX, exported.onnx)
    if exported.decoder:
        files.write_bytes(folder / DECODER, exported.decoder)
    weights = (
        write_integer_weights(exported.graph, exported.weights)
        if exported.formats
        else save(dict(exported.weights))
    )
    files.write_bytes(folder / WEIGHTS, weights)
    files.write_json(folder / ARCHITECTURE, architecture.to_json())


def run_torch(exported: Exported, inputs: torch.Tensor) -> np.ndarray:
    """Run the network on a prepared batch and return its outputs as an array."""
    with torch.no_grad():
        result: np.ndarray = exported.network(inputs.cpu()).numpy()
    return result
