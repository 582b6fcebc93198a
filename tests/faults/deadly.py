"""A module that takes down whoever imports it, except the tests' own process."""

import os
import sys

if "pytest" not in sys.modules:
    os._exit(5)
