"""The modules of the ``ofa`` package from PyPI, as the peer that benchmarks compare with."""

from __future__ import annotations

import importlib
import sys
import types
from dataclasses import dataclass
from typing import Any

from torch import nn

from supernet.families import ofa_mobilenetv3
from supernet.space import Architecture

MISSING = "the package ofa is not installed; pip install --no-deps ofa"


@dataclass(frozen=True)
class Peer:
    """A supernet of the package and how its subnetworks are chosen."""

    network: Any
    config: ofa_mobilenetv3.Config

    def choose(self, architecture: Architecture) -> nn.Module:
        """The supernet, set to a subnetwork."""
        record = ofa_mobilenetv3.to_ofa(self.config, architecture)
        self.network.set_active_subnet(ks=record["ks"], e=record["e"], d=record["d"])
        return self.network


def open_peer(config: ofa_mobilenetv3.Config) -> Peer | None:
    """The package's supernet over the same choices; ``None`` where it is not installed."""
    module = _import()
    if module is None:
        return None
    # Its published training sets this before it builds a network: filters of smaller kernels are
    # then transformed, as ours are.
    operators = importlib.import_module("ofa.imagenet_classification.elastic_nn.modules.dynamic_op")
    operators.DynamicSeparableConv2d.KERNEL_TRANSFORM_MODE = 1
    network = module.OFAMobileNetV3(
        n_classes=config.classes,
        dropout_rate=config.dropout,
        width_mult=config.width_multiplier,
        ks_list=list(config.kernels),
        expand_ratio_list=list(config.expands),
        depth_list=list(config.depths),
    )
    return Peer(network, config)


def _import() -> types.ModuleType | None:
    stubs: dict[str, types.ModuleType] = {}
    try:
        importlib.import_module("torchvision")
    except ImportError:
        # The package imports torchvision for data that no benchmark reads.
        for name in ("", ".transforms", ".transforms.functional", ".datasets"):
            stubs["torchvision" + name] = stub = _Stub("torchvision" + name)
            parent, _, child = stub.__name__.rpartition(".")
            if parent:
                setattr(stubs[parent], child, stub)
    sys.modules.update(stubs)
    try:
        return importlib.import_module("ofa.imagenet_classification.elastic_nn.networks")
    except ModuleNotFoundError as error:
        if error.name != "ofa":
            raise
        return None
    finally:
        for name in stubs:
            sys.modules.pop(name, None)


class _Stub(types.ModuleType):
    """A module whose every name is a class that does nothing."""

    __path__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
