"""What `ros2 launch FILE name:=value ...` does, without the command line tools of ROS 2."""

import sys

from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import LaunchDescription, LaunchService

file, *arguments = sys.argv[1:]

service = LaunchService(argv=arguments)
pairs = [argument.split(":=", 1) for argument in arguments]
included = IncludeLaunchDescription(
    PythonLaunchDescriptionSource(file), launch_arguments=[(name, value) for name, value in pairs]
)
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
