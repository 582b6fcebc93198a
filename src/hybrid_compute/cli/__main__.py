"""`python -m hybrid_compute.cli`, for where the command itself is not on the path."""

import sys

from hybrid_compute.cli import main

if __name__ == "__main__":
    sys.exit(main())
