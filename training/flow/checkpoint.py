"""Checkpoints that hold a flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ros_ood_perception.files.strict_yaml import from_mapping
from training.flow.image_flow import FlowConfig, ImageFlow
from training.runs.checkpoint import CheckpointError, load_checkpoint, reading


def load_flow_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint of a run of the flow, or of joint training.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not a checkpoint, or one without a flow.
    """
    saved = load_checkpoint(path)
    if "flow" not in saved:
        raise CheckpointError(f"{path}: holds no flow (it is of a {saved.get('kind')} run)")
    return saved


def read_flow(path: Path) -> ImageFlow:
    """The flow of a checkpoint, in evaluation mode.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not a checkpoint, or one without a flow.
    """
    saved = load_flow_checkpoint(path)
    with reading(path):
        flow = ImageFlow(from_mapping(saved["config"]["flow"], FlowConfig, str(path)))
        flow.load_state_dict(saved["flow"])
    return flow.eval()
