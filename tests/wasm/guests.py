"""Modules that the tests run: one that behaves, and one that does not."""

from hybrid_compute.wasm import WasmModule

GOOD = """
(module
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 1024))
  (global $calls (mut i32) (i32.const 0))
  (func (export "alloc") (param $size i32) (result i32) (local $at i32) (local $missing i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (local.set $missing (i32.sub (global.get $next) (i32.shl (memory.size) (i32.const 16))))
    (if (i32.gt_s (local.get $missing) (i32.const 0)) (then
      (if (i32.eq (i32.const -1)
            (memory.grow (i32.shr_u (i32.add (local.get $missing) (i32.const 65535)) (i32.const 16))))
        (then unreachable))))
    (local.get $at))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "same32") (param i32) (result i32) (local.get 0))
  (func (export "same64") (param i64) (result i64) (local.get 0))
  (func (export "half32") (param f32) (result f32) (local.get 0))
  (func (export "half64") (param f64) (result f64) (local.get 0))
  (func (export "negate") (param i32) (result i32) (i32.eqz (local.get 0)))
  (func (export "nothing"))
  (func (export "count") (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls))
  (func (export "pair") (param i32 i32) (result i32 i32) (local.get 0) (local.get 1))
  (func (export "packed") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
  (func (export "sum") (param $at i32) (param $count i32) (result f64) (local $total f64)
    (block $done (loop $more
      (br_if $done (i32.eqz (local.get $count)))
      (local.set $total (f64.add (local.get $total) (f64.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $more)))
    (local.get $total))
  (func (export "sum_to") (param $n i32) (result i64) (local $total i64)
    (loop $more
      (local.set $total (i64.add (local.get $total) (i64.extend_i32_u (local.get $n))))
      (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $total))
  (func (export "peek") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "poke") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "grow_and_spin") (drop (memory.grow (i32.const 1))) (loop (br 0)))
)
"""

BAD = """
(module
  (type $none (func))
  (memory (export "memory") 1)
  (table 1 funcref)
  (func (export "alloc") (param i32) (result i32) (i32.const 0x7fff0000))
  (func (export "spin") (loop br 0))
  (func $deeper (export "recurse") (call $deeper))
  (func (export "give_up") unreachable)
  (func (export "divide") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func (export "convert") (param f64) (result i32) (i32.trunc_f64_s (local.get 0)))
  (func (export "far") (result i32) (i32.load (i32.const 65534)))
  (func (export "very_far") (result i32) (i32.load offset=4294967295 (i32.const -1)))
  (func (export "beyond_table") (call_indirect (type $none) (i32.const 5)))
  (func (export "empty_entry") (call_indirect (type $none) (i32.const 0)))
  (func (export "hoard")
    (loop $more
      (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
      (br $more)))
  (func (export "hoard_politely") (result i32)
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    (memory.size))
  (func (export "elsewhere") (result i64) (i64.const 0x7fff000000000010))
  (func (export "endless") (result i64) (i64.const 0x00000000ffffffff))
  (func (export "no_text") (result i64) (i32.store (i32.const 0) (i32.const 0xff)) (i64.const 1))
  (func (export "swallow") (param i32 i32))
)
"""


def good() -> WasmModule:
    return WasmModule.from_wat(GOOD, "good.wasm")


def bad() -> WasmModule:
    return WasmModule.from_wat(BAD, "bad.wasm")
