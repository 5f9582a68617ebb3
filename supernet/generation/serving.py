"""One language model in memory that answers at every size."""

from __future__ import annotations

from supernet.errors import InputError
from supernet.generation.language_model import TorchModel, require_decoder
from supernet.quantization.execution import find_execution
from supernet.space import Architecture
from supernet.supernet import Supernet


def serve(supernet: Supernet, architecture: Architecture) -> TorchModel:
    """Give a subnetwork of a decoder that generates from the supernet's own weights.

    Nothing is copied: its tensors are views, so that any number of sizes takes the memory of one,
    a large model and its draft among them. Keys and values belong to no size either: a text that
    one subnetwork has read goes on with another of as many layers
    (:meth:`supernet.generation.language_model.TorchModel.score`).

    Args:
        supernet: In eval mode; what is served follows its weights, but for those that are computed
            (mixed experts), which stay as they are now.
        architecture: The subnetwork.

    Raises:
        InputError: No decoder, a supernet in training mode, an architecture of another space, or
            one that computes in number formats, whose ranges belong to an extracted network.
    """
    if supernet.training:
        raise InputError("the supernet is in training mode; call .eval() before it serves")
    shell = supernet.shell(architecture)
    shell.refresh()
    if find_execution(shell.network) is not None:
        raise InputError(
            f"{architecture.digest} computes in number formats; extract and calibrate it instead"
        )
    return TorchModel(require_decoder(shell.network, architecture.digest))
