"""`Priced`: a place where calls cost something, and the `Budget` they are paid from.

    budget = Budget(10.0)
    Runtime([Priced(remote, per_call=0.002, budget=budget), LocalBackend()], policies=[budget])

A budget is a policy as well: what it cannot pay is forbidden, so that a call goes to a place that costs nothing, or is
refused with the reason.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.wrappers import Wrapper
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendError, InvalidInput, LimitExceeded
from hybrid_compute.tasks import AnyTask


@dataclass(frozen=True, slots=True)
class Spent:
    """What the calls of one task have cost."""

    calls: int = 0
    amount: float = 0.0


class Budget:
    """An amount of money, or of whatever calls cost, and what has been spent of it.

    Given to a runtime as a policy, it forbids the `Priced` places that it pays for, once it cannot pay one more call.
    """

    def __init__(self, amount: float) -> None:
        if not amount >= 0:
            raise ValueError(f"a budget is an amount, not {amount!r}")
        self._amount = exact(amount)
        self._paid: dict[str, tuple[int, Decimal]] = {}

    @property
    def spent(self) -> float:
        return float(self._spent)

    @property
    def left(self) -> float:
        return float(self._amount - self._spent)

    def report(self) -> dict[str, Spent]:
        """What has been spent on each task, the most first."""
        by_amount = sorted(self._paid.items(), key=lambda paid: -paid[1][1])
        return {task: Spent(calls, float(amount)) for task, (calls, amount) in by_amount}

    def can_pay(self, amount: Decimal) -> bool:
        return amount <= self._amount - self._spent

    def pay(self, task: str, calls: int, amount: Decimal) -> None:
        """Spend so much on these calls; with negative numbers, get it back."""
        paid, spent = self._paid.get(task, (0, Decimal(0)))
        self._paid[task] = paid + calls, spent + amount

    def __call__(self, task: AnyTask, backend: Backend, /) -> str | None:
        """The reason why the place is forbidden, or None: a policy."""
        while isinstance(backend, Wrapper):
            if isinstance(backend, Priced) and backend.budget is self and not self.can_pay(backend.price):
                return f"of the budget of {self._amount:f} {self.left:g} is left, and a call costs {backend.price:f}"
            backend = backend.inner
        return None

    @property
    def _spent(self) -> Decimal:
        return sum((amount for _, amount in self._paid.values()), Decimal(0))

    def __repr__(self) -> str:
        return f"<Budget of {self._amount:f}, {self._spent:f} spent>"


class Priced(Wrapper):
    """A place where each call costs `per_call`, paid from `budget`.

    It is paid when the call is handed over, so that no number of calls at once can spend more than there is, and given
    back if the call never began. A call that cannot be paid gets `LimitExceeded`, unless the budget is also a policy
    of the runtime: then it is forbidden before. A stream is one call.
    """

    def __init__(self, inner: Backend, *, per_call: float, budget: Budget) -> None:
        if not per_call >= 0:
            raise ValueError(f"a call costs an amount, not {per_call!r}")
        super().__init__(inner)
        self.price = exact(per_call)
        self.budget = budget
        self.batches = inner.batches

    async def run_call(self, call: Call, /) -> Any:
        with self._paid(call.task, 1):
            return await self.inner.run_call(call)

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        with self._paid(call.task, len(inputs)):
            return await self.inner.run_batch(call, inputs, limit)

    @asynccontextmanager
    async def stream_call(self, call: Call, /) -> AsyncGenerator[AsyncIterator[Any]]:
        with self._paid(call.task, 1):
            async with self.inner.stream_call(call) as items:
                yield items

    @contextmanager
    def _paid(self, task: AnyTask, calls: int) -> Generator[None]:
        amount = self.price * calls
        if not self.budget.can_pay(amount):
            text = f"{calls} of {task.name!r} would cost {amount:f}, and {self.budget.left:g} is left in the budget"
            raise LimitExceeded(text, backend=self.name)
        self.budget.pay(task.name, calls, amount)
        try:
            yield
        except (BackendError, InvalidInput) as error:
            if isinstance(error, InvalidInput) or not error.started:
                self.budget.pay(task.name, -calls, -amount)
            raise


def exact(amount: float) -> Decimal:
    """The number as it was typed: a thousand times 0.001 is 1."""
    return Decimal(repr(amount))
