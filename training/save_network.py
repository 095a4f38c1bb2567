"""Write the network of a checkpoint as a folder of `transformers`.

    python -m training.save_network runs/mine/best.pt FOLDER

For runs whose configuration has `segmenter.network`. The folder holds the weights that would be exported, the classes,
the preprocessing and a card with the licence. `AutoModelForSemanticSegmentation.from_pretrained(FOLDER)` reads it, and
so do training.import_network and segmenter.network of a further run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.output_folder import check_apart
from ros_ood_perception.shown_text import error_line
from training.bundles.export import deployed_segmenter
from training.runs.checkpoint import CheckpointError, load_checkpoint, reading
from training.segmenter.networks.network_segmenter import NetworkSegmenter
from training.segmenter.networks.transformers_folder import quiet


def save_network(checkpoint_path: Path, folder: Path) -> NetworkSegmenter:
    """Write the folder; returns the network.

    Raises:
        CheckpointError: not a checkpoint, or not of a network of `transformers`.
        FileExistsError: the folder is not empty.
    """
    check_apart("FOLDER", folder, {"the checkpoint": checkpoint_path})
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder}: exists and is not replaced; give a new folder")
    checkpoint = load_checkpoint(checkpoint_path)
    with reading(checkpoint_path):
        segmenter = deployed_segmenter(checkpoint, None, 1.0).segmenter
        classes = [str(name) for name, _ in checkpoint["classes"]]
        licence = str(checkpoint["data_set"]["licence"])
    if not isinstance(segmenter, NetworkSegmenter):
        raise CheckpointError(
            f"{checkpoint_path}: holds a network of this package, which transformers does not read; training.export "
            "makes a bundle of it"
        )
    model = segmenter.model
    model.config.id2label = dict(enumerate(classes))
    model.config.label2id = {name: index for index, name in enumerate(classes)}
    with quiet():
        model.save_pretrained(folder)
    mean, std = ([level / 255 for level in levels] for levels in (segmenter.normalise.mean, segmenter.normalise.std))
    if segmenter.bgr:
        # The file gives them in the network's order.
        mean, std = mean[::-1], std[::-1]
    processing = {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
        "do_flip_channel_order": segmenter.bgr,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processing, indent=2) + "\n")
    (folder / "README.md").write_text(
        f"---\nlicense: {json.dumps(licence)}\n---\n{segmenter.origin}, trained further.\n"
    )
    return segmenter


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.save_network",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="best.pt or last.pt of a training run")
    parser.add_argument("folder", type=Path, help="folder to write")
    options = parser.parse_args(arguments)
    try:
        segmenter = save_network(options.checkpoint, options.folder)
    except (PerceptionError, OSError, ValueError) as error:
        print(f"save_network: {error_line(error)}", file=sys.stderr)
        return 2
    print(f"{options.folder}: {segmenter.kind}, {segmenter.num_classes} classes")
    if segmenter.kind == "oneformer":
        print("copy vocab.json, merges.txt and tokenizer_config.json of its source into the folder")
    return 0


if __name__ == "__main__":
    sys.exit(main())
