"""Train the normalizing flow alone, by maximum likelihood on crops of training frames.

    python -m training.train_flow --config training/configs/flow_fast.yaml --data FOLDER

Checkpoints are written to `runs/NAME/last.pt` (every epoch) and `best.pt` (fewest bits per dimension on validation
crops). TensorBoard files with samples of several sizes are beside them (`tensorboard --logdir runs`). `--resume`
continues after the last finished epoch. Under `torchrun`, or with `--devices`, several processes share each batch.
"""

from __future__ import annotations

import sys

from training.flow.trainer import FlowTrainer
from training.runs.command_line import command_line


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return command_line(FlowTrainer, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
