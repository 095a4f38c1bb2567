"""`perception_node` whose torch engine computes on the CPU, so that a machine without a GPU has a second engine."""

import sys

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.inference.engine import GpuOptions
from ros_ood_perception.inference.torch import engine as torch_engine
from ros_ood_perception.node.perception_node import main


def open_on_cpu(bundle: Bundle, options: GpuOptions) -> tuple[torch_engine.TorchEngine, str]:
    return torch_engine.TorchEngine(bundle, options.precision, "cpu"), f"torch {options.precision} on the CPU"


torch_engine.open_torch = open_on_cpu
sys.exit(main())
