"""What ONNX Runtime's optimiser does to quantized graphs, pass by pass and in its order.

Which operators have int8 kernels and which let borders through is read from the contract; what
is written here is the optimiser's own structure (``graph_transformer_utils.cc`` and the folder
``qdq_transformer`` of microsoft/onnxruntime). Only what changes the counts of
:func:`supernet.graph.fusion.kernels.expand_kernel` is here: fusions of float operators do not.
"""

from __future__ import annotations

from supernet.graph.fusion.bias_passes import merge_bias
from supernet.graph.fusion.border_passes import (
    carry_dequantize,
    carry_quantize,
    quantize_float_layers,
    remove_cancelling,
    remove_clips,
    remove_double_pairs,
    split_dequantize,
)
from supernet.graph.fusion.contract import FusionContract
from supernet.graph.fusion.folding_passes import (
    fold_layers,
    fold_stored,
    merge_equal,
    remove_identities,
)
from supernet.graph.fusion.kernel_passes import fuse_dynamic, fuse_quantized, note_integer_clips
from supernet.graph.fusion.workspace import Step, Workspace

# The runtime repeats its first passes up to ten times, until nothing changes.
_ROUNDS = 10


def optimise(work: Workspace, contract: FusionContract) -> list[Step]:
    """Rewrite a graph as the runtime does when it loads it.

    Args:
        work: The graph; changed in place.
        contract: What the runtime makes of each pattern.

    Returns:
        Float layers that the runtime has quantized by itself.
    """
    taken: list[Step] = []
    remove_identities(work)
    split_dequantize(work)
    for _ in range(_ROUNDS):
        before = _describe(work)
        fold_layers(work)
        remove_double_pairs(work)
        merge_equal(work)
        fold_stored(work)
        merge_bias(work)
        carry_quantize(work, contract)
        carry_dequantize(work, contract)
        taken += quantize_float_layers(work, contract)
        split_dequantize(work)
        if _describe(work) == before:
            break
    remove_clips(work)
    note_integer_clips(work)
    fuse_quantized(work, contract)
    fuse_dynamic(work, contract)
    remove_cancelling(work)
    return taken


def _describe(work: Workspace) -> list[tuple[str, tuple[str, ...]]]:
    return [(step.op, tuple(step.inputs)) for step in work.steps]
