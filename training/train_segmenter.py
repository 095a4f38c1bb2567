"""Train a segmenter with cross-entropy.

    python -m training.train_segmenter --config training/configs/camvid/segmenter.yaml --data FOLDER

FOLDER is the folder of the data set that the configuration names (for CamVid: with the splits `train/` and `val/`).
Checkpoints are written to `runs/NAME/last.pt` (every epoch) and `best.pt` (best validation mIoU). TensorBoard files are
beside them (`tensorboard --logdir runs`). `--resume` continues after the last finished epoch, with the numbers of an
uninterrupted run. Under `torchrun`, or with `--devices`, several processes share each batch.
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
