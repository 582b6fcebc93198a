"""The tasks of a server as an OpenAPI 3.1 document, made of their type hints; that says what each takes and gives.

OpenAPI 3.1 takes JSON Schema 2020-12 as it is, so the schemas go in unchanged. A schema complete in itself keeps its
definitions inside; they are moved to `components`, where the tools look for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from hybrid_compute.schema import json_schema
from hybrid_compute.server.refusals import STATUS
from hybrid_compute.tasks import AnyTask


def describe(tasks: Mapping[str, AnyTask], *, title: str, version: str, prefix: str, tokens: bool) -> dict[str, Any]:
    """The document for these tasks."""
    schemas: dict[str, Any] = {"Failure": _FAILURE}
    paths = {f"{prefix}/tasks/{name}": {"post": _operation(task, schemas)} for name, task in sorted(tasks.items())}
    paths[f"{prefix}/compute"] = {"post": _compute(sorted(tasks))}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": schemas, "responses": {"Failure": _failure_response()}},
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


def _operation(task: AnyTask, schemas: dict[str, Any]) -> dict[str, Any]:
    """`POST /tasks/NAME`: the input as the body."""
    both = json_schema(task)
    given, gives = _at_home(both["input"], task.name, schemas), _at_home(both["output"], task.name, schemas)
    result: dict[str, Any] = {"type": "array", "items": gives} if task.streams else gives
    answer: dict[str, Any] = {
        "application/json": {"schema": {"type": "object", "properties": {"result": result}, "required": ["result"]}}
    }
    if task.streams:
        answer["application/x-ndjson"] = {"schema": {"type": "string"}}
        answer["text/event-stream"] = {"schema": {"type": "string"}}
    summary, _, rest = _text_of(task).partition("\n")
    return {
        "operationId": task.name,
        "summary": summary,
        "description": rest.strip(),
        "requestBody": {"content": {"application/json": {"schema": given}}, "required": _needs_input(both["input"])},
        "responses": {
            "200": {"description": "The result of the task.", "content": answer},
            "default": {"$ref": "#/components/responses/Failure"},
        },
    }


def _compute(names: list[str]) -> dict[str, Any]:
    """`POST /compute`: one call, or a list of them."""
    call = {
        "type": "object",
        "properties": {
            "task": {"type": "string", "enum": names} if names else {"type": "string"},
            "input": {},
            "timeout": {"type": ["number", "null"], "exclusiveMinimum": 0},
            "key": {"type": ["string", "null"]},
        },
        "required": ["task"],
    }
    answer = {"type": "object", "properties": {"result": {}, "error": {"type": "string"}, "code": {"type": "string"}}}
    return {
        "operationId": "compute",
        "summary": "Run a task, or a list of them.",
        "requestBody": {
            "content": {"application/json": {"schema": {"oneOf": [call, {"type": "array", "items": call}]}}},
            "required": True,
        },
        "responses": {
            "200": {
                "description": "The result; for a list, a list of results and errors in the same order.",
                "content": {"application/json": {"schema": {"oneOf": [answer, {"type": "array", "items": answer}]}}},
            },
            "default": {"$ref": "#/components/responses/Failure"},
        },
    }


def _needs_input(schema: Mapping[str, Any]) -> bool:
    """Whether a call without a body cannot be right."""
    if schema.get("type") == "object" and "properties" in schema:
        return bool(schema.get("required"))
    return schema.get("type") != "null" and "default" not in schema


def _at_home(schema: Any, task: str, schemas: dict[str, Any]) -> Any:
    """The schema with its definitions moved to `schemas`, under names of this task where two tasks differ."""
    moved = dict(schema)
    names: dict[str, str] = {}
    definitions: Mapping[str, Any] = moved.pop("$defs", {})
    for name, each in definitions.items():
        clean = "".join(char if char.isalnum() or char in "._-" else "_" for char in name)
        names[name] = clean if schemas.get(clean, each) == each else f"{task}.{clean}"
    for name, each in definitions.items():
        schemas[names[name]] = _renamed(each, names)
    return _renamed(moved, names)


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    """The schema with its references led to their new places."""
    if isinstance(schema, list):
        return [_renamed(each, names) for each in schema]
    if not isinstance(schema, dict):
        return schema
    target = schema.get("$ref")
    if isinstance(target, str):
        return {**schema, "$ref": f"#/components/schemas/{names[target.rpartition('/')[2]]}"}
    return {key: _renamed(each, names) for key, each in schema.items()}


def _failure_response() -> dict[str, Any]:
    return {
        "description": "What went wrong: a text for people, a code for programs.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}},
    }


_FAILURE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "error": {"type": "string", "minLength": 1},
        "code": {"type": "string", "examples": sorted(STATUS)},
        "details": {"type": "object"},
    },
    "required": ["error", "code"],
}


def _text_of(task: AnyTask) -> str:
    return inspect.getdoc(task.fn) or ""
