"""Asks the installed ONNX Runtime what it makes of quantized patterns, and of a whole model."""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hardware.fusion_patterns import Pattern, build_patterns
from supernet.errors import InputError
from supernet.files import read_json, write_json
from supernet.graph.fusion.contract import FusionContract, PatternOutcome
from supernet.graph.fusion.kernels import expand_kernel
from supernet.graph.onnx_model import to_onnx

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort

_RUNTIME = "ONNX Runtime"
_PROVIDERS = ["CPUExecutionProvider"]


def probe_contract(*, cache: Path | None = None) -> FusionContract:
    """Find out which quantized patterns the installed ONNX Runtime executes in int8.

    Every pattern is loaded at default options and run once; what the optimiser made of it is
    read from the optimised model. It takes about half a second.

    Args:
        cache: A file that keeps the answer; it is used if it is of the same runtime version,
            processor architecture and patterns, and written anew otherwise.

    Returns:
        What the runtime makes of each pattern.

    Raises:
        InputError: ONNX Runtime is not installed.
        OSError: The file cannot be written.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise InputError("ONNX Runtime is not installed; run: pip install onnxruntime") from error
    patterns = build_patterns()
    empty = FusionContract(
        _RUNTIME, ort.__version__, platform.machine(), _digest_patterns(patterns), ()
    )
    kept = None if cache is None else _read_kept(cache, empty)
    if kept is not None:
        return kept
    with tempfile.TemporaryDirectory() as folder:
        outcomes = tuple(
            _probe_pattern(name, patterns[name], Path(folder)) for name in sorted(patterns)
        )
    contract = FusionContract(
        empty.runtime, empty.version, empty.machine, empty.patterns_digest, outcomes
    )
    if cache is not None:
        write_json(cache, contract.to_json())
    return contract


def count_operators(model: bytes | Path) -> Counter[str]:
    """Count the operators that ONNX Runtime executes for a model at default options.

    Fused float kernels count as the operators that they replace, and layout counts nothing: see
    :func:`supernet.graph.fusion.kernels.expand_kernel`. What the runtime adds to change a
    layout in float belongs to the layout: where it moves a Transpose of its own past a
    DequantizeLinear and finds nothing to merge it with, it leaves DequantizeLinear, Transpose,
    QuantizeLinear, DequantizeLinear with one scale and zero point, and the first and the third
    of these are not counted.

    Args:
        model: A serialised ONNX model, or its file.

    Returns:
        Operators and how many of each.

    Raises:
        InputError: ONNX Runtime cannot load the model; one sentence that says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimised, _ = _optimise(str(model) if isinstance(model, Path) else model, Path(folder))
    return _count(optimised)


def _probe_pattern(name: str, pattern: Pattern, folder: Path) -> PatternOutcome:
    built = pattern.built
    try:
        optimised, session = _optimise(
            to_onnx(built.graph, built.weights).SerializeToString(), folder
        )
    except InputError:
        # What the runtime refuses to load it does not execute in int8, either.
        return PatternOutcome(name, (), False)
    made = Counter(node.op_type for node in optimised.graph.node)
    within = (
        made["QuantizeLinear"] <= pattern.quantize
        and made["DequantizeLinear"] <= pattern.dequantize
    )
    return PatternOutcome(name, tuple(sorted(made.items())), within and _runs(session, pattern))


def _runs(session: ort.InferenceSession, pattern: Pattern) -> bool:
    feeds = {
        spec.name: np.zeros([d if isinstance(d, int) else 1 for d in spec.shape], spec.dtype)
        for spec in pattern.built.graph.inputs
    }
    try:
        session.run(None, feeds)
    except Exception:  # ONNX Runtime's exceptions share no base class below this
        return False
    return True


def _optimise(model: str | bytes, folder: Path) -> tuple[onnx.ModelProto, ort.InferenceSession]:
    """Load a model and read what the optimiser wrote."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # It logs what a pattern fails with, which the contract says, too.
    options.log_severity_level = 4
    written = folder / "optimised.onnx"
    options.optimized_model_filepath = str(written)
    try:
        session = ort.InferenceSession(model, options, providers=_PROVIDERS)
    except Exception as error:  # ONNX Runtime's exceptions share no base class below this
        reason = " ".join(str(error).split())
        raise InputError(f"ONNX Runtime cannot load the model: {reason}") from error
    return onnx.load(str(written)), session


def _count(model: onnx.ModelProto) -> Counter[str]:
    from onnx import helper

    counts: Counter[str] = Counter()
    added = _list_layout_pairs(model)
    for node in model.graph.node:
        if node.output[0] in added:
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        decoded = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
        counts += expand_kernel(node.op_type, tuple(node.input), decoded)
    return counts


def _list_layout_pairs(model: onnx.ModelProto) -> set[str]:
    """List results of what only serves a Transpose between the same levels of one value."""
    makers = {name: node for node in model.graph.node for name in node.output}
    readers = Counter(name for node in model.graph.node for name in node.input)
    values = {i.name: _read_number(i) for i in model.graph.initializer if not i.dims}
    found: set[str] = set()
    for node in model.graph.node:
        moved = makers.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
        source = None if moved is None else makers.get(moved.input[0])
        if moved is None or source is None or source.op_type != "DequantizeLinear":
            continue
        levels = [[values.get(i) for i in n.input[1:]] for n in (node, source)]
        alone = readers[moved.output[0]] == 1 and readers[source.output[0]] == 1
        if moved.op_type == "Transpose" and alone and levels[0] == levels[1]:
            found |= {node.output[0], source.output[0]}
    return found


def _read_number(tensor: onnx.TensorProto) -> float:
    from onnx import numpy_helper

    return float(numpy_helper.to_array(tensor))


def _digest_patterns(patterns: Mapping[str, Pattern]) -> str:
    text = json.dumps(
        {
            name: [p.built.graph.digest, p.quantize, p.dequantize, _list_scales(p)]
            for name, p in patterns.items()
        },
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _list_scales(pattern: Pattern) -> list[float]:
    """Single values among the weights: fusion depends on them, and a graph's digest does not."""
    return [float(v) for _, v in sorted(pattern.built.weights.items()) if v.ndim == 0]


def _read_kept(cache: Path, wanted: FusionContract) -> FusionContract | None:
    """Read what was kept, if it answers the same question."""
    if not cache.is_file():
        return None
    try:
        kept = FusionContract.from_json(read_json(cache))
    except InputError:
        # A file of an earlier version, or a damaged one: it is probed again and replaced.
        return None
    same = all(
        getattr(kept, name) == getattr(wanted, name)
        for name in ("runtime", "version", "machine", "patterns_digest")
    )
    return kept if same else None
