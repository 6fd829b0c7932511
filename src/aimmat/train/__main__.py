"""`python -m aimmat.train`."""

import sys

from aimmat.train import main

if __name__ == "__main__":
    sys.exit(main())
