"""Schemas from type hints: what a task takes and gives, checked where a call enters from outside.

    at the place   JSON or plain values ── bind_json, bind_value ───────────────> (args, kwargs)
                   a result             ── encode_json ─────────────────────────> JSON
    at the caller  (args, kwargs)       ── as_input ────────────────────────────> plain values
                   JSON or plain values ── result_from_json, result_from_value ─> a result

A task with one parameter takes the input as that value; with several, an object of keyword arguments; with none,
null. `*args` is a list: the whole input where it is the only parameter, else the field of its name. `**kwargs` are
the fields that no other parameter has. An input that is missing altogether leaves every default as it is.

Some callers know nothing but objects of named arguments, tools of language models for one. For them `object_schema`,
`bind_object` and `as_object` do the same with an object, however many parameters there are.

msgspec does the work, here and in `links/wire.py`. Of what it cannot describe (arrays, files, functions) only
ready-made instances are taken, and the JSON Schema says nothing but the name.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import os
import sys
import typing
from collections import OrderedDict
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from inspect import BoundArguments, Parameter, Signature
from pathlib import PurePath
from types import GenericAlias, UnionType
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET

from hybrid_compute.errors import InvalidInput, NotTransferable
from hybrid_compute.hints import endless, unaliased
from hybrid_compute.tasks import AnyTask, PerTask

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


def input_type(task: AnyTask) -> Any:
    """The type of the one value that a task takes: a `msgspec.Struct` where it has several parameters."""
    return _plans[task].input


def output_type(task: AnyTask) -> Any:
    """The type of what a task returns; of its items, if it is a generator."""
    return _plans[task].output


def json_schema(task: AnyTask) -> dict[str, dict[str, Any]]:
    """JSON Schema (2020-12) of a task's `input` and `output`, each complete in itself.

    >>> json_schema(double)
    {'input': {'type': 'integer'}, 'output': {'type': 'integer'}}
    """
    plan = _plans[task]
    return {"input": plan.describe(), "output": _describe(plan.returned)}


def bind_json(task: AnyTask, data: bytes | bytearray | memoryview) -> Arguments:
    """`(args, kwargs)` for a call whose input is this JSON; no bytes at all are a missing input.

    Raises `InvalidInput`, naming the path to what does not fit.

        >>> bind_json(add, b'{"a": 1, "b": 2}')
        ((1, 2), {})
    """
    plan = _plans.known.get(id(task)) or _plans[task]
    try:
        if not data:
            return plan.without_input()
        return plan.spread(plan.decoder.decode(data), lambda: msgspec.json.decode(data))
    except _FAULTS as error:
        raise _invalid(task, error) from error


def bind_value(task: AnyTask, value: Any = UNSET) -> Arguments:
    """`(args, kwargs)` for a call whose input is this value, made of what JSON is made of or of the real types.

    Raises `InvalidInput`, naming the path to what does not fit.
    """
    plan = _plans[task]
    try:
        if value is UNSET:
            return plan.without_input()
        return plan.spread(_convert(value, plan.expected), lambda: value)
    except _FAULTS as error:
        raise _invalid(task, error) from error


def as_input(task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The one value that stands for these arguments: what `bind_value` makes them of; UNSET if there are none.

    Raises `InvalidInput` if the task does not take such arguments.
    """
    if not args and not kwargs:
        return UNSET
    plan = _plans.known.get(id(task)) or _plans[task]
    if plan.plain and not kwargs and len(args) == len(plan.names):
        return dict(zip(plan.names, args, strict=True)) if plan.is_object else args[0]
    given = plan.by_name(task, args, kwargs)
    return given if plan.is_object else next(iter(given.values()))


def object_schema(task: AnyTask) -> dict[str, dict[str, Any]]:
    """The same as `json_schema`, for who knows nothing but objects: arguments by name, the output as `result`.

    A generator's output is the list of its items.

        >>> object_schema(double)["input"]
        {'type': 'object', 'properties': {'x': {'type': 'integer'}}, 'required': ['x'], 'additionalProperties': False}
    """
    plan = _plans[task]
    output = GenericAlias(list, (plan.returned,)) if task.streams else plan.returned
    return {"input": plan.describe_object(), "output": _object({"result": _describe(output)}, ["result"])}


def bind_object(task: AnyTask, fields: Mapping[str, Any]) -> Arguments:
    """`(args, kwargs)` for a call whose arguments are given by name, even if there is but one.

    Raises `InvalidInput`, naming the path to what does not fit.
    """
    plan = _plans[task]
    try:
        if plan.is_object:
            return plan.spread(_convert(fields, plan.expected), lambda: fields)
        only = plan.only
        if unknown := [name for name in fields if only is None or name != only.name]:
            raise msgspec.ValidationError(f"Object contains unknown field `{unknown[0]}`")
        if only is None:
            return (), {}
        if only.name in fields:
            return plan.spread(_convert(fields[only.name], plan.expected, f".{only.name}"), dict)
        if _is_required(only):
            raise msgspec.ValidationError(f"Object missing required field `{only.name}`")
        return (), {}
    except _FAULTS as error:
        raise _invalid(task, error) from error


def as_object(task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name: what `bind_object` makes them of.

    Raises `InvalidInput` if the task does not take such arguments.
    """
    return _plans[task].by_name(task, args, kwargs)


def result_from_json(task: AnyTask, data: bytes) -> Any:
    """A result of the task, from JSON. Raises `InvalidInput` or an error of msgspec if it is none."""
    return msgspec.json.decode(data, type=_plans[task].returned, dec_hook=_accept)


def result_from_value(task: AnyTask, value: Any) -> Any:
    """A result of the task, from plain values. Raises `InvalidInput` or an error of msgspec if it is none."""
    returned = _plans[task].returned
    return value if returned is Any else _convert(value, returned)


def encode_json(value: Any) -> bytes:
    """A result as JSON: bytes as base64, arrays as lists, paths as text.

    Raises `NotTransferable`, naming the path to what JSON cannot say; NaN and the infinities are such values.
    """
    try:
        data = _encoder.encode(value)
        if b"null" in data:  # which is also how msgspec writes a number that is none
            _insist_on_numbers(value)
        return data
    except NotTransferable:
        raise
    except RecursionError as error:
        raise NotTransferable("a value nested without end cannot be JSON") from error
    except (TypeError, ValueError, OverflowError) as error:
        path, culprit = _find_culprit(value)
        where = f"{path or 'the value'} is of type {type(culprit).__name__} and cannot be JSON"
        raise NotTransferable(f"{where}: {error}") from error


@dataclass(frozen=True)
class _Plan:
    """How the input of one task becomes its arguments."""

    signature: Signature
    input: Any
    output: Any
    expected: Any  # the input type as msgspec can take it
    returned: Any  # the output type as msgspec can take it
    decoder: msgspec.json.Decoder[Any]
    several: bool
    extra: Any  # the type of `**kwargs` beside other parameters, or UNSET
    names: tuple[str, ...]
    plain: bool  # all parameters can go by position, and none takes more than one argument

    def spread(self, value: Any, fields: Callable[[], Any]) -> Arguments:
        """The arguments for a validated input; `fields` gives the raw input again, for the sake of `**kwargs`."""
        parameters = self.signature.parameters
        if not self.several:
            if self.plain:
                return (value,), {}
            return self._bound(dict.fromkeys(parameters, value))
        known: tuple[str, ...] = value.__struct_fields__
        given = {name: found for name in known if (found := getattr(value, name)) is not UNSET}
        if self.plain and len(given) == len(parameters):
            return tuple(given.values()), {}
        if self.extra is not UNSET:
            others = {name: each for name, each in fields().items() if name not in known}
            last = next(reversed(parameters))
            given[last] = {name: _convert(each, self.extra, f".{name}") for name, each in others.items()}
        return self._bound(given)

    def without_input(self) -> Arguments:
        """The arguments for an input that is missing: an empty object, the default of the one parameter, or null."""
        if self.several:
            return self.spread(_convert({}, self.expected), dict)
        parameters = self.signature.parameters.values()
        if all(each.default is not Parameter.empty or each.kind in _VARIADIC for each in parameters):
            return (), {}
        return self.spread(_convert(None, self.expected), dict)

    def _bound(self, given: dict[str, Any]) -> Arguments:
        # What can only go by position needs all before it, also those that were left out.
        positional = list(itertools.takewhile(_is_positional, self.signature.parameters.values()))
        while positional and (positional[-1].name not in given or positional[-1].kind is _EITHER):
            positional.pop()
        for each in positional[:-1]:
            given.setdefault(each.name, each.default)
        bound = BoundArguments(self.signature, OrderedDict(given))
        return bound.args, bound.kwargs

    @cached_property
    def only(self) -> Parameter | None:
        """The one parameter, if there is but one."""
        return next(iter(self.signature.parameters.values()), None) if not self.several else None

    @cached_property
    def is_object(self) -> bool:
        """Whether the input is an object of arguments as it is: by name, or `**kwargs`."""
        return self.several or (self.only is not None and self.only.kind is Parameter.VAR_KEYWORD)

    def by_name(self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            given = dict(self.signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise InvalidInput(f"task {task.name!r} does not take these arguments: {error}") from error
        for last in list(self.signature.parameters.values())[-1:]:
            if last.kind is Parameter.VAR_KEYWORD:
                given.update(given.pop(last.name, {}))
        return given

    def describe_object(self) -> dict[str, Any]:
        if self.is_object:
            return self.describe()
        only = self.only
        if only is None:
            return _object({}, [])
        described = self.describe()
        if only.default is not Parameter.empty:
            _add_default(described, only.default)
        return _object({only.name: described}, [only.name] if _is_required(only) else [])

    def describe(self) -> dict[str, Any]:
        if not self.several:
            return _describe(self.expected)
        types = [self.expected] if self.extra is UNSET else [self.expected, self.extra]
        (reference, *extra), named = msgspec.json.schema_components(types, schema_hook=_describe_custom)
        schema: dict[str, Any] = named.pop(reference["$ref"].rpartition("/")[2])
        if extra:
            schema["additionalProperties"] = extra[0]
        for name, each in schema["properties"].items():
            default = self.signature.parameters[name].default
            if default is not Parameter.empty:
                _add_default(each, default)
        if named:
            schema["$defs"] = named
        return schema


_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_EITHER = Parameter.POSITIONAL_OR_KEYWORD


def _is_required(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty and parameter.kind not in _VARIADIC


def _is_positional(parameter: Parameter) -> bool:
    return parameter.kind <= Parameter.VAR_POSITIONAL


def _plan(task: AnyTask) -> _Plan:
    signature, hints = _signature(task)
    parameters = list(signature.parameters.values())
    output = hints.get("return", Any)
    if task.streams:
        output = _item_of(output)
    elif output is None:
        output = type(None)
    extra: Any = UNSET
    if not parameters:
        wanted: Any = type(None)
    elif len(parameters) == 1:
        wanted = _type_of(parameters[0], hints)
    else:
        if parameters[-1].kind is Parameter.VAR_KEYWORD:
            extra = _known(hints.get(parameters[-1].name, Any))
        named = parameters if extra is UNSET else parameters[:-1]
        wanted = _struct(task.name, named, hints, forbid_unknown=extra is UNSET)
    expected = _known(wanted)
    return _Plan(
        signature,
        wanted,
        output,
        expected,
        _known(output),
        msgspec.json.Decoder(expected, dec_hook=_accept),
        several=len(parameters) > 1,
        extra=extra,
        names=tuple(signature.parameters),
        plain=bool(parameters) and all(each.kind <= Parameter.POSITIONAL_OR_KEYWORD for each in parameters),
    )


_plans = PerTask(_plan)


def _signature(task: AnyTask) -> tuple[Signature, dict[str, Any]]:
    """The parameters of a task, and its resolved hints by name."""
    fn: Any = task.fn
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError) as error:
        raise TypeError(f"task {task.name!r} ({task.where}) has no signature to make a schema of: {error}") from error
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    if isinstance(fn, type):
        return signature, {**_hints(vars(fn).get("__init__", fn), task), "return": fn}
    return signature, _hints(fn if inspect.isroutine(fn) else type(fn).__call__, task)


def _hints(fn: Any, task: AnyTask) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(fn, include_extras=True)
        without_end = {name: alias for name, hint in hints.items() if (alias := endless(hint)) is not None}
    except Exception as error:  # a hint in quotes is code, which may fail in any way
        raise TypeError(
            f"the type hints of task {task.name!r} ({task.where}) cannot be resolved: {error}; "
            f"every name in them must exist at the top of the module when the program runs"
        ) from error
    for name, alias in without_end.items():
        raise TypeError(f"the type hint of {name!r} of task {task.name!r} ({task.where}) has no end: {_circle(alias)}")
    # The numbers of kernels are classes that stand for others, as a `NewType` does.
    return {name: getattr(unaliased(hint), "__supertype__", unaliased(hint)) for name, hint in hints.items()}


def _circle(hint: Any) -> str:
    return f"the type {_name(hint)} speaks of itself, which only a class may do, as a dataclass does in its fields"


def _struct(name: str, parameters: list[Parameter], hints: dict[str, Any], *, forbid_unknown: bool) -> Any:
    """Fields of the parameters' names and types. What may be left out is then UNSET: the task has its own default."""
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for each in parameters:
        wanted = _known(_type_of(each, hints))
        if each.default is Parameter.empty and each.kind is not Parameter.VAR_POSITIONAL:
            fields.append((each.name, wanted))
        else:
            fields.append((each.name, wanted, UNSET))
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=forbid_unknown, module=__name__)


def _type_of(parameter: Parameter, hints: dict[str, Any]) -> Any:
    hint = hints.get(parameter.name, Any)
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return GenericAlias(list, hint)
    if parameter.kind is Parameter.VAR_KEYWORD:
        return GenericAlias(dict, (str, hint))
    return hint


def _item_of(hint: Any) -> Any:
    """The type of the items of an iterator."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    iterates = isinstance(origin, type) and issubclass(origin, Iterable | AsyncIterable)
    return args[0] if iterates and args else Any


# Types beyond msgspec.


def _known(hint: Any) -> Any:
    """The hint itself where msgspec takes it; else as much of it as can be said in its terms."""
    hint = unaliased(hint)
    if hint is object:
        return Any
    if typing.get_origin(hint) is Iterable:
        return _known(GenericAlias(list, typing.get_args(hint)))
    try:
        msgspec.json.Decoder(hint)
    except (TypeError, ValueError):
        return _nearest(hint)
    except RecursionError as error:  # out of the fields of a class
        raise TypeError(f"a type within {_name(hint)} speaks of itself without a class between") from error
    return hint


def _nearest(hint: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(origin, type) and args and origin is not UnionType:
        try:
            rebuilt = GenericAlias(origin, tuple(map(_known, args)))
            msgspec.json.Decoder(rebuilt)
            return rebuilt
        except (TypeError, ValueError):
            pass
    return _Opaque(_name(hint), (), {"hint": hint})


class _Opaque(type):
    """A hint that msgspec refuses, made a class that it hands to us. Any value may be an instance: we look at it."""

    hint: Any

    def __instancecheck__(cls, value: object) -> bool:
        return True


def _accept(wanted: Any, value: Any) -> Any:
    """Let a value through where msgspec itself does not know the type. Raises `TypeError` if it does not fit."""
    hint = wanted.hint if isinstance(wanted, _Opaque) else wanted
    origin = typing.get_origin(hint) or hint
    if origin in (typing.Union, UnionType):
        return _first_fitting(hint, value)
    if not isinstance(origin, type) or isinstance(value, origin):
        return value
    if issubclass(origin, Enum) or (issubclass(origin, PurePath) and isinstance(value, str)):
        return origin(value)
    if _is_array(origin) and isinstance(value, list):
        return _array(value)
    raise TypeError(f"Expected `{_name(hint)}`, which JSON cannot give, got `{type(value).__name__}`")


def _is_array(kind: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and kind is numpy.ndarray


def _array(value: list[Any]) -> Any:
    """The array of these numbers. Raises `TypeError` if they are none, or make no rectangle."""
    import numpy as np

    try:
        array = np.array(value)
    except (ValueError, OverflowError) as error:
        raise TypeError(f"Expected an array of numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        raise TypeError("Expected an array of numbers, got a list of something else")
    return array


def _first_fitting(union: Any, value: Any) -> Any:
    for member in typing.get_args(union):
        try:
            return _convert(value, _known(member))
        except msgspec.ValidationError:
            continue
    raise TypeError(f"Expected `{_name(union)}`, got `{type(value).__name__}`")


def _convert(value: Any, wanted: Any, path: str = "") -> Any:
    """`value` as the wanted type; `path` is where it lies in the input."""
    try:
        return msgspec.convert(value, wanted, dec_hook=_accept, str_keys=True)
    except msgspec.ValidationError as error:
        if not path:
            raise
        reason, at, where = str(error).rpartition(" - at `$")
        raise msgspec.ValidationError(f"{reason if at else where} - at `${path}{where if at else '`'}") from error


def _describe(wanted: Any) -> dict[str, Any]:
    return msgspec.json.schema(wanted, schema_hook=_describe_custom)


def _object(properties: dict[str, dict[str, Any]], required: list[str]) -> dict[str, Any]:
    """The schema of an object that has these properties and no others, with all that they define at its top."""
    defined: dict[str, Any] = {}
    for each in properties.values():
        defined |= each.pop("$defs", {})
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    return {**schema, "additionalProperties": False, **({"$defs": defined} if defined else {})}


def _describe_custom(wanted: Any) -> dict[str, Any]:
    hint = wanted.hint if isinstance(wanted, _Opaque) else wanted
    if isinstance(hint, type) and issubclass(hint, PurePath):
        return {"type": "string", "format": "path"}
    if _is_array(typing.get_origin(hint) or hint):
        return {"type": "array", "description": _name(hint)}
    return {"description": _name(hint)}


def _add_default(schema: dict[str, Any], default: Any) -> None:
    try:
        _insist_on_numbers(default)
        schema["default"] = _plain(default)
    except (NotTransferable, TypeError, ValueError, RecursionError):
        pass  # a default that JSON cannot say is still one: the field is not required


def _name(hint: Any) -> str:
    return inspect.formatannotation(hint)


def as_plain(value: Any) -> Any:
    """What msgspec cannot encode, as something that it can. Raises `TypeError` if there is nothing."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownVariableType]
    to_list = getattr(value, "tolist", None)  # arrays and their scalars, whatever the library
    if callable(to_list):
        return to_list()
    raise TypeError(f"JSON has no form for {_name(type(value))}")


_encoder = msgspec.json.Encoder(enc_hook=as_plain)


def _plain(value: Any) -> Any:
    """The value as JSON would have it, in lists, dicts, texts and numbers."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=as_plain)


def _insist_on_numbers(value: Any) -> None:
    """Raise `NotTransferable` if there is a NaN or an infinity in it."""
    parts = [("", _plain(value))]
    for path, part in parts:  # which grows meanwhile, so that no depth is too deep
        if isinstance(part, float) and not math.isfinite(part):
            raise NotTransferable(f"{path or 'the value'} is {part} and cannot be JSON, which has no such number")
        parts += ((path + step, child) for step, child in _children(part))


def _find_culprit(value: Any, path: str = "") -> tuple[str, Any]:
    """The path to the innermost value that JSON cannot say, and that value."""
    for step, child in _children(value):
        try:
            _encoder.encode(child)
        except (TypeError, ValueError, OverflowError):
            return _find_culprit(child, path + step)
    return path, value


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", each) for key, each in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", each) for index, each in enumerate(value))
    elif hasattr(value, "__struct_fields__"):
        yield from ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from ((f".{name}", each) for name, each in vars(value).items())


_FAULTS = (RecursionError, UnicodeError, OverflowError, msgspec.MsgspecError)
"""All the ways in which msgspec says no."""


def _invalid(task: AnyTask, error: Exception) -> InvalidInput:
    if isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    elif isinstance(error, UnicodeError):
        reason = f"it is not UTF-8: {error}"
    else:
        reason = str(error)
    return InvalidInput(f"the input of task {task.name!r} is not valid: {reason}")
