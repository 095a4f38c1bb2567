"""python -m fleet.mine"""

import sys

from fleet.mine.main import main

if __name__ == "__main__":
    sys.exit(main())
