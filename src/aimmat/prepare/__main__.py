"""`python -m aimmat.prepare`."""

import sys

from aimmat.prepare import main

if __name__ == "__main__":
    sys.exit(main())
