"""From a type hint and a type of WIT to how values cross, or to what is wrong with the two."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec
from wasmtime import component as w

from hybrid_compute.errors import InvalidInput
from hybrid_compute.hints import bare
from hybrid_compute.wasm.components import compound, shapes
from hybrid_compute.wasm.components.shapes import Scalar, Shape

_SCALARS: dict[type[w.ValType], Scalar] = {
    w.Bool: Scalar("bool", "boolean", "?", bool),
    w.S8: Scalar("s8", "s8", "b", int),
    w.U8: Scalar("u8", "u8", "B", int),
    w.S16: Scalar("s16", "s16", "h", int),
    w.U16: Scalar("u16", "u16", "H", int),
    w.S32: Scalar("s32", "s32", "i", int),
    w.U32: Scalar("u32", "u32", "I", int),
    w.S64: Scalar("s64", "s64", "q", int),
    w.U64: Scalar("u64", "u64", "Q", int),
    w.F32: Scalar("f32", "f32", "f", float),
    w.F64: Scalar("f64", "f64", "d", float),
}


def shape_of(hint: Any, wit: w.ValType, where: str) -> Shape:
    """How values cross that are `hint` here and `wit` there. Raises `InvalidInput` where the two do not agree."""
    hint = bare(hint)
    scalar = _SCALARS.get(type(wit))
    if scalar is not None:
        return scalar if hint is scalar.type else _refuse(hint, wit, where)
    match wit:
        case w.String() if hint is str:
            return shapes.Text()
        case w.Char() if hint is str:
            return shapes.Char()
        case w.ListType():
            return _list(hint, wit, where)
        case w.TupleType() if typing.get_origin(hint) is tuple and len(typing.get_args(hint)) == len(wit.elements):
            pairs = enumerate(zip(typing.get_args(hint), wit.elements, strict=True))
            return compound.Tupled([shape_of(mine, theirs, f"{where}[{index}]") for index, (mine, theirs) in pairs])
        case w.RecordType():
            return _record(hint, wit, where)
        case w.OptionType() if (some := _without_none(hint)) is not None:
            return compound.Optional(shape_of(some, wit.payload, where))
        case w.EnumType():
            return compound.Chosen(_chosen(hint, wit, where))
        case w.FlagsType() if typing.get_origin(hint) is set and typing.get_args(hint) == (str,):
            return compound.Flags(wit.names)
        case _:
            _refuse(hint, wit, where)


def shape_of_result(hint: Any, wit: w.ValType | None, where: str) -> Shape | None:
    """The same for what a function gives, which may be nothing, or an error."""
    hint = bare(hint)
    none = hint is None or hint is type(None)
    if isinstance(wit, w.ResultType):
        ok = shape_of_result(hint, wit.ok, where)
        return compound.Outcome(
            ok, None if wit.err is None else shape_of(_plain(wit.err), wit.err, f"{where}, its error")
        )
    if wit is None:
        return None if none else _refuse(hint, wit, where)
    return shape_of(hint, wit, where)


def _list(hint: Any, wit: w.ListType, where: str) -> Shape:
    if hint is bytes and isinstance(wit.element, w.U8):
        return shapes.Octets()
    if typing.get_origin(hint) not in (list, Sequence):
        _refuse(hint, wit, where)
    element = shape_of(typing.get_args(hint)[0], wit.element, f"{where}[...]")
    return shapes.Scalars(element) if isinstance(element, Scalar) else compound.Listed(element)


def _record(hint: Any, wit: w.RecordType, where: str) -> Shape:
    fields = _fields(hint)
    if fields is None:
        _refuse(hint, wit, where)
    theirs = {name.replace("-", "_"): (name, type) for name, type in wit.fields}
    if fields.keys() != theirs.keys():
        raise InvalidInput(
            f"{where}: {hint.__name__} has the fields {', '.join(fields)}, and the record {', '.join(theirs)}"
        )
    crossing = [(name, ours, shape_of(fields[ours], type, f"{where}.{ours}")) for ours, (name, type) in theirs.items()]
    return compound.Recorded(hint, hint.__name__, crossing)


def _fields(hint: Any) -> Mapping[str, Any] | None:
    """The fields of a class that has some, with their hints."""
    if not isinstance(hint, type):
        return None
    if dataclasses.is_dataclass(hint):
        names = [field.name for field in dataclasses.fields(hint)]
    elif issubclass(hint, msgspec.Struct):
        names = list(hint.__struct_fields__)
    else:
        return None
    hints = typing.get_type_hints(hint)
    return {name: hints[name] for name in names}


def _chosen(hint: Any, wit: w.EnumType, where: str) -> dict[str, Any]:
    """What stands for each name of an enum here."""
    if typing.get_origin(hint) is typing.Literal:
        given: dict[Any, Any] = {each: each for each in typing.get_args(hint)}
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        given = {each.value: each for each in hint}
    elif hint is str:
        return {name: name for name in wit.names}
    else:
        _refuse(hint, wit, where)
    known = {str(name).replace("_", "-"): value for name, value in given.items()}
    if known.keys() != set(wit.names):
        raise InvalidInput(f"{where}: the enum has {', '.join(wit.names)}, and its hint {', '.join(known)}")
    return known


def _without_none(hint: Any) -> Any:
    """The type T of `T | None`; None for other hints."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return None
    rest = [each for each in typing.get_args(hint) if each is not type(None)]
    return rest[0] if len(rest) == 1 and len(rest) < len(typing.get_args(hint)) else None


def _plain(wit: w.ValType) -> Any:
    """A hint for a type of WIT, where there is no stub to say one: records become dataclasses."""
    match wit:
        case w.ListType():
            return bytes if isinstance(wit.element, w.U8) else list[_plain(wit.element)]  # type: ignore[misc]
        case w.TupleType():
            return tuple[tuple(map(_plain, wit.elements))]  # type: ignore[misc]
        case w.OptionType():
            return _plain(wit.payload) | None
        case w.FlagsType():
            return set[str]
        case w.RecordType():
            fields = [(name.replace("-", "_"), _plain(type)) for name, type in wit.fields]
            return dataclasses.make_dataclass("Record", fields, frozen=True)
        case _:
            scalar = _SCALARS.get(type(wit))
            return scalar.type if scalar is not None else str


def _refuse(hint: Any, wit: w.ValType | None, where: str) -> NoReturn:
    shown = getattr(hint, "__name__", None) if isinstance(hint, type) else None
    kind = "nothing" if wit is None else type(wit).__name__.removesuffix("Type").lower()
    raise InvalidInput(f"{where} is declared as {shown or hint}, and the component has {kind} there")
