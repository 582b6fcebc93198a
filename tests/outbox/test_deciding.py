"""What becomes of a call after an error, and when a place is asked again: plain decisions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute import errors
from hybrid_compute.outbox.deciding import Backoff, Reach, judge, orphaned
from hybrid_compute.outbox.entries import Again, Claimed, Outcome

FRESH = Claimed("a", "a", "double", b"", 0, tries=1, most=3)
LAST = Claimed("a", "a", "double", b"", 0, tries=3, most=3)


def word(verdict: Again | Outcome) -> str:
    """A verdict in short."""
    if isinstance(verdict, Outcome):
        return f"{verdict.state} {verdict.code}"
    return f"again{', away' if verdict.away else ''}{', counts' if verdict.counts else ''}"


CASES: list[tuple[BaseException, str, str]] = [
    # What happened, what follows if the call is not repeatable, and if it is.
    (errors.BackendUnavailable("x"), "again, away", "again, away"),
    (errors.ConnectionLost("x"), "again, away", "again, away"),
    (errors.BackendClosed("x"), "again, away", "again, away"),
    (errors.LimitExceeded("x"), "again", "again"),
    (errors.WorkerLost("x"), "again, counts", "again, counts"),
    (errors.NoBackendAvailable("x"), "again, away", "again, away"),
    (errors.ConnectionLost("x", started=True), "dead outcome_unknown", "again, away, counts"),
    (errors.BackendClosed("x", started=True), "dead outcome_unknown", "again, away, counts"),
    (errors.WorkerLost("x", started=True), "dead outcome_unknown", "again, counts"),
    (errors.LimitExceeded("x", started=True), "dead outcome_unknown", "again, counts"),
    (errors.OutcomeUnknown("x", started=True), "dead outcome_unknown", "dead outcome_unknown"),
    (errors.PolicyRefused("x"), "dead policy_refused", "dead policy_refused"),
    (errors.RemoteProtocolError("x"), "dead protocol_error", "dead protocol_error"),
    (errors.TaskFailed("x"), "failed task_failed", "failed task_failed"),
    (errors.TaskTimeout("x"), "failed task_timeout", "failed task_timeout"),
    (errors.TaskNotFound("x"), "failed task_not_found", "failed task_not_found"),
    (errors.InvalidInput("x"), "failed invalid_input", "failed invalid_input"),
    (RuntimeError("x"), "dead backend_error", "dead backend_error"),
]


@pytest.mark.parametrize(("error", "once", "repeatable"), CASES)
def test_every_error_has_its_consequence(error: BaseException, once: str, repeatable: str) -> None:
    """Never began: again. May have begun: again only where that is harmless. The task's own: its outcome."""
    assert word(judge(error, FRESH, repeatable=False)) == once
    assert word(judge(error, FRESH, repeatable=True)) == repeatable


@pytest.mark.parametrize(("error", "once", "repeatable"), CASES)
def test_only_what_counts_uses_up_the_last_try(error: BaseException, once: str, repeatable: str) -> None:
    """A call is given up after its tries, however often its place was away."""
    last = word(judge(error, LAST, repeatable=True))
    assert last.startswith("dead") if "counts" in repeatable else last == repeatable


def test_a_call_whose_sender_died_goes_again_only_where_that_is_harmless() -> None:
    """And not for ever, in case it is the call that kills its sender."""
    assert word(orphaned(FRESH, repeatable=True)) == "again, counts"
    assert word(orphaned(FRESH, repeatable=False)) == "dead outcome_unknown"
    assert orphaned(LAST, repeatable=True).reason == "given up after 3 tries: each time its sender died"


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_pauses_stay_within_their_bounds(failures: int, chance: float) -> None:
    """However long a place is away, the pause is neither nothing nor for ever."""
    backoff = Backoff(first=0.5, most=30.0, jitter=0.2)
    assert 0.4 <= backoff.pause(failures, chance) <= 36.0


@pytest.mark.parametrize("wrong", [{"first": 0.0}, {"first": 9.0, "most": 3.0}, {"jitter": 1.0}])
def test_pauses_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    """They would be none, or negative."""
    with pytest.raises(ValueError, match="pauses grow"):
        Backoff(**wrong)


steps = st.lists(st.tuples(st.sampled_from(["answer", "fail", "probe fails", "wait", "probe"]), st.floats(0, 20)))


@given(steps, st.integers(0, 8))
def test_a_place_that_is_away_is_never_asked_by_many(history: list[tuple[str, float]], under_way: int) -> None:
    """Whatever has happened: all the room there is after an answer, and room for one at most after a failure."""
    reach, now = Reach(Backoff(jitter=0.0)), 0.0
    for step, seconds in history:
        match step:
            case "answer":
                reach.answered()
            case "fail":
                reach.failed(now, 0.5, probe=False)
            case "probe fails":
                reach.failed(now, 0.5, probe=True)
            case "probe":
                reach.probing(now, 0.5)
            case _:
                now += seconds
        room = reach.room(now, under_way, 8)
        assert room == 8 - under_way if not reach.failures else room in (0, 1)
        assert under_way + room <= 8
        assert not reach.failures or reach.room(now + 60.0, 0, 8) == 1
