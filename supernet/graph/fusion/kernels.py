"""What counts when operators are compared: fused kernels as the operators that they replace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

MOVING = frozenset(
    {
        "Cast",
        "Concat",
        "ConstantOfShape",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "Identity",
        "Pad",
        "Range",
        "ReorderInput",
        "ReorderOutput",
        "Reshape",
        "Shape",
        "Size",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that move, copy or describe values; a runtime adds, merges and removes them at will."""

_ERF_GELU = Counter(Div=1, Erf=1, Add=1, Mul=2)
_TANH_GELU = Counter(Pow=1, Mul=4, Add=2, Tanh=1)
_RMS = Counter(Pow=1, ReduceMean=1, Add=1, Sqrt=1, Div=1, Mul=1)

_REPLACED: Mapping[str, Counter[str]] = {
    "FusedConv": Counter(Conv=1),
    "FusedMatMul": Counter(MatMul=1),
    "FusedGemm": Counter(MatMul=1),
    "Gemm": Counter(MatMul=1),
    "NhwcMaxPool": Counter(MaxPool=1),
    "HardSwish": Counter(HardSigmoid=1, Mul=1),
    "Gelu": _ERF_GELU,
    "BiasGelu": _ERF_GELU + Counter(Add=1),
    "FastGelu": _TANH_GELU,
    "QuickGelu": Counter(Sigmoid=1, Mul=1),
    "BiasSoftmax": Counter(Add=1, Softmax=1),
    "SkipLayerNormalization": Counter(Add=1, LayerNormalization=1),
    "SimplifiedLayerNormalization": _RMS,
    "SkipSimplifiedLayerNormalization": _RMS + Counter(Add=1),
}
# Where a fused kernel takes what an addition would have added.
_ADDED_INPUT: Mapping[str, int] = {
    "Conv": 3,
    "FusedConv": 3,
    "Gemm": 2,
    "FusedGemm": 2,
    "FastGelu": 1,
    "SkipLayerNormalization": 4,
    "SkipSimplifiedLayerNormalization": 3,
    "MatMulNBits": 5,
    "MatMulIntegerToFloat": 6,
    "DynamicQuantizeMatMul": 4,
}


def expand_kernel(
    op: str, inputs: tuple[str, ...], attributes: Mapping[str, object]
) -> Counter[str]:
    """List the operators that one kernel stands for.

    Which of a chain of float operators a runtime merges depends on its version, on layouts and on
    who else reads a value. Counted as what they replace, merged and unmerged operators are equal:

    - data movement and layout (:data:`MOVING`) count nothing;
    - a fused float kernel counts as the operators it replaces, its activation, its residual or
      bias addition and its scaling factor included, and Gemm as MatMul and Add;
    - HardSwish counts as HardSigmoid and Mul, which runtimes without a kernel for it execute;
    - an addition merged into a quantized matrix product with float output counts as Add;
    - everything else counts as itself: kernels on quantized values by their own names.

    Args:
        op: The kernel's operator type.
        inputs: Names of its inputs, ``""`` for an omitted one.
        attributes: Its attributes by name.

    Returns:
        Operators and how many of each.
    """
    if op in MOVING:
        return Counter()
    counts = Counter(_REPLACED.get(op, {op: 1}))
    added = _ADDED_INPUT.get(op)
    if added is not None and len(inputs) > added and inputs[added]:
        counts["Add"] += 1
    activation = attributes.get("activation")
    if isinstance(activation, str) and activation:
        counts += expand_kernel(activation, ("",), {})
    alpha = attributes.get("alpha", 1.0)
    if op in ("FusedMatMul", "QuickGelu") and alpha != 1.0:
        counts["Mul"] += 1
    return counts
