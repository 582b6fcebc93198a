"""Tasks that stand for the tools of an MCP server: what its schema says of parameters and types, and no code."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, Final, NoReturn

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.tasks import AnyTask, Task

if TYPE_CHECKING:
    from mcp_types import Tool

_REST: Final = "other_arguments"

_HINTS: Final[Mapping[str, Any]] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list[Any],
    "object": dict[str, Any],
}


def task_for(tool: Tool, backend: str, server: str) -> AnyTask:
    """A task that stands for a tool: parameters and types as its schema says, and no code."""

    def stub(*_args: Any, **_kwargs: Any) -> NoReturn:
        reason = f"tool {tool.name!r} runs at {server} alone: call it through a runtime that has it"
        raise BackendUnavailable(reason, backend=backend)

    signature = _signature(tool.input_schema)
    stub.__name__ = stub.__qualname__ = tool.name
    stub.__doc__ = tool.description
    stub.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()} | {"return": Any}
    stub.__dict__["__signature__"] = signature
    hints = tool.annotations
    pure = hints is not None and bool(hints.read_only_hint or hints.idempotent_hint)
    return Task(stub, name=tool.name, pure=pure, needs={backend})


def _signature(schema: Mapping[str, Any]) -> Signature:
    """The parameters that such arguments have: what is required first; what Python cannot name is left to `**`."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    required = set(schema.get("required", ()))
    named = [name for name in properties if name.isidentifier() and not keyword.iskeyword(name) and name != _REST]
    parameters = [
        Parameter(
            name,
            Parameter.POSITIONAL_OR_KEYWORD,
            annotation=_hint(properties[name]),
            default=Parameter.empty if name in required else ...,  # the server knows its default
        )
        for name in sorted(named, key=lambda name: name not in required)
    ]
    if len(named) < len(properties) or schema.get("additionalProperties", True) is not False:
        parameters.append(Parameter(_REST, Parameter.VAR_KEYWORD, annotation=Any))
    return Signature(parameters)


def _hint(schema: Any) -> Any:
    """The type that a simple schema stands for; Any for the others, which the server checks."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    return _HINTS.get(kind, Any) if isinstance(kind, str) else Any
