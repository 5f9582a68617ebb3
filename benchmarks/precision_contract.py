"""How exactly integer networks are known before they run: kernels, outputs and bytes.

For random architectures in random precisions of every family: whether the predicted histogram of
optimised operators is ONNX Runtime's, how far simulation, integer simulator and ONNX Runtime are
apart, and whether promised bytes are those stored.

    python benchmarks/precision_contract.py --networks 200
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from importlib import import_module

import numpy as np
import onnxruntime as ort

from hardware.fusion_probe import count_operators, probe_contract
from supernet.graph.fusion.plan import plan_operators
from supernet.graph.integer.integer_simulator import simulate, simulate_layers
from supernet.graph.quantized.packing import stored_bytes
from supernet.testing.precision_networks import Prepared, build_elastic, draw_prepared

FAMILIES = ("attentivenas", "autoformer", "matlm", "matvit", "nas_bench_macro", "ofa_mobilenetv3",
            "ofa_proxyless", "ofa_resnet50", "resnet", "spos", "superkernel", "uib", "vit_resnas",
            "bert")  # fmt: skip


def load(model: bytes) -> ort.InferenceSession:
    """Load a model at default options, with one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_singly(prepared: Prepared) -> np.ndarray:
    """Outputs of ONNX Runtime, one sample at a time."""
    session = load(prepared.model)
    ((name, inputs),) = prepared.feeds.items()
    return np.concatenate([session.run(None, {name: row[None]})[0] for row in inputs])


def compare_layers(prepared: Prepared) -> tuple[int, int, int]:
    """Levels of all layers, those equal in the integer simulator, and the largest distance.

    Every layer of the simulator is given what ONNX Runtime computed before it.
    """
    import onnx

    model = onnx.load_from_string(prepared.model)
    levels = [n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    if not levels:
        return 0, 0, 0
    for name in levels:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, 2, None))
    session = load(model.SerializeToString())
    ((given, inputs),) = prepared.feeds.items()
    feeds = {given: inputs[:1]}
    names = [output.name for output in session.get_outputs()]
    padded = dict(zip(names, session.run(None, feeds), strict=True))
    # The written model has channels filled up to what kernels take; the graph has them not.
    shapes = simulate(prepared.graph, prepared.values, feeds, keep=names)
    observed = {
        name: value[tuple(slice(size) for size in shapes[name].shape)]
        for name, value in padded.items()
    }
    found = simulate_layers(prepared.graph, prepared.values, feeds, observed)
    total = equal = apart = 0
    for name in levels:
        distance = np.abs(found[name].astype(int) - observed[name].astype(int))
        total += distance.size
        equal += int((distance == 0).sum())
        apart = max(apart, int(distance.max()))
    return total, equal, apart


def main() -> None:
    """Print one line for each family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--layers", type=int, default=50, help="networks compared layer by layer")
    parser.add_argument("--policy", default="int8")
    parser.add_argument("--families", nargs="*", default=FAMILIES)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    contract = probe_contract()
    print(f"{contract.runtime} {contract.version}, policy {asked.policy}")
    print("family            histograms  bytes      decisions  levels equal  apart  overhead")
    for family in asked.families:
        began = time.process_time()
        net = build_elastic(import_module(f"supernet.families.{family}"), asked.policy)
        costs = net.cost_model()
        same = exact = decisions = agreed = overhead = 0
        totals = np.zeros(2, dtype=np.int64)
        apart = 0
        different: Counter[str] = Counter()
        for index, prepared in enumerate(draw_prepared(net, asked.networks, seed=asked.seed)):
            plan = Counter(dict(plan_operators(prepared.graph, contract).operators))
            seen = Counter(dict(count_operators(prepared.model)))
            same += plan == seen
            different.update(str(k) for k in plan | seen if plan[k] != seen[k])
            promised = int(costs.size_bytes(net.space.encode([prepared.architecture]))[0])
            exact += promised == stored_bytes(prepared.graph)
            overhead = max(overhead, len(prepared.model) - stored_bytes(prepared.graph))
            if index < asked.layers:
                found = run_singly(prepared)
                agreed += int((found.argmax(-1) == prepared.outputs.argmax(-1)).sum())
                decisions += found.argmax(-1).size
                *counts, most = compare_layers(prepared)
                totals += counts
                apart = max(apart, most)
        share = totals[1] / max(1, totals[0])
        print(
            f"{family:17} {same}/{asked.networks}    {exact}/{asked.networks}  "
            f"{agreed / decisions:9.3%}  {share:12.5%}  {apart:5}  {overhead:8,}"
            f"   ({time.process_time() - began:.0f} s)"
            + (f"  {dict(different)}" if different else ""),
            flush=True,
        )


if __name__ == "__main__":
    main()
