"""The tasks of a server as an OpenAPI 3.1 document, made of their type hints; that says what each takes and gives.

OpenAPI 3.1 takes JSON Schema 2020-12 as it is, so the schemas go in unchanged. A schema complete in itself keeps its
definitions inside; they are moved to `components`, where the tools look for them.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Final
from urllib.parse import quote

from hybrid_compute.schema import json_schema
from hybrid_compute.server.refusals import STATUS
from hybrid_compute.tasks import AnyTask


def describe(tasks: Mapping[str, AnyTask], *, title: str, version: str, prefix: str, tokens: bool) -> dict[str, Any]:
    """The document for these tasks, served below `prefix`."""
    shelf = Shelf({"Result": _RESULT, "Failure": _FAILURE})
    paths = {f"/tasks/{quote(name)}": {"post": _operation(task, shelf)} for name, task in sorted(tasks.items())}
    paths["/compute"] = {"post": _compute(sorted(tasks))}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "servers": [{"url": prefix or "/"}],
        "paths": paths,
        "components": {"schemas": shelf.schemas, "responses": _REFUSALS, "parameters": _HEADERS},
    }
    if tokens:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def listing(tasks: Mapping[str, AnyTask]) -> list[dict[str, Any]]:
    """The tasks as `GET /tasks` tells of them."""
    return [
        {
            "name": name,
            "kind": task.kind,
            "pure": task.pure,
            "private": task.private,
            "timeout": task.timeout,
            "description": _text_of(task),
            **json_schema(task),
        }
        for name, task in sorted(tasks.items())
    ]


def _operation(task: AnyTask, shelf: Shelf) -> dict[str, Any]:
    """`POST /tasks/NAME`: the input as the body."""
    both = json_schema(task)
    given, gives = shelf.take(both["input"], task.name), shelf.take(both["output"], task.name)
    result: dict[str, Any] = {"type": "array", "items": gives} if task.streams else gives
    answer = {"type": "object", "properties": {"result": result}, "required": ["result"]}
    summary, _, rest = _text_of(task).partition("\n")
    return {
        "operationId": task.name,
        "summary": summary,
        "description": rest.strip(),
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in _HEADERS],
        # Required even where all parameters have defaults: a request without a body has no content type either, and
        # is refused for that.
        "requestBody": {"content": {"application/json": {"schema": given}}, "required": True},
        "responses": {
            "200": {"description": "The result of the task.", "content": _content(answer, streams=task.streams)},
            **_refusals(),
        },
    }


def _compute(names: list[str]) -> dict[str, Any]:
    """`POST /compute`: one call, or a list of them."""
    call = {
        "type": "object",
        "properties": {
            "task": {"type": "string", "enum": names} if names else {"type": "string"},
            "input": {"description": "What the task takes; left out, every default stays as it is."},
            "timeout": {"type": ["number", "null"], "exclusiveMinimum": 0, "description": "In seconds."},
            "key": {"type": ["string", "null"], "description": "Calls of one key are one call."},
            "stream": {"type": "boolean", "default": False, "description": "Items as they come. Not in a list."},
        },
        "required": ["task"],
    }
    result, failure = ({"$ref": f"#/components/schemas/{name}"} for name in ("Result", "Failure"))
    answer = {"oneOf": [result, {"type": "array", "items": {"oneOf": [result, failure]}}]}
    schema = {"oneOf": [call, {"type": "array", "items": call}]}
    return {
        "operationId": _free("compute", names),
        "summary": "Run a task, or a list of them.",
        "requestBody": {"content": {"application/json": {"schema": schema}}, "required": True},
        "responses": {
            "200": {
                "description": "The result; for a list, a list of results and errors in the same order.",
                "content": _content(answer, streams=True),
            },
            **_refusals(),
        },
    }


def _content(answer: dict[str, Any], *, streams: bool) -> dict[str, Any]:
    """An answer as a whole, and as a stream where there can be one."""
    whole = {"application/json": {"schema": answer}}
    return {**whole, **{kind: {"schema": {"type": "string"}} for kind in _STREAMS}} if streams else whole


_STREAMS: Final = ("application/x-ndjson", "text/event-stream")


def _free(name: str, taken: Iterable[str]) -> str:
    """The name, with as many underscores behind it as it takes to be the only one."""
    return _free(f"{name}_", taken) if name in taken else name


# What a schema defines.


class Shelf:
    """The definitions of all tasks, each under a name of its own; what two tasks share stands there once."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self.schemas = dict(schemas)
        self._places: dict[tuple[str, str], str] = {}

    def take(self, schema: Mapping[str, Any], task: str) -> Any:
        """The schema of a task, with its definitions moved here."""
        definitions: Mapping[str, Any] = schema.get("$defs", {})
        places = {_DEFINED + name: self._place(name, definitions, task) for name in definitions}
        for name, each in definitions.items():
            self.schemas[places[_DEFINED + name].removeprefix(_MOVED)] = _led(each, places)
        return _led({name: each for name, each in schema.items() if name != "$defs"}, places)

    def _place(self, name: str, definitions: Mapping[str, Any], task: str) -> str:
        """Where a definition goes: it is known already if all that it leads to is the same."""
        meaning = (name, json.dumps(_reached(name, definitions), sort_keys=True))
        if meaning not in self._places:
            free = next(each for each in _names(name, task) if each not in self.schemas)
            self.schemas[free] = None  # taken, until it is known what all its references lead to
            self._places[meaning] = _MOVED + free
        return self._places[meaning]


_DEFINED, _MOVED = "#/$defs/", "#/components/schemas/"


def _names(name: str, task: str) -> Iterator[str]:
    """Names for a definition, the nicest first."""
    plain, of_task = _plain(name), _plain(f"{task}.{name}")
    yield plain
    yield of_task
    yield from (f"{of_task}.{number}" for number in count(2))


def _plain(name: str) -> str:
    """The name in the letters that OpenAPI allows."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _reached(name: str, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """A definition, and all those that it leads to."""
    reached: dict[str, Any] = {}
    todo = [name]
    for each in todo:  # which grows meanwhile
        if each not in reached and each in definitions:
            reached[each] = definitions[each]
            todo += (text.removeprefix(_DEFINED) for text in _texts(definitions[each]) if text.startswith(_DEFINED))
    return reached


def _texts(schema: Any) -> Iterator[str]:
    if isinstance(schema, str):
        yield schema
    elif isinstance(schema, dict | list):
        for each in schema.values() if isinstance(schema, dict) else schema:
            yield from _texts(each)


def _led(schema: Any, places: Mapping[str, str]) -> Any:
    """The schema with its references led to their new places, also those that tell the members of a union apart."""
    if isinstance(schema, list):
        return [_led(each, places) for each in schema]
    if isinstance(schema, dict):
        return {name: _led(each, places) for name, each in schema.items()}
    return places.get(schema, schema) if isinstance(schema, str) else schema


# What is the same for all tasks.

_RESULT: Final = {"type": "object", "properties": {"result": {}}, "required": ["result"]}

_FAILURE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "error": {"type": "string", "minLength": 1, "description": "What went wrong, for people."},
        "code": {"type": "string", "examples": sorted(STATUS), "description": "The same, for programs."},
        "details": {"type": "object"},
    },
    "required": ["error", "code"],
    "examples": [
        {"error": "the input of task 'double' is not valid: Expected `int`, got `str`", "code": "invalid_input"}
    ],
}

_HEADERS: Final = {
    "Request-Timeout": {
        "name": "Request-Timeout",
        "in": "header",
        "description": "Seconds that the call may take from its arrival.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    },
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Calls of one key are one call: sent twice, it runs once.",
        "schema": {"type": "string", "minLength": 1},
    },
}


def _refused(status: int) -> dict[str, Any]:
    """The answer with this status: its description names the codes that come with it."""
    codes = sorted(code for code, each in STATUS.items() if each == status)
    answer: dict[str, Any] = {
        "description": ", ".join(f"`{code}`" for code in codes or _OUR_OWN),
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}},
    }
    if status in (429, 503):
        retry_after = {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}}
        answer["headers"] = {"Retry-After": retry_after}
    return answer


_OUR_OWN = ("internal_error", "not_transferable", "task_failed", "worker_lost")
_NEVER_HERE = (405, 499)  # another method is another address; who has gone hears nothing

_REFUSALS: Final = {f"Error{status}": _refused(status) for status in sorted({*STATUS.values(), 500} - {*_NEVER_HERE})}


def _refusals() -> dict[str, Any]:
    return {name.removeprefix("Error"): {"$ref": f"#/components/responses/{name}"} for name in _REFUSALS}


def _text_of(task: AnyTask) -> str:
    return inspect.getdoc(task.fn) or ""
