"""Play a recorded bag through the node, and show what it finds in RViz.

ros2 launch ros_ood_perception replay.launch.py bag:=FOLDER bundle:=FOLDER input_image:=/front/image_raw
"""

from __future__ import annotations

import sys
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.events.matchers import matches_node_name
from lifecycle_msgs.msg import Transition

from launch import Action, LaunchContext, LaunchDescription
from ros_ood_perception.launching.launch_arguments import check_arguments, node_arguments
from ros_ood_perception.launching.launched_cameras import cameras_of_argument, cameras_of_file
from ros_ood_perception.launching.topic_presets import read_preset, remappings

PACKAGE = "ros_ood_perception"
NODE = "/perception_node"


def generate_launch_description() -> LaunchDescription:
    """The node on simulated time, RViz, and the bag as soon as the node is active."""
    share = Path(get_package_share_directory(PACKAGE))
    of_node = node_arguments(share)
    arguments = {
        "bag": (None, "Folder of the rosbag2 bag."),
        "rate": ("1.0", "Speed of the bag's player, as a factor of real time."),
        "loop": ("false", "Start the bag again when it ends."),
        "exit_at_end": ("false", "End the launch when the bag ends."),
        "rviz": ("true", "Start RViz. It shows the first camera."),
        "rviz_config": (str(share / "config" / "view" / "perception.rviz"), "RViz configuration."),
        **of_node,
    }
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch" / "perception.launch.py")),
        launch_arguments=[
            *((name, LaunchConfiguration(name)) for name in of_node),
            ("use_sim_time", "true"),
            ("namespace", ""),
            # The transitions below do it. The bag waits for the node to become active, and a node that starts by itself
            # may be active before this launch hears of it.
            ("autostart", "false"),
            # A replay during which the node died is not a whole replay.
            ("respawn", "false"),
        ],
    )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in arguments.items()
            ),
            OpaqueFunction(function=_check, args=[tuple(arguments)]),
            OpaqueFunction(function=_bag),
            OpaqueFunction(function=_rviz),
            perception,
            *_transitions(),
        ]
    )


def _check(context: LaunchContext, declared: tuple[str, ...]) -> list[Action]:
    """Refuse a misspelt argument, which `launch` would ignore."""
    check_arguments(context.launch_configurations, declared, Path(__file__), sys.argv)
    return []


def _transitions() -> list[Action]:
    """Configure the node, and activate it once it is configured."""

    def change(transition: int) -> EmitEvent:
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_node_name(NODE), transition_id=transition))

    activate = change(Transition.TRANSITION_ACTIVATE)
    return [
        RegisterEventHandler(
            OnStateTransition(start_state="configuring", goal_state="inactive", entities=[activate], handle_once=True)
        ),
        change(Transition.TRANSITION_CONFIGURE),
    ]


def _bag(context: LaunchContext) -> list[Action]:
    """The bag's player. It starts when the node is active, because earlier frames would be lost."""
    loop = LaunchConfiguration("loop").perform(context).lower() in ("true", "1")
    player = ExecuteProcess(
        cmd=[
            *("ros2", "bag", "play", LaunchConfiguration("bag"), "--clock"),
            *("--rate", LaunchConfiguration("rate")),
            *(["--loop"] if loop else []),
        ],
        output="screen",
    )
    return [
        RegisterEventHandler(OnStateTransition(goal_state="active", entities=[player], handle_once=True)),
        RegisterEventHandler(
            OnProcessExit(target_action=player, on_exit=[Shutdown(reason="the bag has ended")]),
            condition=IfCondition(LaunchConfiguration("exit_at_end")),
        ),
    ]


def _rviz(context: LaunchContext) -> list[Action]:
    """RViz, with the topics of its configuration remapped to those of the first camera."""
    names = cameras_of_argument(LaunchConfiguration("cameras").perform(context))
    names = names or cameras_of_file(LaunchConfiguration("params_file").perform(context), NODE)
    camera = names[0] if names else ""
    topics = read_preset(LaunchConfiguration("preset").perform(context))
    image = LaunchConfiguration("input_image").perform(context)
    if image:
        topics["input/image"] = image
    own = f"{NODE}/{camera}" if camera else NODE
    shown = {f"{NODE}/{topic}": f"{own}/{topic}" for topic in SHOWN}
    for private, public in remappings(topics, [camera]):
        relative = private.removeprefix(f"~/{camera}/" if camera else "~/")
        # The configuration names the image as the preset "plain" does.
        shown["/camera/image_raw" if relative == "input/image" else f"{NODE}/{relative}"] = public
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            arguments=["-d", LaunchConfiguration("rviz_config")],
            parameters=[{"use_sim_time": True}],
            remappings=[rule for rule in shown.items() if rule[0] != rule[1]],
            condition=IfCondition(LaunchConfiguration("rviz")),
        )
    ]


SHOWN = (
    "debug/overlay",
    "debug/anomaly_heat_map",
    "output/ground/grid",
    "output/ground/free",
    "output/anomaly/obstacles",
    "output/anomaly/obstacle_markers",
)
"""Topics of the node that `config/view/perception.rviz` shows."""
