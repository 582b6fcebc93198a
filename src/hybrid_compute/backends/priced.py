"""`Priced`: a place where calls cost something, and the `Budget` they are paid from.

    budget = Budget(10.0)
    Runtime([Priced(remote, per_call=0.002, budget=budget), LocalBackend()], policies=[budget])

A budget is a policy as well: what it cannot pay is forbidden, so that a call goes to a place that costs nothing, or is
refused with the reason.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hybrid_compute.backends.base import Backend, LimitOfRule
from hybrid_compute.backends.group import Group
from hybrid_compute.backends.wrappers import Wrapper
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendError, HybridComputeError, InvalidInput, NotTransferable
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

    def __init__(self, amount: float | Decimal) -> None:
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
        if isinstance(backend, Group):  # forbidden where it has no other way
            reasons = [self(task, each) for each in backend.takers(task)]
            return reasons[0] if reasons and all(reasons) else None
        if isinstance(backend, Priced) and backend.budget is self and not self.can_pay(backend.price):
            return f"of the budget of {self._amount:f} {self.left:g} is left, and a call costs {backend.price:f}"
        return self(task, backend.inner) if isinstance(backend, Wrapper) else None

    @property
    def _spent(self) -> Decimal:
        return sum((amount for _, amount in self._paid.values()), Decimal(0))

    def __repr__(self) -> str:
        return f"<Budget of {self._amount:f}, {self._spent:f} spent>"


class Priced(Wrapper):
    """A place where each call costs `per_call`, paid from `budget`.

    It is paid when the call is handed over, so that no number of calls at once can spend more than there is, and given
    back if the call never began. A call that cannot be paid gets `LimitExceeded`, unless the budget is also a policy
    of the runtime: then it is forbidden before. A map is paid as a whole, or refused as one. A stream is one call, and
    has begun with its first item.
    """

    def __init__(self, inner: Backend, *, per_call: float | Decimal, budget: Budget) -> None:
        if not per_call >= 0:
            raise ValueError(f"a call costs an amount, not {per_call!r}")
        super().__init__(inner)
        self.price = exact(per_call)
        self.budget = budget
        self.batches = inner.batches

    async def run_call(self, call: Call, /) -> Any:
        self._pay(call, 1)
        with self._given_back(call, 1):
            return await self.inner.run_call(call)

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        self._pay(call, len(inputs))
        with self._given_back(call, len(inputs)):
            return await self.inner.run_batch(call, inputs, limit)

    @asynccontextmanager
    async def stream_call(self, call: Call, /) -> AsyncGenerator[AsyncIterator[Any]]:
        self._pay(call, 1)
        async with AsyncExitStack() as stack:
            with self._given_back(call, 1):
                items = await stack.enter_async_context(self.inner.stream_call(call))
            yield await stack.enter_async_context(aclosing(self._items(call, items)))

    async def _items(self, call: Call, items: AsyncIterator[Any]) -> AsyncGenerator[Any]:
        with self._given_back(call, 1):
            first = await anext(items, _END)
        if first is _END:
            return
        yield first
        async for item in items:
            yield item

    def _pay(self, call: Call, calls: int) -> None:
        amount, name = self.price * calls, call.task.name
        if not self.budget.can_pay(amount):
            text = f"{calls} of {name!r} would cost {amount:f}, and {self.budget.left:g} is left in the budget"
            raise LimitOfRule(text, backend=self.name, rule=self.budget)
        self.budget.pay(name, calls, amount)

    @contextmanager
    def _given_back(self, call: Call, calls: int) -> Generator[None]:
        """Give back what was paid, if what is raised inside says that nothing began."""
        try:
            yield
        except (BackendError, InvalidInput, NotTransferable) as error:
            if self._never_began(error, call, calls):
                self.budget.pay(call.task.name, -calls, -self.price * calls)
            raise

    def _never_began(self, error: HybridComputeError, call: Call, calls: int) -> bool:
        if isinstance(error, BackendError):
            return not error.started
        if isinstance(error, InvalidInput) and calls == 1:
            return True
        # It may be about one input of many, or about a result. Only places elsewhere count what they send beforehand.
        return not (self.inner.on_this_machine or call.ran is not None or call.sent or call.received)


_END: Any = object()


def exact(amount: float | Decimal) -> Decimal:
    """The number as it was typed: a thousand times 0.001 is 1."""
    return Decimal(amount if isinstance(amount, int | Decimal) else repr(float(amount)))
