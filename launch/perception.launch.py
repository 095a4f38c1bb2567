"""Start the perception node for one camera, configured and active.

ros2 launch ros_ood_perception perception.launch.py bundle:=FOLDER input_image:=/camera/image_raw
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from launch import LaunchDescription

PACKAGE = "ros_ood_perception"


def generate_launch_description() -> LaunchDescription:
    """The node, the transport's environment, and the two transitions that make it active."""
    share = Path(get_package_share_directory(PACKAGE))
    profile = str(share / "config" / "fastdds_large_images.xml")
    arguments = [
        DeclareLaunchArgument(
            "bundle", default_value=str(share / "models" / "camvid_small"), description="Folder of the model bundle"
        ),
        DeclareLaunchArgument(
            "input_image", default_value="/camera/image_raw", description="Topic of the camera's images"
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(share / "config" / "perception_node.param.yaml"),
            description="Parameter file",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node"),
        DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock"),
        DeclareLaunchArgument("autostart", default_value="true", description="Configure and activate the node"),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
    ]
    node = LifecycleNode(
        package=PACKAGE,
        executable="perception_node",
        name="perception_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            {"bundle": LaunchConfiguration("bundle"), "use_sim_time": LaunchConfiguration("use_sim_time")},
        ],
        remappings=[("~/input/image", LaunchConfiguration("input_image"))],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    autostart = IfCondition(LaunchConfiguration("autostart"))
    configure = EmitEvent(
        event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_CONFIGURE),
        condition=autostart,
    )
    activate = EmitEvent(
        event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_ACTIVATE),
    )
    return LaunchDescription(
        [
            *arguments,
            # Without this profile Fast DDS loses images above 512 KB; 2.x (Humble, Jazzy) reads the second name.
            SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", profile),
            SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", profile),
            # Large messages are otherwise mapped and unmapped each time: 60 % of a subscriber's CPU.
            SetEnvironmentVariable("MALLOC_MMAP_THRESHOLD_", "268435456"),
            SetEnvironmentVariable("MALLOC_TRIM_THRESHOLD_", "536870912"),
            RegisterEventHandler(
                OnStateTransition(
                    target_lifecycle_node=node,
                    start_state="configuring",
                    goal_state="inactive",
                    entities=[activate],
                ),
                condition=autostart,
            ),
            node,
            configure,
        ]
    )
