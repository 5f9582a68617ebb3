"""Sharded training: each process keeps the optimiser's state of its own parameters alone.

Parameters are given to processes whole, so many entries to each (the second stage of Rajbhandari et
al. 2020, "ZeRO", section 5, by parameters in place of equal pieces of one long vector). Of a step's
gradients each process then keeps the mean of its own, takes the optimiser's step on these, and
sends the results to the others. No optimiser needs more than whole parameters with their
gradients, Muon's matrices included, so that the step is that of one process.

PyTorch's ``fully_shard`` was tried first, and what it does with a supernet decides against it:

* On each layer it cannot work. It gives a module another class, whose ``__new__`` makes the module
  of the original class; subnetworks are made by ``__new__`` of the modules' classes, and so are
  extracted ones, which must show no trace of it. Its hooks also put gathered parameters into the
  modules of the supernet, not into those of the subnetworks that run, and tensors that follow from
  others (kernel transforms, mixed experts) are computed for the whole network before a pass begins.
* On the supernet as a whole it does work, to the same weights, with gradients that are held back
  until the last architecture of a step. But all parameters are then there from the first pass to
  the last, so that the most memory a step takes is no less than here, and copies of all
  parameters and all gradients in one long buffer each come on top. And Muon, samplers and penalties
  that look at gradients, and re-organised channels need whole tensors, of which it keeps pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from supernet.errors import InputError
from supernet.supernet import Supernet
from supernet.training import distributed

# What optimisers know of a parameter: tensors of its shape, and how many steps there were.
_MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")
_COUNTER = "step"


def require_processes() -> None:
    """Refuse to shard what one process does alone.

    Raises:
        InputError: There is but one process.
    """
    if distributed.get_world()[1] == 1:
        raise InputError(
            "sharding divides the state of the optimiser among processes, and this one is alone; "
            "start it with torchrun --nproc-per-node 2 or more, or leave out --shard"
        )


class Shards:
    """Which process keeps what; the same on all of them.

    Args:
        supernet: Its parameters are divided, the largest first, each to the process that has
            fewest entries.

    Raises:
        InputError: There is but one process, or there are more than parameters.
    """

    def __init__(self, supernet: Supernet) -> None:
        require_processes()
        self.rank, size = distributed.get_world()
        self.supernet = supernet
        self.names = [name for name, _ in supernet.named_parameters()]
        self.parameters = list(supernet.parameters())
        if size > len(self.parameters):
            raise InputError(
                f"{size} processes cannot share {len(self.parameters)} parameters; start fewer"
            )
        self.owners: dict[nn.Parameter, int] = {}
        loads = [0] * size
        # Sorting is stable: of equals the first in the network comes first.
        for parameter in sorted(self.parameters, key=lambda p: -p.numel()):
            owner = loads.index(min(loads))
            self.owners[parameter] = owner
            loads[owner] += parameter.numel()

    def has(self, parameter: nn.Parameter) -> bool:
        """Whether this process keeps what belongs to a parameter."""
        return self.owners[parameter] == self.rank

    # -- a step --------------------------------------------------------------------------------

    @torch.no_grad()
    def reduce_gradients(self) -> None:
        """Give each process the mean of its parameters' gradients; the others are dropped.

        Those that are ``None`` stay so: the processes train the same architectures.
        """
        _, size = distributed.get_world()
        for owner, owned in self._list_by_owner():
            there = [p for p in owned if p.grad is not None]
            gradients = [p.grad for p in there if p.grad is not None]
            done = 0
            for bucket in distributed.fill_buckets(gradients):
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                dist.reduce(flat, owner)
                if owner == self.rank:
                    flat /= size
                    parts = flat.split([tensor.numel() for tensor in bucket])
                    for tensor, part in zip(bucket, parts, strict=True):
                        tensor.copy_(part.view(tensor.shape))
                else:
                    for parameter in there[done : done + len(bucket)]:
                        parameter.grad = None
                done += len(bucket)
        self.supernet.release_gradients()

    def drop_gradients(self) -> None:
        """Drop the gradients that other processes keep."""
        for parameter in self.parameters:
            if not self.has(parameter):
                parameter.grad = None
        self.supernet.release_gradients()

    @torch.no_grad()
    def clip_norm(self, most: float) -> None:
        """Scale all gradients so that their norm over all processes is ``most`` at most."""
        own = [p for p in self.parameters if p.grad is not None]
        device = self.parameters[0].device
        squares = [p.grad.square().sum().double() for p in own if p.grad is not None]
        total = torch.stack(squares).sum() if squares else torch.zeros((), dtype=torch.float64)
        total = total.to(device)
        dist.all_reduce(total)
        if own:
            norm = total.sqrt().to(own[0].dtype)
            torch.nn.utils.clip_grads_with_norm_(own, most, norm)

    @torch.no_grad()
    def spread_parameters(self) -> None:
        """Give all processes each parameter as its own process has it; after the optimiser."""
        for owner, owned in self._list_by_owner():
            for bucket in distributed.fill_buckets([p.detach() for p in owned]):
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                dist.broadcast(flat, owner)
                if owner != self.rank:
                    parts = flat.split([tensor.numel() for tensor in bucket])
                    for tensor, part in zip(bucket, parts, strict=True):
                        tensor.copy_(part.view(tensor.shape))

    # -- checkpoints ---------------------------------------------------------------------------

    @torch.no_grad()
    def collect(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Collect a tensor of each parameter's shape and type from the process that keeps it.

        Args:
            tensors: By names of parameters; of this process's own all, of others none.

        Returns:
            Those of all processes on the processor of the first, nothing on the others.
        """
        found: dict[str, Tensor] = {}
        for name, parameter in zip(self.names, self.parameters, strict=True):
            self._send(name, parameter, tensors.get(name), found)
        return found

    @torch.no_grad()
    def collect_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Collect the state of the optimiser.

        Args:
            optimizer: Of this process's own parameters.

        Returns:
            ``{"KIND/PARAMETER": tensor}`` of all parameters on the first process, as one that
            trains alone has it; nothing on the others.
        """
        device = self.parameters[0].device
        # Which parameters have which moments, and their steps; -1 where there is none.
        shape = (len(self.parameters), 1 + len(_MOMENTS))
        known = torch.full(shape, -1.0, dtype=torch.float64, device=device)
        for row, parameter in enumerate(self.parameters):
            state = optimizer.state.get(parameter, {}) if self.has(parameter) else {}
            for kind, value in state.items():
                if value is None:
                    continue
                if kind != _COUNTER and kind not in _MOMENTS:
                    raise RuntimeError(f"the optimiser keeps {kind!r}, which cannot be collected")
                column = 0 if kind == _COUNTER else 1 + _MOMENTS.index(kind)
                known[row, column] = float(value) if kind == _COUNTER else 1.0
        dist.all_reduce(known, dist.ReduceOp.MAX)
        found: dict[str, Tensor] = {}
        table = known.tolist()
        for name, parameter, (steps, *has) in zip(self.names, self.parameters, table, strict=True):
            own = optimizer.state.get(parameter, {}) if self.has(parameter) else {}
            if steps >= 0 and self.rank == 0:
                found[f"{_COUNTER}/{name}"] = torch.tensor(steps, dtype=torch.float32)
            for kind, there in zip(_MOMENTS, has, strict=True):
                if there > 0:
                    self._send(f"{kind}/{name}", parameter, own.get(kind), found)
        return found

    def _send(
        self, key: str, parameter: nn.Parameter, tensor: Tensor | None, found: dict[str, Tensor]
    ) -> None:
        """Bring a tensor from the process of its parameter to ``found`` of the first."""
        owner = self.owners[parameter]
        if self.rank == 0:
            if owner == 0:
                assert tensor is not None, "the first process keeps it"
                found[key] = tensor.detach().cpu()
            else:
                received = torch.empty_like(parameter, memory_format=torch.contiguous_format)
                dist.recv(received, owner)
                found[key] = received.cpu()
        elif owner == self.rank:
            assert tensor is not None, "this process keeps it"
            dist.send(tensor.detach().contiguous(), 0)

    def _list_by_owner(self) -> Iterator[tuple[int, list[nn.Parameter]]]:
        """Parameters of each process, in the order of the network."""
        for owner in range(distributed.get_world()[1]):
            yield owner, [p for p in self.parameters if self.owners[p] == owner]
