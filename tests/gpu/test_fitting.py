"""What goes to a device in one frame."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.gpu.fitting import DISPATCHES, portions
from hybrid_compute.gpu.work import Kernel, Place, Reply, Series, Step, Suspects, Work

KERNEL = Kernel("nothing", "", "main", [])


def work(nbytes: int, dispatches: int = 1, *, suspected: bool = False) -> Work:
    steps = [Step(KERNEL, (), (1, 1, 1))] if dispatches == 1 else [Series(KERNEL, (), (1, 1, 1), (), dispatches)]
    made = Work(steps, [Place(nbytes)], (), Reply())
    made.suspects = Suspects() if suspected else None
    return made


@given(st.lists(st.builds(work, st.integers(0, 100), st.integers(1, DISPATCHES + 1), suspected=st.booleans())))
def test_all_go_in_order_and_as_few_as_may_be(works: list[Work]) -> None:
    frames = portions(works, 100)
    assert [each for frame in frames for each in frame] == works
    for frame in frames:
        assert frame
        if len(frame) > 1:
            assert sum(place.nbytes for each in frame for place in each.places) <= 100
            assert sum(step.count for each in frame for step in each.steps) <= DISPATCHES
            assert not any(each.suspects for each in frame)
    for one, other in pairwise(frames):
        both = [*one, other[0]]
        assert (
            sum(place.nbytes for each in both for place in each.places) > 100
            or sum(step.count for each in both for step in each.steps) > DISPATCHES
            or any(each.suspects for each in both)
        )


def test_what_needs_no_memory_goes_too() -> None:
    nothing = Work((), (), (), Reply())
    assert portions([nothing, nothing], 100) == [[nothing, nothing]]
