"""A tenant as long as the server runs: its tasks, its places, its share, and how its calls are counted."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hybrid_compute.clock import Clock
from hybrid_compute.errors import ProtocolError, TaskNotFound
from hybrid_compute.runtime import Runtime, Verbs
from hybrid_compute.server.limits import Limits, Turnstile
from hybrid_compute.server.meters import Meter, Meters
from hybrid_compute.server.tenants import Tenant
from hybrid_compute.strategies import auto, unlearned
from hybrid_compute.tasks import AnyTask, TaskRegistry


class Guest:
    """What the server knows of one tenant."""

    def __init__(
        self, tenant: Tenant, tasks: TaskRegistry, runtime: Runtime, limits: Limits, meters: Meters, clock: Clock
    ) -> None:
        self.tenant = tenant
        self.turnstile = Turnstile(
            f"tenant {tenant.name!r}", clock, at_once=tenant.at_once, rate=tenant.rate, burst=tenant.burst
        )
        self._longest = limits.longest
        self._registry = tasks
        self._meters = meters
        # Who sends the input decides how long a task takes, so nothing is learned from it: an author's promise counts,
        # and what was quick so far does not.
        self.runtime = runtime.options(strategy=unlearned) if runtime.settings.strategy in ("auto", auto) else runtime
        self._verbs = self.runtime.options(timeout=limits.longest) if limits.longest else self.runtime
        self.answers_at_once = self.runtime.promised
        self.run_at_once = self.runtime.run_promised
        self._metered: dict[AnyTask, Meter] = {}
        meters.watch(tenant.name, self.turnstile)

    @property
    def tasks(self) -> Mapping[str, AnyTask]:
        """The tasks that this tenant sees, by name."""
        allowed = self.tenant.tasks
        return {name: self._registry[name] for name in self._registry if allowed is None or name in allowed}

    def find(self, name: str) -> AnyTask:
        """The task of this name. Raises `TaskNotFound`, in the same words for those that others may see."""
        if not name:
            raise ProtocolError("a call names its task: {task, input}")
        allowed = self.tenant.tasks
        if name in self._registry and (allowed is None or name in allowed):
            return self._registry[name]
        raise TaskNotFound(f"there is no task {name!r} here")

    def verbs(self, task: AnyTask, timeout: float | None = None) -> Verbs:
        """The runtime, for a call that may take so long: no longer than the task, and the server, say themselves."""
        if timeout is not None and not 0 < timeout < math.inf:
            raise ProtocolError(f"a timeout is a positive number of seconds, not {timeout!r}")
        if timeout is None and (task.timeout is None or self._longest is None):
            return self._verbs
        said = (timeout, task.timeout, self._longest)
        return self.runtime.options(timeout=min(each for each in said if each is not None))

    def meter(self, task: AnyTask) -> Meter:
        """Where the calls of this task by this tenant are counted."""
        found = self._metered.get(task)
        if found is None:
            found = self._metered[task] = self._meters.meter(self.tenant.name, task.name)
        return found
