"""python -m ros_ood_perception.replay"""

import sys

from ros_ood_perception.replay.command_line.main import main

if __name__ == "__main__":
    sys.exit(main())
