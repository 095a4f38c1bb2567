"""The arguments of the launch files that start the node, with their defaults and descriptions."""

from __future__ import annotations

from pathlib import Path

from ros_ood_perception.parameters.declarations import DECLARATIONS

PARAMETER_FILE = "config/perception_node.param.yaml"
_DESCRIPTIONS = {declaration.name: declaration.description for declaration in DECLARATIONS}


def node_arguments(share: Path) -> dict[str, tuple[str, str]]:
    """Default and description of each argument that starts the node, alone or with a recording.

    Args:
        share: the package's share folder.
    """
    return {
        "bundle": ("", f"{_DESCRIPTIONS['bundle']} Empty: the value of params_file."),
        "engine": ("", f"{_DESCRIPTIONS['engine']} Empty: the value of params_file."),
        "cameras": ("", "Names of the cameras, separated by commas. Empty: the value of params_file."),
        "preset": ("plain", "Names of the topics: plain, nav2, autoware (config/topics), or the path of a .yaml file."),
        "input_image": ("", "Topic of the images, with {camera} for a camera's name. Empty: the preset's topic."),
        "input_camera_info": ("", "Topic of the calibration, with {camera} for a camera's name. Empty: the preset's."),
        "params_file": (str(share / PARAMETER_FILE), "Parameter file of the node."),
        "log_level": ("info", "Lowest level that is logged: debug, info, warn, error or fatal."),
    }
