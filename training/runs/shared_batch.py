"""Values that processes exchange when they share a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a value over the processes that share the batch, without a gradient: (...) -> (...).

    Data parallelism averages the gradients of the processes. If each process divided its loss by its own number of
    pixels, pixels of different processes would have different weights. Divided by the mean number, the average is the
    gradient of the whole batch's loss.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value.detach()
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def take_buffers_of_first_process(module: nn.Module) -> None:
    """Copy the buffers of a module from the first process to all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)
