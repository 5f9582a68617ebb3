"""How differently the activation units of a network switch for different inputs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.errors import InputError
from supernet.proxies._probe import Watch, copy_for_scoring, track_modules

SUMMARY = "log-determinant of the agreement between activation patterns of different samples"
ACTIVATIONS = frozenset(
    {
        F.relu,
        F.relu_,
        torch.relu,
        torch.relu_,
        Tensor.relu,
        Tensor.relu_,
        F.relu6,
        F.hardtanh,
        F.hardswish,
        F.silu,
        F.gelu,
        F.leaky_relu,
        F.elu,
        F.celu,
        F.selu,
        F.prelu,
        F.mish,
    }
)
# Identical samples make the agreement singular; a little on the diagonal keeps it finite.
RIDGE = 1e-3


def score(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Compute ``log det K``; ``K_ij`` counts units on one side of 0 for samples i and j.

    NASWOT (Mellor et al. 2021, section 3). A unit is on where its input is positive: exact for
    ReLU, and the same switch for GELU, SiLU and hard-swish. Units of a convolution are all its
    positions.

    Args:
        model: An extracted network, which is left alone.
        inputs: A batch as the network takes it.
        targets: Has no part in the score.

    Raises:
        InputError: No activation with a switch at 0 ran.
    """
    return _compute_log_det(sum(_count_agreements(model, inputs).values(), start=torch.zeros(())))


def by_layer(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Compute ``log det K`` of the activations inside each module alone, by module path."""
    return {
        name: _compute_log_det(kernel) for name, kernel in _count_agreements(model, inputs).items()
    }


def _count_agreements(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    twin = copy_for_scoring(model)
    found: dict[str, Tensor] = {}
    with track_modules(twin) as running:

        def see(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if func in ACTIVATIONS and args[0].shape[0] == len(inputs):
                on = (args[0] > 0).flatten(1).double()
                off = 1 - on
                kernel = on @ on.T + off @ off.T
                name = running[-1] if running else ""
                found[name] = found[name] + kernel if name in found else kernel

        with torch.no_grad(), Watch(see):
            twin(inputs)
    if not found:
        raise InputError(
            f"{type(model).__name__} runs no activation that switches at 0 (ReLU, GELU, SiLU, ...)"
        )
    return found


def _compute_log_det(kernel: Tensor) -> float:
    # Relative to the diagonal, which is the number of units.
    units = kernel.diagonal().mean()
    eye = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    return float(torch.linalg.slogdet(kernel + RIDGE * units * eye).logabsdet)
