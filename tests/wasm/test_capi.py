"""Every function of wasmtime's C API that is used: it is there, takes what we give it and does what we think.

The wheel does not promise them. When its version changes, this says what has to be looked at.
"""

import ctypes
import re
import struct
from collections.abc import Iterator
from ctypes import addressof, byref, c_uint64, c_void_p, create_string_buffer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from wasmtime import _bindings as c
from wasmtime import component

from hybrid_compute.wasm import capi
from hybrid_compute.wasm.components import api

TEXT = """
(module
  (memory (export "memory") 1)
  (global (export "steps") (mut i32) (i32.const 0))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "loop") (param i32) (result i32)
    (loop $more
      (global.set 0 (i32.add (global.get 0) (i32.const 1)))
      (br_if $more (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (global.get 0)))
"""


class World:
    """An engine, a store in it and an instance in that, all by the C API."""

    def __init__(self) -> None:
        config = wasmtime.Config()
        config.consume_fuel = config.epoch_interruption = True
        config.max_wasm_stack = 256 << 10
        capi.set_async_stack(config, 1 << 20)
        self.engine = wasmtime.Engine(config)
        self.module = wasmtime.Module(self.engine, TEXT)
        self.linker = wasmtime.Linker(self.engine)
        pre, self.trap = c_void_p(), c_void_p()
        capi.check(capi.linker_instantiate_pre(capi.pointer(self.linker), capi.pointer(self.module), addressof(pre)))
        self.pre = pre.value
        self.store = capi.store_new(capi.pointer(self.engine), 4711, None)
        self.context = capi.store_context(self.store)
        capi.check(capi.set_fuel(self.context, 1_000_000))
        capi.set_epoch_deadline(self.context, 1)
        capi.store_limiter(self.store, 1 << 20, 10, -1, -1, -1)
        self.instance = create_string_buffer(capi.INSTANCE_SIZE)
        self.externs: list[object] = []
        capi.check(capi.pre_instantiate(self.pre, self.context, addressof(self.instance), addressof(self.trap)))

    def export(self, name: bytes, kind: int) -> int:
        extern = create_string_buffer(capi.EXTERN_SIZE)
        assert capi.export_get(self.context, addressof(self.instance), name, len(name), addressof(extern))
        assert extern.raw[0] == kind
        self.externs.append(extern)
        return addressof(extern) + capi.EXTERN_VALUE

    def call(self, name: bytes, *arguments: int) -> int:
        values = create_string_buffer(capi.SLOT * max(1, len(arguments)))
        struct.pack_into("<" + "i12x" * len(arguments), values, 0, *arguments)
        slots = max(1, len(arguments))
        function = self.export(name, capi.EXTERN_FUNC)
        capi.check(capi.func_call(self.context, function, addressof(values), slots, addressof(self.trap)))
        if self.trap.value:
            trap, self.trap.value = self.trap.value, None
            raise capi.taken_trap(trap)
        result: int = struct.unpack_from("<i", values)[0]
        return result

    def close(self) -> None:
        capi.store_delete(self.store)
        capi.pre_delete(self.pre)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def test_the_version_is_the_one_that_was_looked_at() -> None:
    assert version("wasmtime") == "50.0.1"


def test_a_call_takes_and_gives_numbers(world: World) -> None:
    assert world.call(b"add", 2, 3) == 5


def test_a_missing_export_is_told(world: World) -> None:
    extern = create_string_buffer(capi.EXTERN_SIZE)
    assert not capi.export_get(world.context, addressof(world.instance), b"sub", 3, addressof(extern))


def test_the_store_carries_our_number(world: World) -> None:
    assert capi.context_data(world.context) == 4711


def test_memory_has_an_address_and_a_size(world: World) -> None:
    memory = world.export(b"memory", capi.EXTERN_MEMORY)
    assert capi.memory_size(world.context, memory) == 65536
    assert ctypes.string_at(capi.memory_data(world.context, memory), 4) == bytes(4)


def test_globals_are_kept_apart_from_functions(world: World) -> None:
    world.export(b"steps", capi.EXTERN_GLOBAL)


def test_a_global_is_read_and_written(world: World) -> None:
    steps, value = world.export(b"steps", capi.EXTERN_GLOBAL), create_string_buffer(capi.VALUE_SIZE)
    assert world.call(b"loop", 5) == 5
    capi.global_get(world.context, steps, addressof(value))
    assert value.raw[0] == capi.KINDS["i32"]
    assert struct.unpack_from("<i", value, capi.VALUE_AT) == (5,)
    struct.pack_into("<i", value, capi.VALUE_AT, -100)
    capi.check(capi.global_set(world.context, steps, addressof(value)))
    assert world.call(b"loop", 5) == -95
    value[0] = bytes([capi.KINDS["f64"]])
    with pytest.raises(wasmtime.WasmtimeError):
        capi.check(capi.global_set(world.context, steps, addressof(value)))


def test_memory_grows_from_outside_up_to_the_limit(world: World) -> None:
    memory, before = world.export(b"memory", capi.EXTERN_MEMORY), c_uint64(7)
    capi.check(capi.memory_grow(world.context, memory, 3, addressof(before)))
    assert (before.value, capi.memory_size(world.context, memory)) == (1, 4 << 16)
    with pytest.raises(wasmtime.WasmtimeError):
        capi.check(capi.memory_grow(world.context, memory, 100, addressof(before)))


def test_a_call_with_arguments_that_are_ready_is_the_same_call(world: World) -> None:
    values = create_string_buffer(2 * capi.SLOT)
    struct.pack_into("<i12xi", values, 0, 40, 2)
    function = c_void_p(world.export(b"add", capi.EXTERN_FUNC))
    at, count, trap = c_void_p(addressof(values)), ctypes.c_size_t(2), c_void_p(addressof(world.trap))
    assert capi.func_call_prepared(c_void_p(world.context), function, at, count, trap) is None
    assert not world.trap
    assert struct.unpack_from("<i", values) == (42,)


def test_fuel_is_counted_and_ends(world: World) -> None:
    left = c_uint64()
    world.call(b"loop", 1000)
    capi.check(capi.get_fuel(world.context, addressof(left)))
    assert 980_000 < left.value < 999_000
    capi.check(capi.set_fuel(world.context, 100))
    with pytest.raises(wasmtime.Trap) as caught:
        world.call(b"loop", 1000)
    assert caught.value.trap_code == wasmtime.TrapCode.OUT_OF_FUEL


def test_the_epoch_ends_a_call(world: World) -> None:
    capi.increment_epoch(capi.pointer(world.engine))
    with pytest.raises(wasmtime.Trap) as caught:
        world.call(b"loop", 1000)
    assert caught.value.trap_code == wasmtime.TrapCode.INTERRUPT


def test_the_epoch_asks_first(world: World) -> None:
    """The callback may let it go on, or end it with an error."""
    asked: list[int] = []

    @capi.EpochCallback  # type: ignore[untyped-decorator]
    def callback(
        _context: int, number: int, delta: "ctypes._Pointer[c_uint64]", kind: "ctypes._Pointer[ctypes.c_uint8]"
    ) -> int:
        asked.append(number)
        delta[0], kind[0] = 1, 0
        return 0 if len(asked) < 2 else capi.error_new(b"enough") or 0

    capi.epoch_callback(world.store, callback, 42, capi.NO_FINALIZER)
    capi.increment_epoch(capi.pointer(world.engine))
    assert world.call(b"loop", 10) == 10
    assert asked == [42]
    capi.increment_epoch(capi.pointer(world.engine))
    with pytest.raises((wasmtime.WasmtimeError, wasmtime.Trap), match="enough"):
        world.call(b"loop", 10)


def test_limits_of_the_store_hold(world: World) -> None:
    """For what is instantiated in it, as wasmtime words it: `Guest` looks for these words."""
    module = wasmtime.Module(world.engine, "(module (table 11 funcref))")
    pre = c_void_p()
    capi.check(capi.linker_instantiate_pre(capi.pointer(world.linker), capi.pointer(module), addressof(pre)))
    with pytest.raises(wasmtime.WasmtimeError, match="table minimum size of 11 elements exceeds table limits"):
        capi.check(capi.pre_instantiate(pre.value, world.context, addressof(world.instance), addressof(world.trap)))
    capi.pre_delete(pre.value)


def test_a_call_is_left_in_the_middle_and_taken_up_again(world: World) -> None:
    capi.check(capi.fuel_yield_interval(world.context, 1000))
    values = create_string_buffer(capi.VALUE_SIZE)
    results = create_string_buffer(capi.VALUE_SIZE)
    struct.pack_into("<i", values, 8, 1000)
    error = c_void_p()
    function = world.export(b"loop", capi.EXTERN_FUNC)
    future = capi.call_async(
        world.context, function, addressof(values), 1, addressof(results), 1, addressof(world.trap), addressof(error)
    )
    polls = 1
    while not capi.future_poll(future):
        polls += 1
    capi.future_delete(future)
    assert not world.trap.value
    assert not error.value
    assert struct.unpack_from("<i", results, 8)[0] == 1000
    assert polls > 3


def test_a_host_function_is_called_and_may_end_the_guest() -> None:
    heard: list[tuple[int, int]] = []
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)

    @capi.HostFunction  # type: ignore[untyped-decorator]
    def callback(_env: int, caller: int, values: int, count: int) -> int:
        context = capi.caller_context(caller)
        heard.append((capi.context_data(context), struct.unpack("<i", ctypes.string_at(values, 4))[0]))
        return capi.trap_new(b"no more", 7) if heard[-1][1] == 3 else 0

    type = wasmtime.FuncType([wasmtime.ValType.i32()], [])
    capi.check(
        capi.linker_define(
            capi.pointer(linker), b"host", 4, b"f", 1, capi.pointer(type), callback, None, capi.NO_FINALIZER
        )
    )
    module = wasmtime.Module(
        engine,
        '(module (import "host" "f" (func $f (param i32))) (func (export "run") (param i32) (call $f (local.get 0))))',
    )
    store = capi.store_new(capi.pointer(engine), 99, None)
    context, pre, trap = capi.store_context(store), c_void_p(), c_void_p()
    instance, extern = create_string_buffer(capi.INSTANCE_SIZE), create_string_buffer(capi.EXTERN_SIZE)
    capi.check(capi.linker_instantiate_pre(capi.pointer(linker), capi.pointer(module), addressof(pre)))
    linker.close()  # what is defined outlives it
    capi.check(capi.pre_instantiate(pre.value, context, addressof(instance), addressof(trap)))
    assert capi.export_get(context, addressof(instance), b"run", 3, addressof(extern))
    values = create_string_buffer(capi.SLOT)
    function = addressof(extern) + capi.EXTERN_VALUE
    struct.pack_into("<i", values, 0, 2)
    capi.check(capi.func_call(context, function, addressof(values), 1, addressof(trap)))
    struct.pack_into("<i", values, 0, 3)
    with pytest.raises(wasmtime.WasmtimeError, match="no more"):
        capi.check(capi.func_call(context, function, addressof(values), 1, addressof(trap)))
    assert heard == [(99, 2), (99, 3)]
    capi.store_delete(store)
    capi.pre_delete(pre.value)


def test_a_function_of_one_store_sees_its_slots_as_numbers() -> None:
    engine = wasmtime.Engine()
    store = capi.store_new(capi.pointer(engine), 1, None)
    context = capi.store_context(store)
    type = wasmtime.FuncType([wasmtime.ValType.f64(), wasmtime.ValType.i64()], [wasmtime.ValType.f64()])

    @capi.SlotsFunction  # type: ignore[untyped-decorator]
    def power(_env: int, _caller: int, values: Any, _count: int) -> int:
        values[0].f64 = values[0].f64 ** values[1].i64
        return 0

    made, trap, slots = create_string_buffer(capi.SLOT), c_void_p(), create_string_buffer(2 * capi.SLOT)
    capi.func_new(context, capi.pointer(type), power, None, capi.NO_FINALIZER, addressof(made))
    struct.pack_into("<d8xq", slots, 0, 1.5, 3)
    capi.check(capi.func_call(context, addressof(made), addressof(slots), 2, addressof(trap)))
    assert struct.unpack_from("<d", slots) == (1.5**3,)
    assert not trap
    capi.store_delete(store)


def test_a_memory_of_ours_is_used() -> None:
    """`slots.py` makes them; here only that wasmtime asks for one, grows it and gives it back."""
    told: list[str] = []
    block = create_string_buffer(3 << 16)
    base = addressof(block)

    @capi.GetMemory  # type: ignore[untyped-decorator]
    def get(_env: int, size: Any, most: Any) -> int:
        size[0] = most[0] = 1 << 16
        return base

    @capi.GrowMemory  # type: ignore[untyped-decorator]
    def grow(_env: int, size: int) -> int:
        told.append(f"grow to {size >> 16}")
        return capi.error_new(b"no") or 0

    @capi.Finalizer  # type: ignore[untyped-decorator]
    def leave(_env: int) -> None:
        told.append("leave")

    @capi.NewMemory  # type: ignore[untyped-decorator]
    def new(
        env: int,
        type: int,
        least: int,
        most: int,
        reserved: int,
        guard: int,
        result: "ctypes._Pointer[ctypes.c_void_p]",
    ) -> int:
        told.append(f"new of {least >> 16}")
        made = result[0]
        made.env, made.get_memory, made.grow_memory, made.finalizer = 1, get, grow, leave
        return 0

    creator = capi.MemoryCreator()
    creator.env, creator.new_memory, creator.finalizer = None, new, leave
    config = wasmtime.Config()
    config.memory_init_cow = False
    config.memory_reservation = config.memory_guard_size = 0
    config.signals_based_traps = False
    capi.set_memory_creator(config, creator)
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    module = wasmtime.Module(
        engine, '(module (memory (export "memory") 1) (func (export "g") (result i32) (memory.grow (i32.const 1))))'
    )
    exports = wasmtime.Instance(store, module, []).exports(store)
    memory, function = exports["memory"], exports["g"]
    assert isinstance(memory, wasmtime.Memory)
    assert isinstance(function, wasmtime.Func)
    assert ctypes.addressof(memory.data_ptr(store).contents) == base
    assert function(store) == -1
    store.close()
    assert told == ["new of 1", "grow to 2", "leave"]


# Components.


def test_values_of_components_are_made_and_freed() -> None:
    """Each kind with room of its own; deleting the outermost frees all of them."""
    outer = api.Value()
    outer.kind = api.kind("tuple")
    api.tuple_new(byref(outer.of.tuple), 4)
    ctypes.memset(outer.of.tuple.data, 0, 4 * api.SIZE)
    record, flags, some, listed = (outer.of.tuple.data[index] for index in range(4))
    record.kind, flags.kind, some.kind, listed.kind = map(api.kind, ("record", "flags", "option", "list"))
    api.record_new(byref(record.of.record), 1)
    ctypes.memset(record.of.record.data, 0, ctypes.sizeof(api.Entry))
    api.bytes_new(byref(record.of.record.data[0].name), 3, api.octets(b"one"))
    api.flags_new(byref(flags.of.flags), 1)
    api.bytes_new(byref(flags.of.flags.data[0]), 4, api.octets(b"flag"))
    some.of.option = api.val_new(byref(api.Value()))
    api.list_new(byref(listed.of.list), 2)
    ctypes.memset(listed.of.list.data, 0, 2 * api.SIZE)
    assert ctypes.string_at(record.of.record.data[0].name.data, record.of.record.data[0].name.size) == b"one"
    assert ctypes.string_at(flags.of.flags.data[0].data, flags.of.flags.data[0].size) == b"flag"
    assert (outer.of.tuple.size, listed.of.list.size, bool(some.of.option)) == (4, 2, True)
    api.val_delete(byref(outer))


def test_a_component_is_instantiated_and_called_and_calls_the_host() -> None:
    """Which may end it. A text is a list of bytes there and back."""
    text = """
        (component
          (import "f" (func $f (param "n" s32) (result s32)))
          (core func $lowered (canon lower (func $f)))
          (core module $code
            (import "host" "f" (func $f (param i32) (result i32)))
            (func (export "call") (param i32) (result i32) (call $f (local.get 0))))
          (core instance $i (instantiate $code (with "host" (instance (export "f" (func $lowered))))))
          (func (export "call") (param "n" s32) (result s32) (canon lift (core func $i "call"))))
    """
    engine = wasmtime.Engine()
    linker, compiled = component.Linker(engine), component.Component(engine, text)
    heard: list[Any] = []

    @c.wasmtime_component_func_callback_t  # type: ignore[untyped-decorator]
    def callback(_data: Any, context: Any, _type: Any, given: Any, count: int, results: Any, _more: Any) -> int:
        heard.append((capi.context_data(ctypes.cast(context, c_void_p)), given[0].kind, given[0].of.s32, count))
        results[0].kind, results[0].of.s32 = api.kind("s32"), 2 * given[0].of.s32
        return capi.error_new(b"no more") or 0 if given[0].of.s32 == 3 else 0

    with linker.root() as root:
        api.check(api.add_func(root.ptr(), create_string_buffer(b"f"), 1, callback, None, capi.NO_FINALIZER))
    store = capi.store_new(capi.pointer(engine), 77, None)
    at, instance, function = api.context(capi.store_context(store)), api.Instance(), api.Function()
    api.check(api.linker_instantiate(linker.ptr(), at, compiled.ptr(), byref(instance)))
    index = compiled.get_export_index("call")
    assert index is not None
    assert api.instance_get_func(byref(instance), at, index.ptr(), byref(function))
    value, result = api.Value(), api.Value()
    value.kind, value.of.s32 = api.kind("s32"), 21
    api.check(api.func_call(byref(function), at, byref(value), 1, byref(result), 1))
    assert (result.kind, result.of.s32) == (api.kind("s32"), 42)
    value.of.s32 = 3
    with pytest.raises(wasmtime.WasmtimeError, match="no more"):
        api.check(api.func_call(byref(function), at, byref(value), 1, byref(result), 1))
    assert heard == [(77, api.kind("s32"), 21, 1), (77, api.kind("s32"), 3, 1)]
    capi.store_delete(store)


def test_every_function_is_tried_here() -> None:
    """What is declared, and named by no test, would change unseen."""
    text = Path(__file__).read_text()
    for module, at_least in ((capi, 25), (api, 10)):
        declared = {
            name
            for name, value in vars(module).items()
            if isinstance(value, ctypes._CFuncPtr) or getattr(value, "__module__", "") == c.__name__
            if name.islower()
        }
        called = {name for name in declared if f"{module.__name__.rpartition('.')[2]}.{name}(" in text}
        assert declared - called == set()
        assert len(declared) >= at_least


def test_no_other_file_uses_what_wasmtime_promises_nobody() -> None:
    """Besides the two that declare it."""
    house = Path(capi.__file__).parent.parent
    users = {
        path.relative_to(house).as_posix()
        for folder in ("wasm", "kernels", "sandbox", "backends")
        for path in (house / folder).rglob("*.py")
        if re.search(r"wasmtime\._|wasmtime import .*\b_|\bc\.wasm|component\._types import", path.read_text())
    }
    assert users == {"wasm/capi.py", "wasm/components/api.py", "sandbox/components.py"}
    converters = (house / "sandbox" / "components.py").read_text()
    assert re.findall(r"wasmtime\._\w+|import .*\b_.*|\bc\.wasm\w+|_types import.*", converters) == [
        "_types import FuncType"
    ]
