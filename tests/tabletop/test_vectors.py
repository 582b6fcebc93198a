"""The runner of golden vectors: it must see every difference, and excuse only those that are listed."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.turn import Told
from hybrid_compute.errors import ActionFailed
from hybrid_compute.tabletop import deviations, playing, vectors
from hybrid_compute.tabletop.actions import ACTIONS
from hybrid_compute.tabletop.deviations import Deviation
from hybrid_compute.tabletop.playing import Answer, Playing, Setup, play
from hybrid_compute.tabletop.recorded import Clock, Seen, canonical, differs
from hybrid_compute.tabletop.table import Table
from hybrid_compute.tabletop.vectors import Verdict, main, run, verdicts
from tests.tabletop.replay import LOOP, VECTORS

A, B = ({"id": name, "meta": {}} for name in "ab")
DECKS = {"pair": [A, B]}

DRAW = {
    "action": "stack:draw",
    "ok": True,
    "result": [{"$t": "b"}],
    "events": [["stack", "draw", [{"$t": "b"}]]],
    "state": {"stack": {"stack": [{"$t": "a"}], "drawn": [{"$t": "b"}], "discards": []}},
}
REFUSED = {
    "action": "stack:draw",
    "payload": {"count": 0},
    "ok": False,
    "error": {"code": "ACTION_HANDLER_ERROR", "message": "Invalid draw count: 0. Must be a positive integer."},
    "events": [
        [
            "engine",
            "engine:error",
            {
                "payload": {
                    "action": {"$action": "stack:draw"},
                    "err": {"$error": "Invalid draw count: 0. Must be a positive integer."},
                }
            },
        ]
    ],
}
PLACE = {
    "action": "space:place",
    "payload": {"zone": "z", "card": {"$t": "a"}},
    "ok": True,
    "result": (
        placement := {
            "id": "$id:1",
            "tokenId": "a",
            "tokenSnapshot": {"$t": "a"},
            "x": 0,
            "y": 0,
            "faceUp": True,
            "label": None,
            "ts": "$ts",
            "reversed": False,
            "tags": [],
        }
    ),
    "events": [["space", "space:place", placement]],
    "state": {"zones": {"z": [placement]}},
}
REMOVE = {
    "action": "space:remove",
    "payload": {"zone": "z", "placementId": "$id:1"},
    "ok": True,
    "events": [["space", "space:remove", {"id": "$id:1"}]],
    "state": {"zones": {"z": []}},
}
PEEK = {"action": "stack:peek", "ok": True, "result": [{"$t": "a"}]}


def a_case(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "it", "setup": {"stack": {"deck": "pair"}}, "steps": deepcopy(list(steps)), **more}


def judged(*cases: dict[str, Any], play: Callable[[Setup, Callable[[], int]], Playing] = play) -> list[Verdict]:
    read = vectors.cases("some.json", {"cases": deepcopy(list(cases))}, DECKS)
    return [verdict for case in read for verdict in run(case, play)]


def what(found: list[Verdict]) -> list[str]:
    return [verdict.what for verdict in found]


# A case.


def test_a_case_that_is_as_recorded_passes() -> None:
    document = {"gameLoop": LOOP, "stack": {"stack": [{"$t": "a"}, {"$t": "b"}], "drawn": [], "discards": []}}
    assert what(judged(a_case(REFUSED, DRAW, PLACE, REMOVE, initial=document))) == ["passed"] * 4


@pytest.mark.parametrize(
    ("step", "other", "text"),
    [
        (DRAW, {"result": [{"$t": "a"}]}, "result[0].id: expected"),
        (DRAW, {"result": None}, "result: expected null"),
        (DRAW, {"events": []}, "events: expected []"),
        (DRAW, {"events": [["space", "draw", [{"$t": "b"}]]]}, 'events[0][0]: expected "space", came "stack"'),
        (DRAW, {"state": {}}, "document.stack.stack: expected"),
        (DRAW, {"ok": False, "error": {"code": "UNKNOWN_ACTION", "message": "x"}}, "came [{"),
        (REFUSED, {"ok": True}, "came ActionFailed("),
        (REFUSED, {"error": {**REFUSED["error"], "message": "No"}}, "expected 'No', came 'Invalid"),
        (REFUSED, {"error": {**REFUSED["error"], "code": "UNKNOWN_ACTION"}}, "expected UNKNOWN_ACTION"),
        (PLACE, {"result": {**PLACE["result"], "ts": 5}}, "result.ts: expected 5"),
    ],
)
def test_what_is_not_as_recorded_fails(step: dict[str, Any], other: dict[str, Any], text: str) -> None:
    (found,) = judged(a_case({**step, **other}))
    assert found.what == "failed"
    assert found.place.startswith(f"some.json, 'it', step 0: {step['action']}")
    assert text in found.text


def test_a_document_that_is_not_as_recorded_at_first_fails() -> None:
    found = judged(a_case(DRAW, initial={"gameLoop": LOOP}))
    assert what(found) == ["failed", "skipped"]
    assert found[0].place == "some.json, 'it', at first"


def test_a_failure_that_leaves_the_document_alone_stops_nothing() -> None:
    assert what(judged(a_case({**PEEK, "result": [{"$t": "b"}]}, {**PEEK, "result": []}, DRAW, PEEK))) == [
        "passed",
        "failed",
        "passed",
        "passed",
    ]


def test_a_failure_that_leaves_another_document_skips_the_rest() -> None:
    assert what(judged(a_case({**DRAW, "state": {}}, PEEK, PEEK))) == ["failed", "skipped", "skipped"]


def test_what_is_not_offered_skips_the_rest() -> None:
    assert what(judged(a_case({"op": "mergeFrom", "ok": True}, PEEK))) == ["skipped", "skipped"]


def test_a_token_that_is_changed_where_it_lies_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    actions = ActionRegistry(ACTIONS)
    monkeypatch.setattr(playing, "ACTIONS", actions)

    @actions.add("mark")
    def mark(table: Table, payload: dict[str, Any]) -> None:
        table.document["stack"]["stack"][0]["marked"] = True

    document = {"gameLoop": LOOP, "stack": {"stack": [{"$t": "a"}, {"$t": "b"}], "drawn": [], "discards": []}}
    assert what(judged(a_case({"action": "mark", "ok": True}, initial=document))) == ["failed"]


class Falls:
    """An engine whose every action falls over."""

    table = Table({"gameLoop": LOOP})

    def dispatch(self, type: str, payload: Any, *, reversible: bool = True) -> Answer:
        error = ActionFailed("KeyError: 'stack'")
        error.__cause__ = KeyError("stack")
        told = Told("engine:error", {"payload": {"action": {"type": type}, "err": str(error)}}, "engine")
        return Answer(False, error, [told])

    def operate(self, op: str, name: str = "") -> Answer:
        raise AssertionError(op)


def test_a_foreign_error_may_have_any_text_but_must_be_a_refusal() -> None:
    error = {**REFUSED["error"], "message": "undefined is not a function", "foreign": True}
    assert what(judged(a_case({**REFUSED, "error": error}))) == ["passed"]
    (found,) = judged(a_case({**REFUSED, "error": error}), play=lambda setup, clock: Falls())
    assert found.text.startswith("the action fell over")


# Deviations.


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Deviation("ours is better", ("stack:draw",), lambda step: True, lambda step, answer: answer.result != [])
    monkeypatch.setattr(deviations, "DEVIATIONS", (it,))


QUIRK = {**DRAW, "quirk": "draws two", "result": [], "state": {}}


def test_a_quirk_answered_differently_fails_unless_it_is_listed() -> None:
    assert what(judged(a_case(QUIRK, PEEK))) == ["failed", "skipped"]


@pytest.mark.usefixtures("listed")
def test_a_quirk_that_is_listed_may_be_answered_differently() -> None:
    found = judged(a_case(QUIRK, PEEK))
    assert what(found) == ["differs", "skipped"]
    assert found[0].text == "ours is better"
    assert what(judged(a_case({**QUIRK, "state": DRAW["state"]}, PEEK))) == ["differs", "passed"]
    assert what(judged(a_case({**DRAW, "result": []}, quirk="all of it"))) == ["differs"]


@pytest.mark.usefixtures("listed")
def test_only_quirks_are_excused_and_only_as_it_is_listed() -> None:
    assert what(judged(a_case({**DRAW, "result": []}))) == ["failed"]
    assert what(judged(a_case({**PEEK, "result": []}, quirk="another action"))) == ["failed"]


def test_a_deviation_that_is_none_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Deviation("ours is better", ("stack:draw",), lambda step: True, lambda step, answer: not answer.ok)
    monkeypatch.setattr(deviations, "DEVIATIONS", (it,))
    (found,) = judged(a_case({**DRAW, "quirk": "none really"}))
    assert (found.what, found.text) == ("failed", "it is listed as a deviation (ours is better), and is none")
    assert what(judged(a_case(DRAW))) == ["passed"]


@pytest.mark.parametrize(
    ("reason", "action", "payload"),
    [
        ("a seed is a finite number", "stack:shuffle", {"seed": "seven"}),
        ("a seed is a finite number", "stack:shuffle", {"seed": {"$num": "NaN"}}),
        ("a seed is a finite number", "space:shuffleZone", {"zone": "z", "seed": [1]}),
        ("a count is a whole number above 0", "stack:burn", {"count": "2"}),
        ("a count is a whole number above 0", "stack:peek", {"count": 0.5}),
        ("a zone has a name, which is a text", "space:createZone", {}),
        (
            "a zone is locked or not, and a side is up or not: true or false",
            "space:lockZone",
            {"zone": "z", "locked": None},
        ),
        ("a place is a number within bounds", "space:place", {"zone": "z", "card": {"id": "x"}, "opts": {"x": "left"}}),
        ("a card is an object", "stack:discard", {"card": 7}),
        ("a payload has the fields of its action, and what may stand in them", "stack:swap", {"i": 0, "k": 1}),
        ("a payload has the fields of its action, and what may stand in them", "agent:create", {"name": "A", "id": 5}),
        ("a rule has a name, which is a text", "rule:markFired", {"name": 5}),
        (
            "a token is split into a whole number of tokens, up to 10000",
            "token:split",
            {"token": {"id": "x"}, "count": 2.5},
        ),
        ("counts are whole numbers, not below 0", "tokens:draw", {"decks": [[1]], "counts": ["1"]}),
        ("only actions are actions", "hasOwnProperty", {}),
    ],
)
def test_a_quirk_is_known_by_what_is_asked(reason: str, action: str, payload: Any) -> None:
    step = {"action": action, "payload": payload, "ok": True, "result": "something"}
    (found,) = judged(a_case({**step, "quirk": "in words that nobody has seen"}))
    assert (found.what, found.text) == ("differs", reason)
    assert what(judged(a_case(step))) == ["failed"]


@pytest.mark.parametrize(
    ("action", "payload"),
    [("stack:shuffle", {"seed": 5}), ("stack:peek", {"count": 1}), ("stack:swap", {"i": 0, "j": 1})],
)
def test_a_quirk_where_nothing_odd_is_asked_is_no_excuse(action: str, payload: Any) -> None:
    step = {"action": action, "payload": payload, "ok": True, "result": "something", "quirk": "odd"}
    assert what(judged(a_case(step))) == ["failed"]


def test_every_reason_stands_in_the_documentation_with_its_actions() -> None:
    page = (Path(__file__).parents[2] / "docs" / "topics" / "tabletop.md").read_text()
    table = page.partition("## Why a step may be answered differently")[2]
    there = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert there == [
        f"| {each.reason} | {', '.join(f'`{action}`' for action in each.actions)} |" for each in deviations.DEVIATIONS
    ]


# Values.


def test_an_id_has_one_name() -> None:
    seen = Seen(Clock())
    assert differs(["$id:1", "$id:2", "$id:1"], ["x", "y", "x"], seen, "it") is None
    assert differs("$id:1", "y", seen, "it")
    assert differs("$id:3", "x", seen, "it")
    assert differs("$id:3", None, seen, "it")


@pytest.mark.parametrize(
    ("expected", "came", "same"),
    [
        (1, 1.0, True),
        (0.1, 0.1 + 1e-10, True),
        (1, 1.001, False),
        (1, True, False),
        (False, 0, False),
        (None, False, False),
        ("1", 1, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        ("$ts", Clock.start + 10, True),
        ("$ts", Clock.start + 11, False),
        ("$ts", "now", False),
        ({"$dur": 10}, 10, True),
        ({"$dur": 10}, 20, False),
        ({"$action": "a:b"}, {"type": "a:b", "id": 3}, True),
        ({"$action": "a:b"}, {"type": "a:c"}, False),
        ({"$error": "No"}, "No", True),
        ({"$error": "No"}, "Yes", False),
    ],
)
def test_values_are_compared_as_json(expected: Any, came: Any, same: bool) -> None:
    clock = Clock()
    clock.tick()
    assert (differs(expected, came, Seen(clock), "it") is None) is same


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        (2.0, "2"),
        (-0.0, "0"),
        (-1e-9, "0"),
        (1.5, "1.5"),
        (1 / 3, "0.333333"),
        (1e20, "100000000000000000000"),
        (float("inf"), "null"),
        ('□"\n', '"□\\"\\n"'),
    ],
)
def test_there_is_one_way_to_write_a_value(value: Any, text: str) -> None:
    assert canonical(value) == text


# Walks.


def a_walk(digest: str) -> dict[str, Any]:
    state = {"gameLoop": LOOP, "zones": {"z": [placement]}}
    steps: list[dict[str, Any]] = [{"action": "debug:log", "ok": True, "result": {}}, {**PLACE, "stateSha256": digest}]
    for step in steps:
        step.pop("events", None)
        step.pop("state", None)
    final = {"stateSha256": digest, "history": 3, "errors": 0, "events": {"space/space:place": 1}, "state": state}
    return {"walk": 7, "setup": {}, "steps": steps, "final": final}


def walked(walk: dict[str, Any]) -> list[str]:
    return [verdict.what for case in vectors.cases("walk.json", walk, DECKS) for verdict in run(case)]


WALKED = (
    '{"gameLoop":{"activeAgentIndex":-1,"maxTurns":100,"phase":"setup","running":false,"turn":0},"zones":{"z":[{'
    '"faceUp":true,"id":"$id:1","label":null,"reversed":false,"tags":[],"tokenId":"a","tokenSnapshot":{"id":"a",'
    '"meta":{}},"ts":"$ts","x":0,"y":0}]}}'
)


def test_a_walk_is_compared_by_digests_and_at_its_end() -> None:
    walk = a_walk(sha256(WALKED.encode()).hexdigest())
    assert walked(walk) == ["passed"] * 4  # two steps, the length of the history, the end
    other = deepcopy(walk)
    other["final"]["events"] = {"space/space:place": 2}
    assert walked(other) == ["passed"] * 3 + ["failed"]
    other = deepcopy(walk)
    other["final"]["history"] = 2
    assert walked(other) == ["passed", "passed", "failed"]


def test_a_walk_ends_where_a_digest_is_another() -> None:
    assert walked(a_walk("0" * 64)) == ["passed", "failed", "skipped"]


# The whole folder.


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "decks.json").write_text(json.dumps(DECKS))
    (tmp_path / "some.json").write_text(json.dumps({"cases": [a_case(DRAW, PEEK)]}))
    return tmp_path


def test_a_folder_that_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "some.json         2 passed    0 failed    0 answered differently    0 skipped",
        "all               2 passed    0 failed    0 answered differently    0 skipped",
    ]


def test_a_failure_is_shown_with_what_came(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "other.json").write_text(json.dumps({"cases": [a_case(DRAW, {**PEEK, "result": []})]}))
    assert main([str(folder)]) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "FAILED other.json, 'it', step 1: stack:peek \"\"",
        '    result: expected [], came [{"id": "a", "meta": {}}]',
    ]


@pytest.mark.parametrize("arguments", [[], ["/nowhere"], ["a", "b"]])
def test_without_vectors_there_is_nothing_to_run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: ")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{}", "stray.json holds no vectors\n"),
        ("[]", "stray.json holds no vectors\n"),
        ("{", "stray.json cannot be read: Expecting"),
        ('{"cases": [{}]}', "stray.json holds no vectors that can be read: KeyError: 'steps'\n"),
        ('{"cases": 5}', "stray.json holds no vectors that can be read: TypeError: "),
    ],
)
def test_a_stray_file_is_named_in_one_line(
    folder: Path, content: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "stray.json").write_text(content)
    assert main([str(folder)]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert text in told.err


def test_a_folder_without_decks_is_named_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "decks.json").unlink()
    assert main([str(folder)]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert "decks.json cannot be read: " in told.err


@pytest.mark.parametrize("content", [{"cases": [a_case({"op": "mergeFrom", "ok": True}, PEEK)]}, {"cases": []}])
def test_a_folder_of_which_nothing_was_compared_does_not_pass(
    folder: Path, content: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "some.json").write_text(json.dumps(content))
    assert main([str(folder)]) == 2
    assert capsys.readouterr().err.endswith("could be compared\n")


# What was recorded.

OURS = Path(__file__).parent / "vectors"

recorded = pytest.mark.skipif(not VECTORS.is_dir(), reason="there are no recorded vectors here")


@recorded
@pytest.mark.parametrize("name", sorted(path.name for path in VECTORS.glob("*.json") if path.name != "decks.json"))
def test_all_is_as_recorded(name: str) -> None:
    decks = json.loads((VECTORS / "decks.json").read_text())
    found = list(verdicts(VECTORS / name, decks))
    assert [verdict for verdict in found if verdict.what == "failed"] == []


@pytest.mark.skipif(not OURS.is_dir() or VECTORS != OURS, reason="these are other vectors")
def test_each_deviation_of_the_recorded_steps_is_met() -> None:
    """None is behind a step that leads elsewhere."""
    decks = json.loads((VECTORS / "decks.json").read_text())
    files = [path for path in VECTORS.glob("*.json") if path.name != "decks.json"]
    counts = {path.name: Counter(what(list(verdicts(path, decks))))["differs"] for path in files}
    assert {name: count for name, count in counts.items() if count} == {
        "agent.json": 12,
        "engine.json": 5,
        "game.json": 5,
        "loop.json": 1,
        "source.json": 2,
        "space.json": 6,
        "stack.json": 13,
        "token.json": 2,
        "tokens.json": 1,
    }
