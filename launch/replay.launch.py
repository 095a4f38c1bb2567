"""Play a recorded bag through the node, and show what it finds in RViz.

ros2 launch ros_ood_perception replay.launch.py bag:=FOLDER bundle:=FOLDER input_image:=/front/image_raw
"""

from __future__ import annotations

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
from ros_ood_perception.launching.launched_cameras import cameras_of_argument, cameras_of_file
from ros_ood_perception.launching.topic_presets import read_preset, remappings

PACKAGE = "ros_ood_perception"
NODE = "/perception_node"
FORWARDED = ("bundle", "engine", "cameras", "preset", "input_image", "input_camera_info", "params_file", "log_level")


def generate_launch_description() -> LaunchDescription:
    """The node on simulated time; the bag once the node is active; RViz beside them."""
    share = Path(get_package_share_directory(PACKAGE))
    arguments = {
        "bag": (None, "Folder of the rosbag2 bag"),
        "rate": ("1.0", "Speed of the replay"),
        "loop": ("false", "Begin anew at the end of the bag"),
        "exit_at_end": ("false", "End everything with the bag"),
        "rviz": ("true", "Start RViz"),
        "rviz_config": (str(share / "config" / "view" / "perception.rviz"), "RViz configuration"),
        "bundle": ("", "Folder of the model bundle; empty: the parameter file's"),
        "engine": ("", "What runs the model; empty: the parameter file's"),
        "cameras": ("", "Names of the cameras, separated by commas; empty: the parameter file's. RViz shows the first"),
        "preset": ("plain", "Names of topics: plain, nav2, autoware, or the path of a .yaml file"),
        "input_image": ("", "Topic of the images in the bag, with {camera} for a camera's name; empty: the preset's"),
        "input_camera_info": ("", "Topic of the calibration in the bag, likewise"),
        "params_file": (str(share / "config" / "perception_node.param.yaml"), "Parameter file"),
        "log_level": ("info", "debug, info, warn, error or fatal"),
    }
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch" / "perception.launch.py")),
        launch_arguments=[
            *((name, LaunchConfiguration(name)) for name in FORWARDED),
            ("use_sim_time", "true"),
            ("namespace", ""),
            # From here: the bag waits for the node, and a node that starts itself may be active before it is heard.
            ("autostart", "false"),
            # A replay of which the node died half way is none.
            ("respawn", "false"),
        ],
    )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in arguments.items()
            ),
            OpaqueFunction(function=_bag),
            OpaqueFunction(function=_rviz),
            perception,
            *_transitions(),
        ]
    )


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
    """The player, once the node is active: frames before that would be lost."""
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
    """RViz, with the topics of its configuration mapped to those of the first camera."""
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
        # The configuration shows the camera under the plain preset's name.
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
"""What `config/view/perception.rviz` shows of the node."""
