"""How differently a network reacts to different inputs at first order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernet.errors import InputError
from supernet.proxies._covariance import score_spectrum
from supernet.proxies._probe import copy_for_scoring, find_logits

SUMMARY = "how uncorrelated the input Jacobians of different samples are"


def score(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Score the spectrum of correlations between per-sample Jacobians of the summed output.

    For token ids, which have no gradient, the Jacobian is that of the first embedding.

    Args:
        model: An extracted network, which is left alone.
        inputs: A batch as the network takes it, at least 2 samples.
        targets: Has no part in the score.

    Raises:
        InputError: Token ids and no embedding to differentiate at.
    """
    twin = copy_for_scoring(model)
    with torch.enable_grad():
        if inputs.is_floating_point():
            start = inputs.detach().clone().requires_grad_(True)
            output = find_logits(twin(start))
        else:
            start, output = _run_from_embedding(twin, inputs)
        (jacobian,) = torch.autograd.grad(output.sum(), start)
    return score_spectrum(jacobian.flatten(1))


def _run_from_embedding(model: nn.Module, ids: Tensor) -> tuple[Tensor, Tensor]:
    """What the first embedding makes of the ids, and what the network makes of that."""
    table = next((m for m in model.modules() if isinstance(m, nn.Embedding)), None)
    if table is None:
        raise InputError(
            f"{type(model).__name__} takes token ids and has no nn.Embedding to differentiate at"
        )
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_(True))
        return kept[-1]

    handle = table.register_forward_hook(keep)
    output = find_logits(model(ids))
    handle.remove()
    return kept[0], output
