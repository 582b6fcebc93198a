"""What cannot go to a worker, known where nothing is pickled."""

from __future__ import annotations

from hybrid_compute.errors import NotTransferable


class ArgumentCannotCross(NotTransferable):
    """`NotTransferable` of an argument: nothing has begun, and whoever sent it can send another."""
