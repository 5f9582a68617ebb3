"""One architecture as files that need neither torch nor this project: ONNX, safetensors, JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save
from torch import nn

from supernet import files
from supernet.data import DataSource
from supernet.graph.lowering import lower
from supernet.graph.onnx_model import to_onnx
from supernet.quality.evaluate import CALIBRATION_SAMPLES, recalibrate_extracted
from supernet.space import Architecture
from supernet.supernet import Supernet

ONNX, WEIGHTS, ARCHITECTURE = "model.onnx", "weights.safetensors", "architecture.json"


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
        calibration_samples: Training samples behind the normalisation statistics.
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


def export(
    supernet: Supernet,
    architecture: Architecture,
    data: DataSource,
    *,
    calibration_samples: int = CALIBRATION_SAMPLES,
) -> Exported:
    """Extract a subnetwork, recalibrate it and write it as an ONNX model.

    Args:
        supernet: Holds the weights.
        architecture: The subnetwork to export.
        data: The data whose training split gives the normalisation statistics.
        calibration_samples: Samples to use, at most.

    Raises:
        InputError: An architecture of another space, or an operator without an ONNX form.
    """
    network = supernet.extract(architecture).eval()
    used = recalibrate_extracted(network, supernet, architecture, data, calibration_samples)
    network = network.cpu().eval()
    example = supernet.example(architecture, 1)
    graph, values = lower(network, (example,))
    model = to_onnx(graph, {name: v for name, v in values.items() if v is not None})
    state = {name: t.detach().cpu().numpy() for name, t in network.state_dict().items()}
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
    )


def write_files(folder: Path, exported: Exported, architecture: Architecture) -> None:
    """Write model, weights and architecture into an existing folder.

    Raises:
        OSError: A write failed.
    """
    files.write_bytes(folder / ONNX, exported.onnx)
    files.write_bytes(folder / WEIGHTS, save(dict(exported.weights)))
    files.write_json(folder / ARCHITECTURE, architecture.to_json())


def run_torch(exported: Exported, inputs: torch.Tensor) -> np.ndarray:
    """Run the network on a prepared batch and return its outputs as an array."""
    with torch.no_grad():
        result: np.ndarray = exported.network(inputs.cpu()).numpy()
    return result
