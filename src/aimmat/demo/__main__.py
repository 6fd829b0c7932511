"""`python -m aimmat.demo`."""

import sys

from aimmat.demo import main

if __name__ == "__main__":
    sys.exit(main())
