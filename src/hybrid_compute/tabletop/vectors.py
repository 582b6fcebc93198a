"""Golden vectors: what the original engine was seen to do, and whether this one does the same.

    python -m hybrid_compute.tabletop.vectors DIR

runs every file of the folder and says how many steps passed. A step whose answer differs fails, unless the vectors
call it a quirk and `deviations.py` says why it is answered differently; where the documents differ from then on, the
rest of its case is skipped. What is no action (an `op`) is skipped where the engine does not offer it. The exit code
is 1 if any step failed, 2 if there is nothing to run, or nothing could be compared.

    read     files -> cases, the tokens of decks filled in
    run      a case on an engine of its own, step by step; in payloads, `$id:n` is the id that was seen before
    compare  an answer with the recorded one, whose placeholders stand for ids, times and errors
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, NamedTuple

from hybrid_compute.engine.copying import copied
from hybrid_compute.engine.turn import Told
from hybrid_compute.tabletop.actions import ACTIONS
from hybrid_compute.tabletop.deviations import SETUP, Step, reason, unkept
from hybrid_compute.tabletop.dice import shuffled, uint32
from hybrid_compute.tabletop.plan import Setup
from hybrid_compute.tabletop.playing import Answer, NotOffered, Play, play
from hybrid_compute.tabletop.recorded import Clock, Document, Json, Seen, canonical, differs, digest, short
from hybrid_compute.tabletop.table import Stack
from hybrid_compute.tabletop.wording import CODES


class Case(NamedTuple):
    """One engine and what is done to it. A case of a walk has no events and states by step, but a `final` one."""

    file: str
    name: str
    setup: Setup
    steps: list[Document]
    initial: Document | None = None
    final: Document | None = None
    quirk: str = ""


class Verdict(NamedTuple):
    """What became of one step. `text` says where it differs."""

    what: Literal["passed", "failed", "differs", "skipped"]
    place: str
    text: str = ""


# Read.


def cases(file: str, content: Document, decks: dict[str, list[Json]]) -> list[Case]:
    """The cases in the content of a file. A walk is one long case, at whose end the history is counted."""
    tokens = {token["id"]: token for deck in decks.values() for token in deck}
    if "cases" in content:
        return [_case(file, filled(case, tokens), decks) for case in content["cases"]]
    end = {"op": "history.length", "ok": True, "result": content["final"]["history"]}
    walk = {**content, "name": f"walk {content['walk']}", "steps": [*content["steps"], end]}
    return [_case(file, filled(walk, tokens), decks)]


def _case(file: str, case: Document, decks: dict[str, list[Json]]) -> Case:
    unseen: Document = {} if "final" in case else {"events": [], "state": {}}
    steps = [{**unseen, **step} for step in case["steps"]]
    return Case(
        file,
        case["name"],
        _setup(case["setup"], decks),
        steps,
        case.get("initial"),
        case.get("final"),
        case.get("quirk", ""),
    )


def _setup(setup: Document, decks: dict[str, list[Json]]) -> Setup:
    def stack(tokens: Json, seed: float | None = None) -> Stack:
        # A copy, or a token that an action changes where it lies would change in what is expected as well.
        return Stack(copied(decks[tokens["deck"]] if isinstance(tokens, dict) else tokens), seed)

    return Setup(
        stack=stack(setup["stack"], setup.get("stackSeed")) if "stack" in setup else None,
        stacks={name: stack(tokens) for name, tokens in setup.get("stacks", {}).items()},
        source=setup.get("source"),
        space=setup.get("space", True) is not None,
    )


def filled(value: Json, tokens: dict[str, Json]) -> Json:
    """The value with the tokens of decks, and the numbers that JSON cannot write, in place of their placeholders."""
    match value:
        case {"$t": name}:
            return tokens[name]
        case {"$num": name}:
            return float(name)
        case dict():
            return {key: filled(inside, tokens) for key, inside in value.items()}
        case list():
            return [filled(inside, tokens) for inside in value]
        case _:
            return value


# Run.


AT_FIRST: Final = -1
"""The number of the step that is none: the table as it is set up."""


def run(case: Case, play: Play = play) -> Iterator[Verdict]:
    """A verdict on each step of a case."""
    yield from _Run(case, play).verdicts()


class _Run:
    """A case on an engine of its own."""

    def __init__(self, case: Case, play: Play) -> None:
        self._case = case
        self._clock = Clock()
        self._seen = Seen(self._clock)
        self._playing = play(case.setup, self._clock)
        self._told: Counter[str] = Counter()
        # Where it was not recorded there is a deck, and ours will do; a walk has digests instead.
        self._expected = case.initial or (None if case.final else copied(self._document))

    @property
    def _document(self) -> Document:
        return self._playing.table.document

    def verdicts(self) -> Iterator[Verdict]:
        """One for each step. After one that cannot be done, or leaves another document, the rest is not comparable."""
        if difference := self._document_differs():
            yield _verdict(self._case, AT_FIRST, difference, Answer(True, self._document, None))
            yield from self._skip_from(0)
            return
        for number in range(len(self._case.steps)):
            verdict = self._step(number)
            yield verdict
            if verdict.what == "skipped" or (verdict.what != "passed" and self._is_lost()):
                yield from self._skip_from(number + 1)
                return
        if self._case.final:
            yield self._end(self._case.final)

    def _step(self, number: int) -> Verdict:
        step = self._case.steps[number]
        self._clock.tick()
        if self._expected is not None:
            self._expected = _changed(self._expected, step["state"])
        try:
            answer = self._do(step)
        except NotOffered:
            return Verdict("skipped", _place(self._case, number), "this engine does not offer it")
        self._told.update(f"{each.source}/{each.type}" for each in _special(answer.told))
        difference = wrong(step, answer, self._document, self._seen) or self._document_differs()
        return _verdict(self._case, number, difference, answer)

    def _do(self, step: Document) -> Answer:
        if "op" in step:
            named = [event[2]["payload"]["name"] for event in step.get("events", ()) if event[1] == "engine:policy"]
            return self._playing.operate(step["op"], *named)
        payload = _bound(step.get("payload"), self._case.setup, self._seen)
        return self._playing.dispatch(step["action"], payload, **step.get("opts", {}))

    def _end(self, final: Document) -> Verdict:
        difference = (
            differs(final["events"], dict(self._told), self._seen, "events")
            or differs(final["state"], self._document, self._seen, "document")
            or differs(final["stateSha256"], digest(self._document, self._seen), self._seen, "stateSha256")
        )
        place = f"{self._case.file}, at last"
        return Verdict("failed", place, difference) if difference else Verdict("passed", place)

    def _document_differs(self) -> str | None:
        return None if self._expected is None else differs(self._expected, self._document, self._seen, "document")

    def _is_lost(self) -> bool:
        return self._expected is None or self._document_differs() is not None

    def _skip_from(self, number: int) -> Iterator[Verdict]:
        for later in range(number, len(self._case.steps)):
            yield Verdict("skipped", _place(self._case, later), "not comparable after a step before it")


def _verdict(case: Case, number: int, difference: str | None, answer: Answer) -> Verdict:
    place, step = _place(case, number), _asked(case, number)
    if case.quirk or "quirk" in step.recorded:
        if difference and (why := reason(step, answer)):
            return Verdict("differs", place, why)
        if not difference and (why := unkept(step, answer)):
            difference = f"it is listed as a deviation ({why}), and is none"
    return Verdict("failed", place, difference) if difference else Verdict("passed", place)


def _asked(case: Case, number: int) -> Step:
    if number == AT_FIRST:
        return Step(SETUP, {}, {"ok": True, "state": case.initial or {}})
    step = case.steps[number]
    return Step(step.get("op") or step["action"], step.get("payload") or {}, step)


def _bound(payload: Json, setup: Setup, seen: Seen) -> Json:
    """A payload of its own, with the ids and the stacks that are meant."""
    match payload:
        case {"$stack": name}:
            return setup.stacks[name]
        case str() if payload.startswith("$id:"):
            return seen.ids[payload]
        case dict():
            return {key: _bound(inside, setup, seen) for key, inside in payload.items()}
        case list():
            return [_bound(inside, setup, seen) for inside in payload]
        case _:
            return payload


def _changed(document: Document, state: Document) -> Document:
    return {key: value for key, value in {**document, **state}.items() if value != {"$deleted": True}}


def _place(case: Case, number: int) -> str:
    if number == AT_FIRST:
        return f"{case.file}, {case.name!r}, at first"
    step = case.steps[number]
    asked = step.get("op") or f"{step['action']} {short(step.get('payload', ''))}"
    return f"{case.file}, {case.name!r}, step {number}: {asked}"


# Compare.

_ROUTINE: Final = {"engine:action", "state:updated"}


def wrong(step: Document, answer: Answer, document: Document, seen: Seen) -> str | None:
    """Where an answer is not what was recorded, None if nowhere."""
    if step["ok"] != answer.ok:
        return f"expected {short(step.get('result') if step['ok'] else step['error'])}, came {answer.result!r}"
    if step["ok"]:
        difference = differs(step.get("result"), answer.result, seen, "result")
    else:
        difference = _wrong_error(step["error"], answer.result)
    if difference is None and "events" in step and answer.told is not None:
        recorded = [[*event, None][:3] for event in step["events"]]
        came = [[told.source, told.type, told.payload] for told in _special(answer.told)]
        foreign = not step["ok"] and "foreign" in step["error"]
        difference = differs(_textless(recorded) if foreign else recorded, came, seen, "events")
    if difference is None and "stateSha256" in step:
        difference = differs(step["stateSha256"], digest(document, seen), seen, "stateSha256")
    return difference


def _wrong_error(expected: Document, came: BaseException) -> str | None:
    """An error has the text of the original, if it is its own; another one must be a refusal, not a fault of ours."""
    if not isinstance(came, CODES.get(expected["code"], Exception)):
        return f"expected {expected['code']}, came {came!r}"
    if expected.get("foreign"):
        return f"the action fell over: {came!r}" if came.__cause__ else None
    return None if str(came) == expected["message"] else f"expected {expected['message']!r}, came {str(came)!r}"


def _special(told: list[Told] | None) -> list[Told]:
    return [each for each in told or () if each.type not in _ROUTINE]


def _textless(value: Json) -> Json:
    """The value with any error where one is named."""
    match value:
        case {"$error": _}:
            return {"$error": None}
        case dict():
            return {key: _textless(inside) for key, inside in value.items()}
        case list():
            return [_textless(inside) for inside in value]
        case _:
            return value


# The other files: shuffles and names.


def shuffles(file: str, content: Document) -> Iterator[Verdict]:
    """Seeds as 32 bits, and what they make of the list 0..n-1. The generator's outputs are seen in no other way."""
    for one in content["mulberry32"]:
        yield _alike(f"{file}, seed {one['seed']}", one["uint32"], uint32(one["seed"]))
    for one in content["shuffle"]:
        yield _alike(f"{file}, {one['n']} with seed {one['seed']}", one["order"], _order(one))
    for one in content["digests"]:
        came = sha256(canonical(_order(one)).encode()).hexdigest()
        yield _alike(f"{file}, {one['n']} with seed {one['seed']}", one["sha256"], came)


def _order(one: Document) -> list[int]:
    return shuffled(list(range(one["n"])), one["seed"])


def names(file: str, content: Document) -> Iterator[Verdict]:
    yield _alike(f"{file}, actions", content["actions"], list(ACTIONS))
    yield _alike(f"{file}, count", content["count"], len(ACTIONS))


def _alike(place: str, expected: Json, came: Json) -> Verdict:
    difference = differs(expected, came, Seen(Clock()), "value")
    return Verdict("failed", place, difference) if difference else Verdict("passed", place)


# The whole folder.


def verdicts(file: Path, decks: dict[str, list[Json]], play: Play = play) -> Iterator[Verdict]:
    """All that there is to say about a file. Raises `NoVectors`, before the first, if it cannot be read."""
    content = _json(file)
    match content:
        case {"cases": _} | {"walk": _}:
            for case in _cases_of(file, content, decks):
                yield from run(case, play)
        case {"mulberry32": _, "shuffle": _, "digests": _}:
            yield from shuffles(file.name, content)
        case {"actions": _, "count": _}:
            yield from names(file.name, content)
        case _:
            raise NoVectors(f"{file} holds no vectors")


class NoVectors(ValueError):
    """What is there cannot be read as vectors."""


def _json(file: Path) -> Json:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise NoVectors(f"{file} cannot be read: {error}") from error


def _cases_of(file: Path, content: Document, decks: dict[str, list[Json]]) -> list[Case]:
    try:
        return cases(file.name, content, decks)
    except (AttributeError, KeyError, TypeError) as error:  # of another form, or with a deck that there is not
        raise NoVectors(f"{file} holds no vectors that can be read: {type(error).__name__}: {error}") from error


def main(arguments: list[str]) -> int:
    """Run a folder; the exit code."""
    files = sorted(Path(arguments[0]).glob("*.json")) if len(arguments) == 1 else []
    files = [file for file in files if file.name != "decks.json"]
    if not files:
        return _cannot("usage: python -m hybrid_compute.tabletop.vectors DIR, a folder with vectors in it")
    try:
        decks = _json(files[0].parent / "decks.json")
        found = {file.name: list(verdicts(file, decks)) for file in files}
    except NoVectors as error:
        return _cannot(str(error))
    sys.stdout.write("\n".join(report(found)) + "\n")
    came = {verdict.what for each in found.values() for verdict in each}
    if came <= {"skipped"}:
        return _cannot(f"nothing in {arguments[0]} could be compared")
    return 1 if "failed" in came else 0


def _cannot(why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return 2


def report(found: dict[str, list[Verdict]]) -> Iterator[str]:
    """A line for each file, one for all, and two for each failure."""
    everything = [verdict for verdicts in found.values() for verdict in verdicts]
    for name, verdicts in [*found.items(), ("all", everything)]:
        counts = Counter(verdict.what for verdict in verdicts)
        yield (
            f"{name:14} {counts['passed']:4} passed {counts['failed']:4} failed "
            f"{counts['differs']:4} answered differently {counts['skipped']:4} skipped"
        )
    for verdict in everything:
        if verdict.what == "failed":
            yield f"FAILED {verdict.place}\n    {verdict.text}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
