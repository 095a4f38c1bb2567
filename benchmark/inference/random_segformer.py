"""Write a SegFormer-B0 with random weights as a folder of transformers, to measure what such a network costs.

    python benchmark/inference/random_segformer.py FOLDER
    python -m training.import_network FOLDER BUNDLE --size 480x640
    python benchmark/inference/bundles_in_turn.py models/camvid_small BUNDLE

The configuration is that of Xie et al., arXiv 2105.15203, with the eleven classes of CamVid.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to write")
    options = parser.parse_args()
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    config = SegformerConfig(num_labels=len(CLASSES))
    config.id2label = dict(enumerate(CLASSES))
    network = SegformerForSemanticSegmentation(config)
    network.save_pretrained(options.folder)
    (options.folder / "README.md").write_text("---\nlicense: none, random weights\n---\n")
    print(f"{options.folder}: {sum(weight.numel() for weight in network.parameters()) / 1e6:.1f} million weights")


if __name__ == "__main__":
    main()
