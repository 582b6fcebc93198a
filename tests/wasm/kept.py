"""A module for tests of sandboxes that are kept: a counter, memory, arrays, floats, and all sorts of misbehaviour."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_compute.wasm import WasmModule

WAT = """
(module
  (import "host" "ask" (func $ask (param i32) (result i32)))
  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 1024))
  (global $count (mut i64) (i64.const 0))
  (global $last (mut f64) (f64.const 0))
  (global (export "shown") (mut i32) (i32.const 7))

  (func (export "alloc") (param i32) (result i32)
    (local i32 i32)
    (local.set 1 (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (local.set 2 (i32.add (local.get 1) (local.get 0)))
    (block $fits
      (br_if $fits (i32.le_u (local.get 2) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $fits (i32.ne (i32.const -1) (memory.grow (i32.add (i32.shr_u (local.get 0) (i32.const 16))
                                                               (i32.const 1)))))
      unreachable)
    (global.set $free (local.get 2))
    (local.get 1))

  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "count") (param i64) (result i64)
    (global.set $count (i64.add (global.get $count) (local.get 0)))
    (global.get $count))
  (func (export "remember") (param f64) (result f64) (global.get $last) (global.set $last (local.get 0)))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "ask") (param i32) (result i32) (call $ask (local.get 0)))
  (func (export "trap") (global.set $count (i64.const -1)) unreachable)
  (func (export "spin") (i32.store8 (i32.const 0) (i32.const 1)) (loop (br 0)))
  (func $deeper (export "recurse") (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (i32.add (i32.const 1) (call $deeper (i32.sub (local.get 0) (i32.const 1)))))
      (else (i32.const 0))))
  (func (export "ask_often") (param $n i32) (result i32) (local $total i32)
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $n)))
      (local.set $total (i32.add (local.get $total) (call $ask (local.get $n))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $next)))
    (local.get $total))
  (func (export "nothing"))
  (func (export "pointer") (param funcref))

  (func (export "double") (param $at i32) (param $n i32) (local f32)
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $n)))
      (f32.store (local.get $at) (f32.mul (f32.load (local.get $at)) (f32.const 2)))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $next))))

  (func (export "work") (param $n i64) (param $seed i64) (result i64)
    (block $done (loop $next
      (br_if $done (i64.eqz (local.get $n)))
      (local.set $seed (i64.xor (local.get $seed) (i64.shl (local.get $seed) (i64.const 13))))
      (local.set $seed (i64.xor (local.get $seed) (i64.shr_u (local.get $seed) (i64.const 7))))
      (local.set $seed (i64.xor (local.get $seed) (i64.shl (local.get $seed) (i64.const 17))))
      (global.set $count (i64.add (global.get $count) (i64.const 1)))
      (i64.store (i32.and (i32.wrap_i64 (local.get $seed)) (i32.const 0xfff8)) (local.get $seed))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br $next)))
    (local.get $seed))

  (func (export "divide") (param f64 f64) (result f64) (f64.div (local.get 0) (local.get 1)))
  (func (export "divide_at") (param i32 f64 f64)
    (f64.store (local.get 0) (f64.div (local.get 1) (local.get 2)))
    (f32.store (i32.add (local.get 0) (i32.const 8))
               (f32.sqrt (f32.demote_f64 (local.get 1))))))
"""


def answer(question: int) -> int:
    return question + 1


MODULE = WasmModule.from_wat(WAT, "kept")
GRANTS = {"ask": answer}
PLAIN = WasmModule.from_wat(
    WAT.replace(
        '(import "host" "ask" (func $ask (param i32) (result i32)))',
        "(func $ask (param i32) (result i32) (local.get 0))",
    ),
    "plain",
)
"""The same with nothing of the host, so that its functions of numbers go the shortest way."""


def double(values: npt.NDArray[np.float32]) -> None: ...


def add(a: int, b: int) -> int:
    return a + b


def opened(**options: Any) -> Any:
    return PLAIN.open(**options)
