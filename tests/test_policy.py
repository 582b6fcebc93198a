"""Policies forbid, abilities decline, and a failed call is passed on only where that can do no harm."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.wrappers import Limited, Recording, Retrying
from hybrid_compute.errors import (
    BackendClosed,
    BackendError,
    BackendUnavailable,
    ConnectionLost,
    LimitExceeded,
    PolicyRefused,
    WorkerLost,
)
from hybrid_compute.policy import Policy, allow_only, forbidden, may_pass_on, private_stays_here, unable
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import AnyTask, Task
from hybrid_compute.testing import MockBackend

HERE = MockBackend(name="here", rank=2)
ISOLATED = MockBackend(name="isolated", rank=0, isolates=True)
REMOTE = MockBackend(name="remote", rank=3, on_this_machine=False)


def work(x: int = 0) -> int:
    return x


PRIVATE: AnyTask = Task(work, name="secret", private=True)
PUBLIC: AnyTask = Task(work, name="open")
PURE: AnyTask = Task(work, name="pure", pure=True)


# What is forbidden.


def test_a_private_task_never_leaves_this_machine() -> None:
    """A place elsewhere is refused with the reason; places here, and other tasks there, are not."""
    reason = private_stays_here(PRIVATE, REMOTE)
    assert reason is not None
    assert "private" in reason
    assert private_stays_here(PRIVATE, HERE) is None
    assert private_stays_here(PUBLIC, REMOTE) is None


def wrapped(place: Backend) -> list[Backend]:
    return [Retrying(place), Recording(place), Limited(place, calls=1), Retrying(Recording(Limited(place, calls=1)))]


@pytest.mark.parametrize("wrapper", wrapped(REMOTE), ids=repr)
def test_a_wrapper_does_not_bring_a_remote_place_home(wrapper: Backend) -> None:
    """Neither by itself, nor by being told to, nor by the class it has."""
    assert private_stays_here(PRIVATE, wrapper) is not None
    with pytest.raises(AttributeError, match="on_this_machine"):
        wrapper.on_this_machine = True
    with pytest.raises(TypeError, match="is a wrapper"):
        type("Forged", (type(wrapper),), {"on_this_machine": True})
    assert private_stays_here(PRIVATE, wrapper) is not None


@pytest.mark.parametrize("strategy", ["auto", "remote", "in_order", "round_robin", "fastest"])
async def test_no_strategy_sends_a_private_task_away(strategy: str) -> None:
    """Not even one that knows no other place."""
    remote = MockBackend(name="remote", rank=3, on_this_machine=False)
    for place in [remote, *wrapped(remote)]:
        async with Runtime([place], strategy=strategy) as rt:
            with pytest.raises(PolicyRefused, match="private") as caught:
                await rt.run(PRIVATE, 1)
            assert set(caught.value.refusals) == {"remote"}
        remote.closed = False
    remote.assert_not_asked()


def test_allow_only_refuses_every_other_task() -> None:
    """By name, at every place."""
    policy = allow_only("open", "other")
    assert policy(PUBLIC, HERE) is None
    assert policy(PRIVATE, HERE) == "task 'secret' is not on the list of allowed tasks"
    assert allow_only()(PUBLIC, HERE) is not None


def test_the_first_policy_that_objects_gives_the_reason() -> None:
    """And the later ones are not asked."""
    asked: list[str] = []

    def named(name: str, reason: str | None) -> Policy:
        def policy(task: AnyTask, backend: Backend, /) -> str | None:
            asked.append(name)
            return reason

        return policy

    policies = [named("silent", None), named("first", "too late in the day"), named("second", "too early")]
    assert forbidden(PUBLIC, HERE, policies) == "too late in the day"
    assert asked == ["silent", "first"]
    assert forbidden(PUBLIC, HERE, []) is None


# What is not possible.


def test_a_place_must_provide_what_a_task_needs() -> None:
    """All of it; what is missing is listed in order."""
    demanding: AnyTask = Task(work, needs={"gpu", "cpu", "avx512"})
    assert unable(demanding, HERE) == "it does not provide avx512, gpu"
    assert unable(demanding, MockBackend(provides={"gpu", "cpu", "avx512", "tpu"})) is None


def test_a_place_that_declines_gives_its_reason() -> None:
    """In its own words."""
    busy = MockBackend(refuses=lambda task: "it is out for lunch" if task is PUBLIC else None)
    assert unable(PUBLIC, busy) == "it is out for lunch"
    assert unable(PRIVATE, busy) is None


# What may be tried elsewhere.

FAILURES = [BackendUnavailable, WorkerLost, ConnectionLost, LimitExceeded, BackendClosed, BackendError]


@pytest.mark.parametrize("kind", FAILURES)
def test_a_call_that_never_began_may_go_on(kind: type[BackendError]) -> None:
    """Whatever the task: it has not run."""
    assert may_pass_on(kind("no", started=False), PUBLIC, [HERE])
    assert may_pass_on(kind("no", started=False), PURE, [HERE])


@pytest.mark.parametrize("kind", FAILURES)
def test_a_call_that_may_have_begun_never_runs_twice(kind: type[BackendError]) -> None:
    """Unless its task says that this is harmless."""
    assert not may_pass_on(kind("no", started=True), PUBLIC, [HERE, ISOLATED])


def test_a_pure_call_that_had_begun_goes_on() -> None:
    """A dropped link says nothing against another place."""
    assert may_pass_on(ConnectionLost("no", started=True), PURE, [HERE])


def test_a_pure_call_that_took_its_worker_down_does_not_come_in_here() -> None:
    """What crashed one process may crash this one; a place that isolates, or is elsewhere, may try it."""
    lost = WorkerLost("killed by signal 11", started=True, exit_code=-11)
    assert not may_pass_on(lost, PURE, [HERE, ISOLATED])
    assert may_pass_on(lost, PURE, [ISOLATED, HERE])
    assert may_pass_on(lost, PURE, [REMOTE])


def test_where_nothing_follows_nothing_is_passed_on() -> None:
    """The error is then the answer."""
    assert not may_pass_on(BackendUnavailable("no"), PURE, [])


@given(st.sampled_from(FAILURES), st.booleans(), st.booleans(), st.lists(st.sampled_from([HERE, ISOLATED, REMOTE])))
def test_an_impure_call_runs_at_most_once(
    kind: type[BackendError], started: bool, pure: bool, following: list[Backend]
) -> None:
    """The rule behind all the cases: passed on means not begun, or harmless to repeat."""
    if may_pass_on(kind("no", started=started), Task(work, pure=pure), following):
        assert following
        assert pure or not started


@pytest.mark.parametrize(("private", "remote"), list(itertools.product([False, True], repeat=2)))
def test_privacy_depends_on_the_task_and_the_place_alone(private: bool, remote: bool) -> None:
    """The whole table."""
    refused = private_stays_here(Task(work, private=private), REMOTE if remote else HERE) is not None
    assert refused is (private and remote)
