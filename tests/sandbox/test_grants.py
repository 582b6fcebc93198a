"""Functions of the host that a program may call: no others, with arguments of the types they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hybrid_compute.errors import LimitExceeded, TaskFailed
from hybrid_compute.sandbox import Limits, Sandbox

pytestmark = pytest.mark.timeout(180)


@dataclass
class Order:
    item: str
    count: int = 1


def total(order: Order, *, price: float) -> float:
    return order.count * price


def quiet(value: object) -> None:
    """Takes anything."""


def broken() -> None:
    raise LookupError("there is none")


def strange() -> object:
    return object()


@pytest.fixture(scope="module")
def granting(prepared: None) -> Iterator[Sandbox]:
    grants = {"total": total, "broken": broken, "strange": strange}
    with Sandbox(grants=grants, limits=Limits(host_calls=20)) as sandbox:
        yield sandbox


def test_a_program_calls_what_it_was_granted(granting: Sandbox) -> None:
    """By position and by name; what arrives has the types that the function says."""
    source = "result = [total({'item': 'a', 'count': 3}, price=2.5), total(price=1, order={'item': 'b'})]"
    assert granting.run(source) == [7.5, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("total({'item': 'a', 'count': 'many'}, price=1.0)", r"Expected `int`, got `str` - at `\$.order.count`"),
        ("total({'item': 'a'})", "missing a required (keyword-only )?argument: 'price'|missing required field `price`"),
        ("total({'item': 'a'}, price=1.0, more=2)", "unexpected keyword argument 'more'"),
        ("broken()", "broken: LookupError: there is none"),
        ("strange()", "strange: the value is of type object and cannot be JSON"),
        ("total(float('nan'))", "Out of range float values"),
        ("total({1, 2})", "not JSON serializable"),
    ],
)
def test_what_goes_wrong_is_an_error_in_the_program(granting: Sandbox, call: str, message: str) -> None:
    """Which it may catch."""
    with pytest.raises(TaskFailed, match=message):
        granting.run(call)
    assert granting.run(f"try: {call}\nexcept Exception: result = 'caught'") == "caught"


def test_what_was_not_granted_does_not_exist(granting: Sandbox, box: Sandbox) -> None:
    """Neither by its name nor from behind."""
    with pytest.raises(TaskFailed, match="NameError"):
        box.run("total()")
    source = "from hybrid_compute.sandbox.guest import runner\nresult = runner.host.grant('{}', '{}')"
    assert "there is no function 'total'" in box.run(source.format("total", '{"args": [], "kwargs": {}}'))
    for nonsense in ("", "[]", "{", '{"args": 1, "kwargs": {}}', '{"args": [], "kwargs": []}', "[" * 5000):
        assert '"error"' in granting.run(source.format("total", nonsense))


def test_calls_are_counted(granting: Sandbox) -> None:
    """And the program ends that makes too many, whatever it catches."""
    source = "while True:\n    try: broken()\n    except BaseException: pass"
    with pytest.raises(LimitExceeded, match=r"its limit of host_calls is 20 times \(Limits\.host_calls\)"):
        granting.run(source)


@pytest.mark.parametrize("name", ["input", "result", "not a name", "class", ""])
def test_a_name_that_cannot_be_called_is_refused(name: str) -> None:
    """When it is granted."""
    with pytest.raises(ValueError, match="cannot be granted"):
        Sandbox(grants={name: broken})


def test_only_plain_functions_are_granted() -> None:
    """A program has nothing to await with."""

    async def later() -> None: ...

    with pytest.raises(TypeError, match="the coroutine 'later' cannot be granted"):
        Sandbox(grants={"later": later})


def test_arguments_are_no_larger_than_a_result_may_be() -> None:
    """They take this process's memory, before anybody looks at them."""
    with Sandbox(grants={"quiet": quiet}, limits=Limits(result=1000)) as box:
        assert box.run("quiet('a' * 900); result = 1") == 1
        with pytest.raises(LimitExceeded, match="its limit of result is 1000 characters"):
            box.run("quiet('a' * 1000)")
