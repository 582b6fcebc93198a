"""The backend of the example keeps every promise that a backend makes."""

from examples.custom_backend import ThreadBackend
from hybrid_compute.backends.base import Backend
from hybrid_compute.testing import BackendContract


class TestThreadBackend(BackendContract):
    """Runs plain functions, and says so."""

    streams = False
    coroutines = False

    def make_backend(self) -> Backend:
        return ThreadBackend(size=2)
