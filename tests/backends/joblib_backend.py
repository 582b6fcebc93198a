"""A backend for joblib on top of `WorkerExecutor`: about what its documentation asks of one."""

from typing import Any

from joblib import register_parallel_backend
from joblib._parallel_backends import AutoBatchingMixin, ParallelBackendBase

from hybrid_compute import WorkerExecutor


class HybridComputeBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # they have no types
    supports_retrieve_callback = True
    supports_timeout = True

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        self.parallel = parallel
        self._executor = WorkerExecutor(self.effective_n_jobs(n_jobs))
        return self.effective_n_jobs(n_jobs)

    def effective_n_jobs(self, n_jobs: int) -> int:
        return max(1, n_jobs or 1)

    def submit(self, func: Any, callback: Any = None) -> Any:
        future = self._executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit

    def retrieve_result_callback(self, future: Any) -> Any:
        return future.result()

    def terminate(self) -> None:
        self._executor.shutdown(cancel_futures=True)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        self.terminate()
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel)


def register() -> None:
    register_parallel_backend("hybrid-compute", HybridComputeBackend)
