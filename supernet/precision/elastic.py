"""Any supernet made elastic in precision: a choice of number format for each of its units."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from supernet.elastic.edits import (
    Cut,
    Drop,
    Edit,
    Pick,
    Quantize,
    Rule,
    follow,
    list_choices,
)
from supernet.errors import InputError
from supernet.quantization.formats import FP32, Format, Policy, make_format
from supernet.space import PRECISION, Choice, SearchSpace, Value
from supernet.supernet import Supernet

CONVOLUTIONS, PRODUCTS = (nn.Conv2d,), (nn.Linear,)


def make_precision_elastic(supernet: Supernet, policy: Policy) -> Supernet:
    """Give every unit of a supernet a choice of number format.

    The weights are shared with the given supernet, whose space is the part of the new one in which
    everything computes in float. Choices follow those of the family: ``UNIT.precision``, or
    ``UNIT.weight_bits`` and ``UNIT.activation_bits`` where the policy separates them. A unit that
    fewer than two of the formats are for has nothing to choose, and stays in float.

    Args:
        supernet: Of any family.
        policy: The formats to offer.

    Raises:
        InputError: No unit can compute in any of the formats, or the supernet has precisions
            already.
    """
    if any(isinstance(edit, Quantize) for edit in supernet.edits):
        raise InputError(
            "units of this supernet choose among number formats already; make it elastic in "
            "precision once, with all formats in one policy, such as fp32,int8,w4a8"
        )
    choices: list[Choice] = []
    rows: list[Edit] = []
    for path in _list_places(supernet, policy):
        formats = _list_possible(supernet, path, policy)
        if len(formats) < 2:
            continue
        found, rule = _make_choices(path, formats, policy, _find_needs(supernet, path))
        choices += found
        rows.append(Quantize(path, rule, per_layer=policy.per == "layer"))
    if not choices:
        raise InputError(
            f"no unit of this network has a choice among {policy.name}: it has no layers of the "
            "kind that these formats are for; int8 and formats such as w4a8 are for convolutions "
            "and matrix products, int8-dynamic and weights4 for matrix products alone"
        )
    return Supernet(
        supernet.model,
        SearchSpace((*supernet.space.choices, *choices)),
        (*supernet.edits, *rows),
        units=supernet.units,
        inputs=supernet.inputs,
        shared=dict(supernet.shared),
        no_decay=sorted(supernet.no_decay),
        upgrade=supernet.upgrade,
    )


def list_precision_choices(space: SearchSpace) -> tuple[Choice, ...]:
    """List the choices of number formats, in the order of the space."""
    return tuple(choice for choice in space.choices if choice.kind == PRECISION)


def _list_places(supernet: Supernet, policy: Policy) -> list[str]:
    """Paths of what has a format of its own."""
    if policy.per == "unit":
        return list(supernet.units)
    modules = dict(supernet.model.named_modules())
    return [
        path
        for unit in supernet.units
        for path, module in modules.items()
        if (path == unit or path.startswith(f"{unit}."))
        and isinstance(module, CONVOLUTIONS + PRODUCTS)
    ]


def _list_possible(supernet: Supernet, path: str, policy: Policy) -> tuple[Format, ...]:
    """The formats that change anything about a unit, and float."""
    layers = dict(supernet.model.get_submodule(path).named_modules(prefix=path))
    products = [name for name, m in layers.items() if isinstance(m, PRODUCTS)]
    any_layer = bool(products) or any(isinstance(m, CONVOLUTIONS) for m in layers.values())
    result = []
    for form in policy.formats:
        if form.granularity == "group":
            for name in products:
                _check_group(supernet, name, form)
        if form == FP32 or (bool(products) if form.products_only else any_layer):
            result.append(form)
    return tuple(result)


def _check_group(supernet: Supernet, layer: str, form: Format) -> None:
    """Refuse groups that do not divide the inputs of a layer, at any of its sizes.

    Raises:
        InputError: Naming the layer, its inputs and what would divide them.
    """
    sizes = {supernet.model.get_parameter(f"{layer}.weight").shape[1]}
    for edit in supernet.edits:
        if isinstance(edit, Cut) and edit.tensor == f"{layer}.weight" and edit.dim == 1:
            sizes |= {int(size) * edit.blocks for size in edit.size.values.values()}
    wrong = sorted(size for size in sizes if size % form.group)
    if wrong:
        common = math.gcd(*sizes)
        per_channel = make_format(form.weight_bits, form.activation_bits).name
        bits = f"w{form.weight_bits}a{form.activation_bits}"
        finer = f"{bits}-group{common}, or " if common > 1 else ""
        raise InputError(
            f"layer {layer} has {wrong[0]} input features, which groups of {form.group} do not "
            f"divide, so that it cannot be {form.name}; it can be {finer}{per_channel} with a "
            "scale per channel"
        )


def _make_choices(
    path: str, formats: Sequence[Format], policy: Policy, needs: tuple[str, Value] | None
) -> tuple[list[Choice], Rule]:
    if not policy.separate:
        choice = Choice(f"{path}.precision", tuple(f.name for f in formats), PRECISION, needs)
        by_name = {form.name: form for form in formats}
        return [choice], follow(choice, lambda name: by_name[name])
    weights = sorted({f.weight_bits for f in formats})
    activations = sorted({f.activation_bits for f in formats})
    first = Choice(f"{path}.weight_bits", tuple(weights), PRECISION, needs)
    second = Choice(f"{path}.activation_bits", tuple(activations), PRECISION, needs)
    table: dict[tuple[Value, ...], Format] = {
        (w, a): make_format(w, a) for w in weights for a in activations
    }
    return [first, second], Rule((first.name, second.name), table)


def _find_needs(supernet: Supernet, path: str) -> tuple[str, Value] | None:
    """What a unit's precision needs to matter: the choice that has it there at all."""
    found: tuple[str, Value] | None = None
    for edit in supernet.edits:
        if isinstance(edit, Drop) and path.startswith(f"{edit.stack}."):
            child = path[len(edit.stack) + 1 :].split(".")[0]
            place = list(supernet.model.get_submodule(edit.stack)._modules).index(child)
            found = _find_first(supernet, edit, lambda kept: kept > place) or found  # noqa: B023
        elif isinstance(edit, Pick) and (path == edit.slot or path.startswith(f"{edit.slot}.")):
            slot = supernet.model.get_submodule(edit.slot)
            inside = path[len(edit.slot) + 1 :].split(".")[0]

            def there(name: str) -> bool:
                candidate = slot._modules[name]  # noqa: B023
                assert candidate is not None
                layers = CONVOLUTIONS + PRODUCTS
                has = any(isinstance(m, layers) for m in candidate.modules())
                return has and inside in ("", name)  # noqa: B023

            found = _find_first(supernet, edit, there) or found
    return found


def _find_first(supernet: Supernet, edit: Drop | Pick, there: object) -> tuple[str, Value] | None:
    """The value of a single choice from which on something is there; ``None``: not so simple."""
    names = list_choices(edit)
    if len(names) != 1:
        return None
    choice = supernet.space.choice(names[0])
    rule = edit.keep if isinstance(edit, Drop) else edit.child
    assert callable(there)
    present = [there(rule.values[(value,)]) for value in choice.values]
    first = present.index(True) if True in present else 0
    # Only a rule that never drops again what a later value has can be a need.
    if first == 0 or not all(present[first:]):
        return None
    return (choice.name, choice.values[first])
