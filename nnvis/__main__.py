"""`python -m nnvis` is `nnvis`."""

import sys

from nnvis.cli import main

if __name__ == "__main__":
    sys.exit(main())
