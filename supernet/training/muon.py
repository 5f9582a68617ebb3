"""Muon: SGD whose steps on matrices are made orthogonal: all their directions are learnt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Coefficients of the quintic of Jordan et al. 2024: steep at 0, so that five rounds are enough.
_LINEAR, _CUBIC, _QUINTIC = 3.4445, -4.7750, 2.0315
ROUNDS = 5
_TINY = 1e-7


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring the singular values of matrices near 1, and leave their singular vectors.

    Five rounds of a Newton-Schulz iteration (Jordan et al. 2024, "Muon: An optimizer for hidden
    layers in neural networks"). Singular values come to lie between 0.68 and 1.14; those
    below a thousandth of a matrix's norm stay smaller, and a matrix of zeros stays as it is.

    Args:
        matrices: Of one shape, ``(n, rows, columns)``.

    Returns:
        As many of the same shape.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + _TINY)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = _LINEAR * x + (_CUBIC * gram + _QUINTIC * gram @ gram) @ x
    return x.mT if tall else x


def find_matrices(model: nn.Module) -> frozenset[Tensor]:
    """Find the weights that are matrices: of linear layers, and of convolutions without groups.

    A filter of a depthwise convolution meets one channel, so that it is no matrix between
    channels; embeddings are looked up row by row, also where an output layer shares them.

    Args:
        model: Any network.
    """
    modules = list(model.modules())
    matrices = [
        module.weight
        for module in modules
        if isinstance(module, nn.Linear)
        or (isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups == 1)
    ]
    embeddings = [module.weight for module in modules if isinstance(module, nn.Embedding)]
    return frozenset(matrices).difference(embeddings)


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov momentum, orthogonal where a group says ``"matrices": True``.

    PyTorch's own, where it has one, takes matrices alone and no filters of convolutions. A filter
    of ``(out, in, height, width)`` is the matrix ``(out, in * height * width)`` here. Steps of a
    tall matrix are larger by the root of rows over columns, so that outputs change equally much.
    Weight decay of matrices acts on weights, not on gradients.

    Args:
        groups: As other optimisers take them; ``relative_rate`` is the caller's business.
        rate: Learning rate.
        momentum: Of gradients.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], rate: float, momentum: float = 0.9
    ) -> None:
        usual = {"lr": rate, "momentum": momentum, "weight_decay": 0.0, "matrices": False}
        super().__init__(groups, usual)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step; parameters without a gradient stay, and so does their momentum."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            move = self._move_matrices if group["matrices"] else self._move
            move(trained, group["lr"], group["momentum"], group["weight_decay"])
        return loss

    def _move(self, trained: list[Tensor], rate: float, momentum: float, decay: float) -> None:
        if not trained:
            return
        gradients = [_take_gradient(p) for p in trained]
        if decay:
            gradients = list(torch._foreach_add(gradients, trained, alpha=decay))
        buffers = self._find_buffers(trained)
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        steps = torch._foreach_add(gradients, buffers, alpha=momentum)
        torch._foreach_add_(trained, steps, alpha=-rate)

    def _move_matrices(
        self, trained: list[Tensor], rate: float, momentum: float, decay: float
    ) -> None:
        buffers = self._find_buffers(trained)
        by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter, buffer in zip(trained, buffers, strict=True):
            gradient = _take_gradient(parameter)
            buffer.lerp_(gradient, 1 - momentum)
            matrix = gradient.lerp(buffer, momentum).flatten(1)
            by_shape[matrix.shape[0], matrix.shape[1]].append((parameter, matrix))
        for (rows, columns), members in by_shape.items():
            steps = orthogonalise(torch.stack([matrix for _, matrix in members]))
            scale = max(1.0, rows / columns) ** 0.5
            for (parameter, _), step in zip(members, steps, strict=True):
                if decay:
                    parameter.mul_(1 - rate * decay)
                parameter.add_(step.view(parameter.shape), alpha=-rate * scale)

    def _find_buffers(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        found = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            found.append(state["momentum_buffer"])
        return found


def _take_gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "parameters without a gradient are left out"
    return parameter.grad
