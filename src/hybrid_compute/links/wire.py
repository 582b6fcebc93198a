"""What a server and its clients say to each other: calls and outcomes, as JSON or as MessagePack.

    {task, input}                   ->  {result}             or  {error, code, details}
    [{task, input}, ...]            ->  [{result}, {error, code, details}, ...]
    {id, task, input}               ->  {id, result}         or  {id, error, code, details}
    {id, task, input, stream: true} ->  {id, chunk} ... {id, progress} ... {id, result: null}
    {id, credit: 8}                     8 more items of that stream may come
    {id, cancel: true}                  nobody waits for that call any more

Everything here is bytes in, values out, and back; nothing is sent and no clock is read. `docs/reference/wire.md` is
the same for readers in other languages.

JSON is for everybody: bytes are base64, dates ISO 8601, integers exact however long, arrays lists; NaN and the
infinities are refused, because JSON has no such numbers. MessagePack carries those, bytes as they are, and arrays as
the memory they lie in; integers go to 64 bits. Nothing here runs code that came over a network: an array is numbers,
never objects, and an id goes back as it came.

A message is a list of pieces, so that a large array is sent from where it lies.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

from hybrid_compute.errors import InvalidInput, NotTransferable, RemoteProtocolError
from hybrid_compute.links.arena import LARGE
from hybrid_compute.links.layouts import NUMBERS
from hybrid_compute.schema import (
    Arguments,
    as_plain,
    bind_json,
    bind_value,
    encode_json,
    result_from_json,
    result_from_value,
)
from hybrid_compute.tasks import AnyTask

Pieces: TypeAlias = list[bytes | memoryview]
"""One message, or a value in it: what to send, in order."""

Outcome: TypeAlias = Literal["result", "chunk", "progress"]


class Request(msgspec.Struct):
    """One call, or a word about one, as a client says it.

    `input` and `id` stay as they came: the one until it is known what the task takes, the other because it goes back.
    """

    task: str = ""
    input: Raw = Raw()
    id: Raw | UnsetType = UNSET
    stream: bool = False
    cancel: bool = False
    credit: int | None = None
    """Items that the client has room for; None if it takes them as they come."""
    timeout: float | None = None
    """Seconds from now."""
    key: str | None = None
    """Calls of one key are one call."""
    traceparent: str | None = None
    fault: str | None = None
    """Why this item of a batch is no call, if it is none. Nobody says this; it is found."""


class Reply(msgspec.Struct):
    """One outcome, or a part of one, as a server says it."""

    id: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    chunk: Raw | UnsetType = UNSET
    progress: Said | UnsetType = UNSET
    error: str | None = None
    code: str = "error"
    details: dict[str, Any] = {}


class Said(msgspec.Struct):
    """How far a task says it is."""

    done: float
    total: float | None = None
    note: str = ""


class Failure(msgspec.Struct, omit_defaults=True):
    """An error, as a client is told of it: a text for people, a code for programs."""

    error: str
    code: str = "error"
    details: dict[str, Any] = {}


class _Identity(msgspec.Struct):
    id: Raw | UnsetType = UNSET


class Encoding(Protocol):
    """One way to write calls and outcomes."""

    content_type: str
    binary: bool
    null: bytes

    # What a server needs.

    def read_requests(self, data: bytes) -> Request | list[Request]:
        """A call, or a batch of them. Raises `RemoteProtocolError`."""
        ...

    def read_id(self, data: bytes) -> bytes | None:
        """The id of a message that is not valid otherwise, if it has one."""
        ...

    def bind(self, task: AnyTask, data: Raw) -> Arguments:
        """The arguments of a call with this input. Raises `InvalidInput`, naming the path to what does not fit."""
        ...

    def write_value(self, value: Any) -> Pieces:
        """A result, or an input. Raises `NotTransferable`, saying what cannot be said."""
        ...

    def write_outcome(self, id: bytes | None, kind: Outcome, value: Pieces) -> Pieces:
        """The reply that carries such a value."""
        ...

    def write_failure(self, id: bytes | None, failure: Failure) -> Pieces:
        """The reply that says what went wrong."""
        ...

    # What a client needs.

    def write_request(self, fields: Mapping[str, Any], value: Pieces | None) -> Pieces:
        """A call: plain fields, and the input unless there is none."""
        ...

    def read_replies(self, data: bytes) -> Reply | list[Reply]:
        """An outcome, or those of a batch. Raises `RemoteProtocolError`."""
        ...

    def read_result(self, task: AnyTask, data: Raw) -> Any:
        """A result, as the type that the task returns. Raises `RemoteProtocolError`."""
        ...

    # What both need.

    def write_batch(self, messages: Sequence[Pieces]) -> Pieces:
        """Many messages as one."""
        ...


class Json:
    """Readable everywhere."""

    content_type = "application/json"
    binary = False
    null = b"null"

    def read_requests(self, data: bytes) -> Request | list[Request]:
        return _requests(_json_requests, _json_items, _json_identity, data)

    def read_id(self, data: bytes) -> bytes | None:
        return _identity(_json_identity, data) or _identity_at_least(data)

    def bind(self, task: AnyTask, data: Raw) -> Arguments:
        return bind_json(task, bytes(data))

    def write_value(self, value: Any) -> Pieces:
        return [encode_json(value)]

    def write_outcome(self, id: bytes | None, kind: Outcome, value: Pieces) -> Pieces:
        name = kind.encode()
        head = b'{"%b":' % name if id is None else b'{"id":%b,"%b":' % (id, name)
        return [head, *value, b"}"]

    def write_failure(self, id: bytes | None, failure: Failure) -> Pieces:
        body = _encoded(_json, failure)
        return [body if id is None else b'{"id":%b,' % id + body[1:]]

    def write_request(self, fields: Mapping[str, Any], value: Pieces | None) -> Pieces:
        head = _json.encode(fields)
        return [head] if value is None else [head[:-1] + b',"input":', *value, b"}"]

    def read_replies(self, data: bytes) -> Reply | list[Reply]:
        return _read(_json_replies, data, "reply")  # type: ignore[no-any-return]

    def read_result(self, task: AnyTask, data: Raw) -> Any:
        return _result(lambda: result_from_json(task, bytes(data)), task)

    def write_batch(self, messages: Sequence[Pieces]) -> Pieces:
        pieces: Pieces = []
        for message in messages:
            pieces += (b"," if pieces else b"[", *message)
        return [*(pieces or [b"["]), b"]"]


class MessagePack:
    """Smaller, and with bytes and arrays."""

    content_type = "application/msgpack"
    binary = True
    null = b"\xc0"

    def read_requests(self, data: bytes) -> Request | list[Request]:
        return _requests(_pack_requests, _pack_items, _pack_identity, data)

    def read_id(self, data: bytes) -> bytes | None:
        return _identity(_pack_identity, data)

    def bind(self, task: AnyTask, data: Raw) -> Arguments:
        packed = memoryview(data)
        if not packed:
            return bind_value(task)
        try:
            value = _pack_values.decode(packed)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
            raise InvalidInput(f"the input of task {task.name!r} is not valid: {_reason(error)}") from error
        return bind_value(task, value)

    def write_value(self, value: Any) -> Pieces:
        try:
            return _pack_pieces(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise NotTransferable(f"the value cannot be MessagePack: {_reason(error)}") from error

    def write_outcome(self, id: bytes | None, kind: Outcome, value: Pieces) -> Pieces:
        name = _PACKED_NAMES[kind]
        return [b"\x81" + name if id is None else b"\x82\xa2id" + id + name, *value]

    def write_failure(self, id: bytes | None, failure: Failure) -> Pieces:
        body = _encoded(_pack, failure)
        return [body if id is None else bytes([body[0] + 1]) + b"\xa2id" + id + body[1:]]

    def write_request(self, fields: Mapping[str, Any], value: Pieces | None) -> Pieces:
        head = _pack.encode(fields)
        return [head] if value is None else [bytes([head[0] + 1]) + head[1:] + b"\xa5input", *value]

    def read_replies(self, data: bytes) -> Reply | list[Reply]:
        return _read(_pack_replies, data, "reply")  # type: ignore[no-any-return]

    def read_result(self, task: AnyTask, data: Raw) -> Any:
        return _result(lambda: result_from_value(task, _pack_values.decode(memoryview(data))), task)

    def write_batch(self, messages: Sequence[Pieces]) -> Pieces:
        return [_array_head(len(messages)), *(piece for message in messages for piece in message)]


JSON: Final[Encoding] = Json()
MESSAGE_PACK: Final[Encoding] = MessagePack()


def size_of(pieces: Pieces) -> int:
    """Bytes in a message."""
    return sum(map(len, pieces))


def _encoded(encoder: Any, failure: Failure) -> bytes:
    """A failure, whatever is in it: whoever waits for an answer gets one."""
    try:
        return encoder.encode(failure)  # type: ignore[no-any-return]
    except (TypeError, ValueError, OverflowError, RecursionError):
        text = failure.error.encode("utf-8", "replace").decode()
        return encoder.encode(Failure(text, failure.code))  # type: ignore[no-any-return]


_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError)


def _read(decoder: Any, data: bytes, what: str) -> Any:
    try:
        return decoder.decode(data)
    except _UNREADABLE as error:
        raise RemoteProtocolError(f"this is not a {what}: {_reason(error)}") from error


def _requests(decoder: Any, items: Any, identities: Any, data: bytes) -> Request | list[Request]:
    """A call or a batch. An item of a batch that is no call becomes one with a `fault`, and the others stay calls."""
    try:
        found: Request | list[Request] = _read(decoder, data, "call")
    except RemoteProtocolError as error:
        # In memory an item takes a hundred times what it may take in JSON. MessagePack says how many there are.
        if items is _json_items and _commas(data) > _FEW_ENOUGH:
            raise
        try:
            several = items.decode(data)
        except _UNREADABLE:
            raise error from None
        return [_item(decoder, identities, bytes(each)) for each in several]
    for each in found if isinstance(found, list) else [found]:
        each.fault = None
    return found


_FEW_ENOUGH: Final = 100_000
"""Commas in a message, the most that its items can be, up to which they are looked at one by one."""


def _commas(data: bytes | str) -> int:
    return data.count(",") if isinstance(data, str) else data.count(b",")


def _item(decoder: Any, identities: Any, data: bytes) -> Request:
    try:
        found = _read(decoder, data, "call")
        if isinstance(found, Request):
            found.fault = None
            return found
        reason = "this is not a call, but a list of them"
    except RemoteProtocolError as error:
        reason = str(error)
    id = _identity(identities, data)
    return Request(id=UNSET if id is None else Raw(id), fault=reason)


def _identity(decoder: Any, data: bytes) -> bytes | None:
    try:
        found = decoder.decode(data).id
    except _UNREADABLE:
        return None
    return None if found is UNSET else bytes(found)


def _identity_at_least(data: bytes) -> bytes | None:
    """The id in JSON that is refused for what else is in it, such as half of a surrogate pair, which JavaScript writes.

    Whoever sent it waits for an answer with this id. Of what is large it is not looked for: that would take seconds.
    """
    if len(data) > LARGE:
        return None
    try:
        message = json.loads(data)
        return json.dumps(message["id"], allow_nan=False).encode() if "id" in message else None
    except (ValueError, TypeError, RecursionError):  # no JSON at all, or no object
        return None


def _result(read: Any, task: AnyTask) -> Any:
    try:
        return read()
    except (*_UNREADABLE, InvalidInput) as error:
        reason = f"the result of task {task.name!r} is not what it says it returns: {_reason(error)}"
        raise RemoteProtocolError(reason) from error


def _reason(error: BaseException) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


# Arrays, and other things that MessagePack has no form for.

ARRAY: Final = 1
"""The extension type of an array: its kind (`dtype.char`), its shape, its memory in the order of C, low byte first."""

_ARRAY_HEAD = struct.Struct(">cB")
_MOST = (1 << 32) - 1  # bytes that one value may have


def _pack_pieces(value: Any) -> Pieces:
    """A value, its large parts as the memory they lie in, if they are not far down."""
    if not _has_large_parts(value):
        return [_pack.encode(value)]
    kind = type(value)
    if kind is dict:
        head = bytes([0x80 | len(value)])
        return [head, *(piece for name, each in value.items() for piece in (_pack.encode(name), *_pack_pieces(each)))]
    if kind in (list, tuple):
        return [_array_head(len(value)), *(piece for each in value for piece in _pack_pieces(each))]
    if kind in _BYTES:
        memory = memoryview(value).cast("B")
        return [b"\xc6" + _length(memory), memory]
    head, memory = _array(value)
    return [b"\xc9" + _length(head, memory) + bytes([ARRAY]) + head, memory]


def _has_large_parts(value: Any) -> bool:
    """Whether there is an array or a string of bytes in it that had better not be copied."""
    kind = type(value)
    if kind in _SMALL:
        return False
    if kind is dict or kind is list or kind is tuple:
        if len(value) <= _FEW:
            for each in value.values() if kind is dict else value:  # `any` with a generator takes twice as long
                if type(each) not in _SMALL and _has_large_parts(each):
                    return True
        return False
    if kind in _BYTES:
        return memoryview(value).nbytes >= LARGE
    numpy = sys.modules.get("numpy")
    return numpy is not None and kind is numpy.ndarray and value.nbytes >= LARGE and value.dtype.char in NUMBERS


_SMALL = frozenset({int, float, str, bool, type(None)})
_BYTES = frozenset({bytes, bytearray, memoryview})
_FEW = 15  # what the shortest head of a map or an array can count


def _array_head(count: int) -> bytes:
    return bytes([0x90 | count]) if count <= _FEW else b"\xdd" + struct.pack(">I", count)


def _length(*parts: bytes | memoryview) -> bytes:
    total = sum(map(len, parts))
    if total > _MOST:
        raise ValueError(f"a value of {total:,} bytes is too large: {_MOST:,} are the most")
    return struct.pack(">I", total)


def _array(value: Any) -> tuple[bytes, memoryview]:
    """The head and the memory of an array of numbers."""
    import numpy as np

    array = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<"), copy=False))
    head = _ARRAY_HEAD.pack(value.dtype.char.encode(), value.ndim) + struct.pack(f">{value.ndim}Q", *value.shape)
    return head, memoryview(array.reshape(-1).view(np.uint8).data)


def _as_extension(value: Any) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(value) is numpy.ndarray and value.dtype.char in NUMBERS:
        return msgspec.msgpack.Ext(ARRAY, b"".join(_array(value)))
    return as_plain(value)


def _from_extension(code: int, data: memoryview) -> Any:
    if code != ARRAY:
        raise msgspec.ValidationError(f"Unknown extension type {code}")
    try:
        import numpy as np
    except ImportError as error:
        raise msgspec.ValidationError("There is no numpy here to make an array with") from error
    try:
        kind, dimensions = _ARRAY_HEAD.unpack_from(data)
        shape = struct.unpack_from(f">{dimensions}Q", data, _ARRAY_HEAD.size)
        memory = data[_ARRAY_HEAD.size + 8 * dimensions :]
        if kind.decode() not in NUMBERS:
            raise ValueError(f"an array of {kind!r} is none of numbers")
        dtype = np.dtype(kind.decode()).newbyteorder("<")
        if math.prod(shape) * dtype.itemsize != len(memory):
            raise ValueError(f"an array of shape {shape} does not have {len(memory)} bytes")
        return np.frombuffer(memory, dtype).reshape(shape)
    except (struct.error, ValueError, UnicodeError) as error:
        raise msgspec.ValidationError(f"This is no array: {error}") from error


_json = msgspec.json.Encoder()
_pack = msgspec.msgpack.Encoder(enc_hook=_as_extension)
_pack_values = msgspec.msgpack.Decoder(ext_hook=_from_extension)
_json_requests = msgspec.json.Decoder(Request | list[Request])
_pack_requests = msgspec.msgpack.Decoder(Request | list[Request])
_json_items = msgspec.json.Decoder(list[Raw])
_pack_items = msgspec.msgpack.Decoder(list[Raw])
_json_replies = msgspec.json.Decoder(Reply | list[Reply])
_pack_replies = msgspec.msgpack.Decoder(Reply | list[Reply], ext_hook=_from_extension)
_json_identity = msgspec.json.Decoder(_Identity)
_pack_identity = msgspec.msgpack.Decoder(_Identity)

_PACKED_NAMES: Mapping[Outcome, bytes] = {"result": b"\xa6result", "chunk": b"\xa5chunk", "progress": b"\xa8progress"}
