"""`python -m aimmat.report`."""

import sys

from aimmat.report import main

if __name__ == "__main__":
    sys.exit(main())
