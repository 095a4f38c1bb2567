"""What processes that share a batch agree upon."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a value over the processes that share the batch, without a gradient: (...) -> (...).

    Data parallelism averages the processes' gradients. A loss that each process divides by its own count of pixels
    would then weight their pixels unequally; divided by the mean of the counts, the average is the gradient of the
    whole batch's loss.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value.detach()
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def take_buffers_of_first_process(module: nn.Module) -> None:
    """Give a module, in every process, the first process's buffers."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)
