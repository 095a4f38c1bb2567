"""Start the perception node, configured and active, for one camera or several.

ros2 launch ros_ood_perception perception.launch.py bundle:=FOLDER input_image:=/camera/image_raw
ros2 launch ros_ood_perception perception.launch.py bundle:=FOLDER cameras:=front,left,right preset:=autoware
"""

from __future__ import annotations

import sys
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from launch import Action, LaunchContext, LaunchDescription
from ros_ood_perception.launching.launch_arguments import check_arguments, node_arguments
from ros_ood_perception.launching.launched_cameras import cameras_of_argument, cameras_of_file
from ros_ood_perception.launching.topic_presets import check_topic, read_preset, remappings
from ros_ood_perception.launching.transport_environment import PROFILE, transport_environment

PACKAGE = "ros_ood_perception"
NODE = "perception_node"
RESPAWN_DELAY_S = 2.0


def generate_launch_description() -> LaunchDescription:
    """The arguments, the environment of the transport and of security, and the node."""
    share = Path(get_package_share_directory(PACKAGE))
    arguments = {
        **node_arguments(share),
        "namespace": ("", "Namespace of the node."),
        "use_sim_time": ("false", "Take the time from /clock."),
        "autostart": ("true", "Configure and activate the node, and again after each respawn."),
        "respawn": ("true", "Start the node again when it dies."),
        "enclave": (
            "",
            "Enclave of the node in the keystore of ROS_SECURITY_KEYSTORE (SROS 2), such as /perception_node. Security "
            "is enforced then. Empty: the environment decides.",
        ),
        "transport_profile": (
            str(share / PROFILE),
            "Fast DDS profile for large images, used if the environment names none. Empty: no profile.",
        ),
    }
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in arguments.items()
            ),
            OpaqueFunction(function=_check, args=[tuple(arguments)]),
            OpaqueFunction(function=_set_transport),
            OpaqueFunction(function=_set_security),
            OpaqueFunction(function=_start),
        ]
    )


def _check(context: LaunchContext, declared: tuple[str, ...]) -> list[Action]:
    """Refuse a misspelt argument, which `launch` would ignore."""
    check_arguments(context.launch_configurations, declared, Path(__file__), sys.argv)
    return []


def _set_transport(context: LaunchContext) -> list[Action]:
    profile = LaunchConfiguration("transport_profile").perform(context)
    variables = transport_environment(context.environment, profile)
    return [SetEnvironmentVariable(name, value) for name, value in variables.items()]


def _set_security(context: LaunchContext) -> list[Action]:
    """With an enclave, security is enforced: a node whose keys are missing does not start."""
    if not LaunchConfiguration("enclave").perform(context):
        return []
    if not context.environment.get("ROS_SECURITY_KEYSTORE"):
        raise ValueError("the argument enclave needs ROS_SECURITY_KEYSTORE: set it to the folder that holds the keys")
    return [
        SetEnvironmentVariable("ROS_SECURITY_ENABLE", "true"),
        SetEnvironmentVariable("ROS_SECURITY_STRATEGY", "Enforce"),
    ]


def _start(context: LaunchContext) -> list[Action]:
    """The node. Its remap rules and parameters depend on the values of the arguments, which are known only here."""
    values = {
        name: LaunchConfiguration(name).perform(context)
        for name in (
            "bundle",
            "engine",
            "cameras",
            "preset",
            "input_image",
            "input_camera_info",
            "params_file",
            "enclave",
        )
    }
    parameters: dict[str, object] = {name: values[name] for name in ("bundle", "engine") if values[name]}
    # Read in any case: `launch_ros` would start the node without a file that does not exist. The remap rules below need
    # the names of the cameras that it sets.
    of_file = cameras_of_file(values["params_file"], _full_name(context))
    of_argument = cameras_of_argument(values["cameras"])
    if of_argument:
        parameters["cameras"] = of_argument
    cameras = of_argument or of_file
    node = LifecycleNode(
        package=PACKAGE,
        executable="perception_node",
        name=NODE,
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            {
                **parameters,
                "use_sim_time": LaunchConfiguration("use_sim_time"),
                "autostart": LaunchConfiguration("autostart"),
            },
        ],
        remappings=remappings(_topics(values), cameras),
        ros_arguments=[
            "--log-level",
            LaunchConfiguration("log_level"),
            *(["--enclave", values["enclave"]] if values["enclave"] else []),
        ],
        output="screen",
        respawn=LaunchConfiguration("respawn"),
        respawn_delay=RESPAWN_DELAY_S,
    )
    return [node]


def _full_name(context: LaunchContext) -> str:
    """The node's name with its namespace, which `PushRosNamespace` of another launch file may begin."""
    above = context.launch_configurations.get("ros_namespace")
    namespace = prefix_namespace(above, LaunchConfiguration("namespace").perform(context))
    return str(prefix_namespace(make_namespace_absolute(namespace), NODE))


def _topics(values: dict[str, str]) -> dict[str, str]:
    topics = read_preset(values["preset"])
    for argument, private in (("input_image", "input/image"), ("input_camera_info", "input/camera_info")):
        if values[argument]:
            check_topic(private, values[argument], f"the argument {argument}")
            topics[private] = values[argument]
    if values["input_image"]:
        # The name that image_transport gives it.
        topics["input/image/compressed"] = f"{values['input_image']}/compressed"
    return topics
