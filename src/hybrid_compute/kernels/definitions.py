"""What a `def` says of a kernel before its body is read, and what is found out about it after that."""

from __future__ import annotations

import ast

from hybrid_compute.kernels.ranges import nonnegative
from hybrid_compute.kernels.source import Source
from hybrid_compute.kernels.tree import Call, Function, Store, walk
from hybrid_compute.kernels.types import Scalar, Type, read_annotation


def signature(source: Source) -> Function:
    """What the `def` line says."""
    node, annotations = source.tree, source.annotations()
    arguments = node.args
    if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults:
        source.refuse(node, "a kernel has a fixed number of parameters, without defaults")
    parameters: dict[str, Type] = {}
    for argument in [*arguments.posonlyargs, *arguments.args]:
        if argument.arg not in annotations:
            source.refuse(argument, f"the parameter {argument.arg} has no annotation: write {argument.arg}: int, say")
        type = read_annotation(annotations[argument.arg])
        if type is None:
            source.refuse(
                argument,
                f"{ast.unparse(argument)} is no type of a kernel: those are int, float, bool, i32, f32, "
                f"and Array[...] and Array2[...] of numbers",
            )
        parameters[argument.arg] = type
    result = None
    if annotations.get("return") is not None:
        given = read_annotation(annotations["return"])
        if not isinstance(given, Scalar):
            source.refuse(node, "a kernel gives one number or nothing: arrays are parameters, which it fills")
        result = given
    scalars = {name: type for name, type in parameters.items() if isinstance(type, Scalar)}
    return Function(node.name, parameters, result, scalars, [], set(), [])


def finish(function: Function) -> None:
    """The body is there: tell what else follows from it."""
    function.written = written(function)
    function.nonnegative = nonnegative(function)


def written(function: Function) -> set[str]:
    """The array parameters that are stored into, also by kernels it calls, itself among them."""
    found = {each.array for each in walk(function.body) if isinstance(each, Store)}
    calls = [each for each in walk(function.body) if isinstance(each, Call)]
    while True:
        more = {
            given
            for call in calls
            for given, name in zip(call.arguments, call.function.parameters, strict=True)
            if isinstance(given, str) and name in (found if call.function is function else call.function.written)
        }
        if more <= found:
            return found
        found |= more
