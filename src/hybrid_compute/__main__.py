"""`python -m hybrid_compute`, for where the command `hybrid-compute` is not on the path."""

import sys

from hybrid_compute.cli import main

if __name__ == "__main__":
    sys.exit(main())
