"""Several subnetworks as ONNX models that share one file of weights.

Subnetworks keep the first rows and columns of the supernet's weights, so that a weight of each is a
corner of the same array. The array is stored once. A model that keeps whole rows names the
beginning of it as its own external data; one that keeps fewer columns, too, slices it, which ONNX
Runtime does once, when it loads the model. What is no corner (statistics that were estimated for
one subnetwork, kernels that were computed) is stored in the model itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from supernet.errors import InputError

if TYPE_CHECKING:
    import onnx

SHARED_WEIGHTS = "weights.bin"
# Where tensors begin in the file: what vector instructions can read.
_ALIGNMENT = 64
# Smaller tensors cost less in the models than their place in the file would.
_SMALLEST = 256


def share_weights(
    models: Mapping[str, bytes], arrays: Mapping[str, NDArray[np.generic]]
) -> tuple[dict[str, bytes], bytes]:
    """Let models refer to one file of weights.

    Args:
        models: ONNX models that hold all of their weights, by any names.
        arrays: Weights of the network that contains them all, by the names of initialisers.

    Returns:
        The models, which now read a file :data:`SHARED_WEIGHTS` in their own folder, and the
        content of that file.

    Raises:
        InputError: A model computes in integers, whose weights are stored in other forms.
    """
    import onnx

    opened = {name: onnx.load_from_string(content) for name, content in models.items()}
    for name, model in opened.items():
        kinds = {initializer.data_type for initializer in model.graph.initializer}
        if kinds - {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL}:
            raise InputError(
                f"{name} computes in integers; only float networks can share a file of weights"
            )
    boxes = _find_boxes(list(opened.values()), arrays)
    places, content = _lay_out(boxes, arrays)
    for model in opened.values():
        _refer(model, boxes, places, arrays)
    return {name: model.SerializeToString() for name, model in opened.items()}, content


def _find_boxes(
    models: Sequence[onnx.ModelProto], arrays: Mapping[str, NDArray[np.generic]]
) -> dict[str, tuple[int, ...]]:
    """The smallest corner of each array that contains those of all models."""
    boxes: dict[str, tuple[int, ...]] = {}
    for model in models:
        for initializer in model.graph.initializer:
            array = arrays.get(initializer.name)
            if array is None or not _is_corner(initializer, array):
                continue
            ours = tuple(initializer.dims)
            known = boxes.get(initializer.name, ours)
            boxes[initializer.name] = tuple(map(max, ours, known))
    return boxes


def _is_corner(initializer: onnx.TensorProto, array: NDArray[np.generic]) -> bool:
    from onnx import numpy_helper

    value = numpy_helper.to_array(initializer)
    if value.nbytes < _SMALLEST or value.ndim != array.ndim or value.dtype != array.dtype:
        return False
    if any(ours > whole for ours, whole in zip(value.shape, array.shape, strict=True)):
        return False
    return bool(np.array_equal(value, array[_corner(value.shape)]))


def _corner(shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(size) for size in shape)


def _lay_out(
    boxes: Mapping[str, tuple[int, ...]], arrays: Mapping[str, NDArray[np.generic]]
) -> tuple[dict[str, int], bytes]:
    """Where each array begins in the file, and the file."""
    places: dict[str, int] = {}
    content = bytearray()
    for name, box in boxes.items():
        content += bytes(-len(content) % _ALIGNMENT)
        places[name] = len(content)
        content += np.ascontiguousarray(arrays[name][_corner(box)]).tobytes()
    return places, bytes(content)


def _refer(
    model: onnx.ModelProto,
    boxes: Mapping[str, tuple[int, ...]],
    places: Mapping[str, int],
    arrays: Mapping[str, NDArray[np.generic]],
) -> None:
    """Let the initialisers of a model that are corners of arrays lie in the file."""
    from onnx import helper

    slices = []
    for initializer in model.graph.initializer:
        name = initializer.name
        if name not in boxes or not _is_corner(initializer, arrays[name]):
            continue
        ours, box = tuple(initializer.dims), boxes[name]
        if ours[1:] != box[1:]:
            stored, ends = f"{name}/shared", f"{name}/ends"
            slices.append((stored, name, ends, ours))
            initializer.name = stored
            ours = box
        size = int(np.prod(ours)) * arrays[name].dtype.itemsize
        initializer.ClearField("dims")
        initializer.dims.extend(ours)
        initializer.ClearField("raw_data")
        initializer.data_location = 1
        for key, value in (
            ("location", SHARED_WEIGHTS),
            ("offset", str(places[name])),
            ("length", str(size)),
        ):
            initializer.external_data.add(key=key, value=value)
    if not slices:
        return
    nodes = list(model.graph.node)
    model.graph.ClearField("node")
    for stored, name, ends, ours in slices:
        starts = f"{ends}/from"
        for constant, values in ((starts, (0,) * len(ours)), (ends, ours)):
            model.graph.initializer.append(
                helper.make_tensor(constant, 7, (len(ours),), list(values))
            )
        model.graph.node.append(helper.make_node("Slice", [stored, starts, ends], [name]))
    model.graph.node.extend(nodes)
