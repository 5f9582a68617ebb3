"""How different the last hidden states of a recurrent network are for different inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from supernet.errors import InputError
from supernet.proxies._covariance import score_spectrum
from supernet.proxies._probe import copy_for_scoring

SUMMARY = "how uncorrelated the hidden states of different samples are; recurrent networks only"


def score(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Average the spectrum score of last hidden states over recurrent layers.

    Serianni and Kalita 2023, section 4: the score of Jacobian covariance on hidden states instead
    of Jacobians.

    Args:
        model: An extracted network with ``nn.RNN``, ``nn.LSTM``, ``nn.GRU`` or their cells; left
            alone.
        inputs: A batch as the network takes it, at least 2 samples.
        targets: Has no part in the score.

    Raises:
        InputError: Nothing recurrent ran.
    """
    layers = by_layer(model, inputs, targets)
    return sum(layers.values()) / len(layers)


def by_layer(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Score each layer, by module path and layer number (``"rnn.0"``, ``"rnn.1"``)."""
    twin = copy_for_scoring(model)
    found: dict[str, Tensor] = {}
    handles = []
    for name, module in twin.named_modules():
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            handles.append(module.register_forward_hook(_make_recorder(found, name)))
    with torch.no_grad():
        twin(inputs)
    if not found:
        raise InputError(
            f"{type(model).__name__} has no recurrent layer (nn.RNN, nn.LSTM, nn.GRU or a cell); "
            "hidden covariance is for recurrent networks"
        )
    return {name: score_spectrum(state) for name, state in found.items()}


def _make_recorder(found: dict[str, Tensor], name: str) -> Any:
    def record(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(module, nn.RNNCellBase):
            # Called once a step: what stays is the last.
            found[name] = output[0] if isinstance(output, tuple) else output
            return
        states = output[1][0] if isinstance(output[1], tuple) else output[1]
        directions = 2 if module.bidirectional else 1
        # (layers * directions, batch, hidden); directions of a layer side by side.
        for layer in range(len(states) // directions):
            own = states[layer * directions : (layer + 1) * directions]
            found[f"{name}.{layer}".lstrip(".")] = own.transpose(0, 1).flatten(1)

    return record
