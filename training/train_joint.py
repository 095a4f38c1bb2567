"""Train segmenter and normalizing flow jointly: the method of this package.

    python -m training.train_joint --config training/configs/camvid/joint.yaml --data FOLDER \\
        --segmenter runs/camvid_segmenter/best.pt --flow runs/camvid_flow/best.pt

A sample of the flow is pasted into every training image. Outside it, the segmenter learns the classes (L_cls). Inside
it, the segmenter learns to be unsure (L_jsd). The flow learns the likelihood of the replaced crop (L_mle), and through
its sample it learns to make the segmenter unsure: L = L_cls + L_mle + beta L_jsd (Grcic et al., arXiv 2112.12833).

Both networks start from pre-trained checkpoints. `--resume` continues after the last finished epoch. Under `torchrun`,
or with `--devices`, several processes share each batch. `python -m training.export runs/NAME/last.pt BUNDLE` exports
the segmenter; a bundle does not contain the flow.
"""

from __future__ import annotations

import sys

from training.joint.trainer import JointTrainer
from training.runs.command_line import command_line


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return command_line(JointTrainer, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
