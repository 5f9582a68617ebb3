"""Data-parallel training: one process per part of the batch, exact averages between them.

Gradients are averaged by hand once per step, not by ``DistributedDataParallel``: a step runs
several subnetworks, each of which touches other weights, and their gradients reach the supernet's
parameters as views, past the hooks that wrapper relies on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from supernet.errors import InputError
from supernet.space import Architecture

# Large enough that the number of messages does not matter, small enough beside the weights.
BUCKET_BYTES = 25 * 2**20


def get_world() -> tuple[int, int]:
    """Get this process's rank and how many there are; ``(0, 1)`` when there is but one."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def is_main() -> bool:
    """Say whether this process is the one that writes files and reports progress."""
    return get_world()[0] == 0


@contextmanager
def join_ranks() -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` started; does nothing in a process started alone.

    Yields:
        Where this rank computes: its own GPU when torch has one, else the processor.

    Raises:
        InputError: A machine has fewer GPUs than processes.
    """
    cuda = torch.cuda.is_available()
    launched = dist.is_available() and dist.is_torchelastic_launched()
    if not launched or dist.is_initialized():
        yield torch.device("cuda" if cuda else "cpu")
        return
    device = torch.device("cpu")
    if cuda:
        local, count = dist.get_node_local_rank(), torch.cuda.device_count()
        if local >= count:
            raise InputError(
                f"process {local} of this machine has no GPU of its own; it has {count}, so "
                f"start torchrun with --nproc-per-node {count}"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def take_share(batch_size: int, least: int = 1) -> slice:
    """Take the part of a batch that belongs to this rank.

    Args:
        batch_size: Of all ranks together.
        least: Samples that every rank must have, which the message counts with.

    Raises:
        InputError: The batch cannot be cut into equal parts.
    """
    rank, size = get_world()
    if batch_size % size:
        raise InputError(
            f"world size {size} does not divide batch_size {batch_size}; "
            f"use a batch size that is a multiple of {size}, at least {least * size}"
        )
    part = batch_size // size
    return slice(rank * part, (rank + 1) * part)


class ElsewhereError(RuntimeError):
    """Another rank failed, and says why.

    Args:
        rank: Which one.
        bad_input: Whether it was an :class:`~supernet.errors.InputError`.
    """

    def __init__(self, rank: int, *, bad_input: bool) -> None:
        super().__init__(f"rank {rank} failed")
        self.bad_input = bad_input


@contextmanager
def fail_together() -> Iterator[None]:
    """Let no rank go on from what one rank raises inside; all leave at the same time.

    Without it the others would wait for the one that failed, or all would say the same.

    Raises:
        ElsewhereError: A lower rank failed, or this one did not and another did.
    """
    rank, size = get_world()
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if size > 1:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        bug = not isinstance(failure, InputError)
        first = torch.tensor([2 * (size if failure is None else rank) + bug], device=device)
        dist.all_reduce(first, dist.ReduceOp.MIN)
        lowest, of_a_bug = divmod(int(first), 2)
        if lowest not in (rank, size):
            raise ElsewhereError(lowest, bad_input=not of_a_bug) from failure
    if failure is not None:
        raise failure


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every ``.grad`` by its mean over the ranks; those that are ``None`` stay so.

    The ranks train the same architectures, so they have the same gradients. Many small tensors
    travel as few large ones.
    """
    _, size = get_world()
    if size == 1:
        return
    gradients: list[Tensor] = []
    known: set[int] = set()
    for parameter in parameters:
        if parameter.grad is not None and id(parameter) not in known:
            known.add(id(parameter))
            gradients.append(parameter.grad)
    for bucket in fill_buckets(gradients):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        dist.all_reduce(flat)
        flat /= size
        parts = flat.split([tensor.numel() for tensor in bucket])
        for tensor, part in zip(bucket, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


@torch.no_grad()
def average(values: Tensor) -> Tensor:
    """Average a tensor over the ranks; in a process alone it comes back as it is."""
    _, size = get_world()
    if size == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / size


@torch.no_grad()
def broadcast(module: nn.Module) -> None:
    """Give all ranks the parameters and buffers of the first."""
    if get_world()[1] == 1:
        return
    for tensor in (*module.parameters(), *module.buffers()):
        whole = tensor.detach().contiguous()
        dist.broadcast(whole, 0)
        tensor.detach().copy_(whole)


def check_same_architectures(architectures: Sequence[Architecture], device: torch.device) -> None:
    """Stop when the ranks are about to train different architectures.

    Raises:
        RuntimeError: They are; the gradients could not be averaged.
    """
    rank, size = get_world()
    if size == 1:
        return
    text = repr([architecture.values for architecture in architectures])
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    ours = torch.tensor([digest], device=device)
    every = [torch.empty_like(ours) for _ in range(size)]
    dist.all_gather(every, ours)
    differ = [other for other, theirs in enumerate(every) if not theirs.equal(every[0])]
    if differ:
        raise RuntimeError(
            f"rank {differ[0]} drew other architectures than rank 0; a sampler must be a function "
            f"of seed, step and averaged losses alone (seen on rank {rank})"
        )


def wait() -> None:
    """Go on when all ranks are here."""
    if get_world()[1] > 1:
        dist.barrier()


def fill_buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Cut tensors into runs of one type on one device, each as large as messages should be."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        kind = (tensor.dtype, tensor.device)
        full = size + tensor.nbytes > BUCKET_BYTES
        if bucket and (full or kind != (bucket[0].dtype, bucket[0].device)):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket
