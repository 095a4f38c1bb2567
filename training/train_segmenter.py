"""Train a segmenter with cross-entropy.

    python -m training.train_segmenter --config training/configs/camvid_small.yaml --data FOLDER

FOLDER is the data set's (for CamVid: with the splits `train/` and `val/` in it); the config says which set it is.
Checkpoints go to `runs/NAME/last.pt` (every epoch) and `best.pt` (best validation mIoU), TensorBoard files beside them
(`tensorboard --logdir runs`). `--resume` goes on after the last finished epoch with the numbers that the uninterrupted
run would have had. Under `torchrun`, or with `--devices`, several processes share each batch.
"""

from __future__ import annotations

import sys

from training.runs.command_line import command_line
from training.segmenter.trainer import SegmenterTrainer


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return command_line(SegmenterTrainer, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
