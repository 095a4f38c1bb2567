"""How much CPU time a step of joint training takes against one of training the segmenter alone: steps in turn.

    python benchmark/training_step.py training/configs/camvid/joint.yaml [--network FOLDER] [--batch 2] [--rounds 12]
      [--only plain|joint]

FOLDER is a network of transformers, in place of the configuration's. Its classes are those of CamVid. The frames are
drawn scenes, and crops and patches have the sizes of the configuration. The plain step has the same crops without
patches. Processor time of all threads; the ratio is of the medians, without the first two rounds. Memory is the largest
that was resident; with --only it is that of one kind of step. How long steps wait for crops is in the log of a run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmark.process_memory import peak_resident_bytes
from ros_ood_perception.files.strict_yaml import read_yaml
from ros_ood_perception.inference.parity import fixed_frames
from ros_ood_perception.number_arguments import whole
from training.data.label_set import CAMVID
from training.flow.image_flow import ImageFlow
from training.joint.negative_draw import PlacedBatch
from training.joint.objective import JointObjective
from training.joint.placement import place
from training.joint.sources import negative_source
from training.joint.training_config import JointTrainingConfig
from training.segmenter.networks.network_segmenter import build_segmenter
from training.segmenter.trainer import SupervisedObjective, build_optimiser

WARM_UP = 2


def steps(config: JointTrainingConfig, batch: int) -> dict[str, Callable[[], None]]:
    """One step of each kind, on the same crops."""
    torch.manual_seed(0)
    segmenter = build_segmenter(config.segmenter, [known.name for known in CAMVID])
    segmenter.prepare_training()
    flow = ImageFlow(config.flow)
    weights = torch.ones(len(CAMVID))
    alone = SupervisedObjective(segmenter, weights)
    together = JointObjective(segmenter, flow, weights, config).train()
    optimiser = build_optimiser(segmenter, config.optimiser)
    of_flow = torch.optim.Adamax(flow.parameters(), lr=config.flow_optimiser.learning_rate)
    height, width = config.augmentation.crop
    images = torch.stack([torch.from_numpy(f) for f in fixed_frames(height, width, batch)]).permute(0, 3, 1, 2)
    labels = torch.randint(0, len(CAMVID), (batch, height, width), dtype=torch.uint8)
    source = negative_source(config.negatives, flow)
    generator = torch.Generator().manual_seed(0)

    def taken(loss: Tensor) -> None:
        loss.backward()
        for one in (optimiser, of_flow):
            one.step()
            one.zero_grad()

    def plain() -> None:
        taken(alone(images, labels))

    def joint() -> None:
        placement = place(batch, (height, width), config.negatives, generator)
        noise = torch.rand((batch, 3, *placement.sample_size), generator=generator)
        draw = source.draw(PlacedBatch(images, slice(0, batch), placement, noise), generator)
        classes, likelihood, unsure = together(images, labels, draw)
        taken(classes + likelihood + config.beta * unsure)

    return {"plain": plain, "joint": joint}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="configuration of joint training")
    parser.add_argument("--network", help="folder of transformers, in place of the configuration's network")
    parser.add_argument("--batch", type=whole(1, 1000), default=2)
    parser.add_argument("--rounds", type=whole(WARM_UP + 1, 10**6), default=12)
    parser.add_argument("--only", choices=("plain", "joint"), help="the other kind is not run, and there is no ratio")
    options = parser.parse_args()
    config = read_yaml(options.config, JointTrainingConfig)
    if options.network is not None:
        config = replace(config, segmenter=replace(config.segmenter, network=options.network))
    made = {name: step for name, step in steps(config, options.batch).items() if options.only in (None, name)}
    taken: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(options.rounds):
        for name, step in made.items():
            started = time.process_time()
            step()
            taken[name].append(time.process_time() - started)
    medians = {name: statistics.median(seconds[WARM_UP:]) for name, seconds in taken.items()}
    for name, median in medians.items():
        ratio = f", {median / medians['plain']:.2f} of a plain step's" if options.only is None else ""
        print(f"{name}: {1000 * median:.0f} ms of CPU time{ratio}")
    print(f"memory: {peak_resident_bytes() / 1e6:.0f} MB at most")


if __name__ == "__main__":
    main()
