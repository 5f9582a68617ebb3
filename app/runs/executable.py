"""Whether a runtime can execute the number formats that the units of a supernet may take."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from supernet.elastic.edits import Quantize
from supernet.errors import InputError
from supernet.graph.fusion.contract import FusionContract
from supernet.quantization.formats import Format
from supernet.supernet import Supernet


def check_executable(supernet: Supernet, contract: FusionContract) -> None:
    """Refuse number formats that a runtime would compute otherwise than they are simulated.

    Args:
        supernet: With or without choices of precision.
        contract: What the runtime makes of each pattern.

    Raises:
        InputError: Naming the first unit, its format, why not, and what can be executed.
    """
    for row in supernet.edits:
        if not isinstance(row, Quantize):
            continue
        kinds = tuple(_list_kinds(supernet.model.get_submodule(row.module)))
        for form in dict.fromkeys(row.format.values.values()):
            reason = _find_reason(form, kinds, contract)
            if reason is not None:
                what = "layer" if row.per_layer else "unit"
                raise InputError(f"{what} {row.module} cannot be executed in {form.name}: {reason}")


def _find_reason(form: Format, kinds: tuple[str, ...], contract: FusionContract) -> str | None:
    """Why a unit with some kinds of layers cannot be executed in a format; ``None`` if it can."""
    runtime = f"{contract.runtime} {contract.version}"
    simulated = form.explain_simulation(runtime)
    if simulated is not None:
        return simulated
    if not (form.quantizes_activations or form.products_only):
        return None
    asked = [kind for kind in kinds if kind == "linear" or not form.products_only]
    found = (contract.explain_refusal(form.name, kind) for kind in asked)
    return next((reason for reason in found if reason is not None), None)


def _list_kinds(module: nn.Module) -> Iterator[str]:
    layers = list(module.modules())
    if any(isinstance(layer, nn.Conv2d) for layer in layers):
        yield "conv"
    if any(isinstance(layer, nn.Linear) for layer in layers):
        yield "linear"
