"""`python -m aimmat.predict`."""

import sys

from aimmat.predict import main

if __name__ == "__main__":
    sys.exit(main())
