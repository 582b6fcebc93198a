"""What WASM has no instruction for: division as Python rounds it, remainders of floats, exact comparisons.

Each is one function of a module that needs it. `HOST` are those asked of Python itself.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

from hybrid_compute.kernels.calls import OF_PYTHON


def _power(base: float, exponent: float) -> float:
    value: float | complex = base**exponent
    if isinstance(value, complex):
        raise ValueError("a negative number to a power that is no integer is complex")  # noqa: TRY004
    return value


HOST: dict[str, tuple[Callable[..., float], str]] = {
    **{name: (getattr(math, name), "f" * arity) for name, arity in sorted(OF_PYTHON.values())},
    "power": (_power, "ff"),
    "truediv": (operator.truediv, "ii"),
}
"""Each function with the letters of its parameters; the result is a float."""


def _integers(type: str) -> dict[str, str]:
    bits = type[1:]
    return {
        # -1 is apart: the smallest number divided by it overflows, which is a trap of WASM. Here it wraps around.
        f"floordiv{bits}": f"""
  (func $floordiv{bits} (param $a {type}) (param $b {type}) (result {type}) (local $q {type})
    (if (result {type}) ({type}.eq (local.get $b) ({type}.const -1))
      (then ({type}.sub ({type}.const 0) (local.get $a)))
      (else
        (local.set $q ({type}.div_s (local.get $a) (local.get $b)))
        (if (result {type}) (i32.and
              ({type}.lt_s ({type}.xor (local.get $a) (local.get $b)) ({type}.const 0))
              ({type}.ne ({type}.mul (local.get $q) (local.get $b)) (local.get $a)))
          (then ({type}.sub (local.get $q) ({type}.const 1)))
          (else (local.get $q))))))""",
        f"mod{bits}": f"""
  (func $mod{bits} (param $a {type}) (param $b {type}) (result {type}) (local $r {type})
    (local.set $r ({type}.rem_s (local.get $a) (local.get $b)))
    (if (result {type}) (i32.and
          ({type}.lt_s ({type}.xor (local.get $r) (local.get $b)) ({type}.const 0))
          ({type}.ne (local.get $r) ({type}.const 0)))
      (then ({type}.add (local.get $r) (local.get $b)))
      (else (local.get $r))))""",
    }


FUNCTIONS = {
    **_integers("i64"),
    **_integers("i32"),
    # Up to 2**53 an integer is exact as a float, and so is the rounding of one division.
    "truediv64": """
  (func $truediv64 (param $a i64) (param $b i64) (result f64)
    (if (result f64) (i32.and
          (i64.le_u (i64.add (local.get $a) (i64.const 0x20000000000000)) (i64.const 0x40000000000000))
          (i64.le_u (i64.add (local.get $b) (i64.const 0x20000000000000)) (i64.const 0x40000000000000)))
      (then (f64.div (f64.convert_i64_s (local.get $a)) (f64.convert_i64_s (local.get $b))))
      (else (call $host.truediv (local.get $a) (local.get $b)))))""",
    # The sign of a - b, or NaN. Rounding never changes the order, so only where both round alike is there more to ask.
    "order": """
  (func $order (param $a i64) (param $b f64) (result f64) (local $r f64) (local $t i64)
    (local.set $r (f64.convert_i64_s (local.get $a)))
    (if (f64.lt (local.get $r) (local.get $b)) (then (return (f64.const -1))))
    (if (f64.gt (local.get $r) (local.get $b)) (then (return (f64.const 1))))
    (if (f64.ne (local.get $r) (local.get $b)) (then (return (f64.const nan))))
    (if (f64.eq (local.get $b) (f64.const 0x1p63)) (then (return (f64.const -1))))
    (local.set $t (i64.trunc_f64_s (local.get $b)))
    (f64.convert_i32_s (i32.sub
      (i64.gt_s (local.get $a) (local.get $t))
      (i64.lt_s (local.get $a) (local.get $t)))))""",
    # Long division, bit by bit, as every C library has it: exact, and quick when the quotient is small. A fraction has
    # its leading bit at 2**52: that of a subnormal number is moved there, as if exponents had room below 1.
    "fmod": """
  (func $fmod (param $a f64) (param $b f64) (result f64)
    (local $x i64) (local $y i64) (local $sign i64) (local $ex i64) (local $ey i64)
    (local.set $x (i64.reinterpret_f64 (f64.abs (local.get $a))))
    (local.set $y (i64.reinterpret_f64 (f64.abs (local.get $b))))
    (local.set $sign (i64.and (i64.reinterpret_f64 (local.get $a)) (i64.const 0x8000000000000000)))
    (if (i32.or (i32.eqz (f64.lt (f64.abs (local.get $a)) (f64.const inf)))
                (f64.ne (local.get $b) (local.get $b)))
      (then (return (f64.div (f64.mul (local.get $a) (local.get $b)) (f64.mul (local.get $a) (f64.const 0))))))
    (if (i64.lt_u (local.get $x) (local.get $y)) (then (return (local.get $a))))
    (local.set $ex (i64.shr_u (local.get $x) (i64.const 52)))
    (if (i64.eqz (local.get $ex))
      (then
        (local.set $ex (i64.sub (i64.const 12) (i64.clz (local.get $x))))
        (local.set $x (i64.shl (local.get $x) (i64.sub (i64.const 1) (local.get $ex)))))
      (else (local.set $x (i64.or
        (i64.and (local.get $x) (i64.const 0xfffffffffffff))
        (i64.const 0x10000000000000)))))
    (local.set $ey (i64.shr_u (local.get $y) (i64.const 52)))
    (if (i64.eqz (local.get $ey))
      (then
        (local.set $ey (i64.sub (i64.const 12) (i64.clz (local.get $y))))
        (local.set $y (i64.shl (local.get $y) (i64.sub (i64.const 1) (local.get $ey)))))
      (else (local.set $y (i64.or
        (i64.and (local.get $y) (i64.const 0xfffffffffffff))
        (i64.const 0x10000000000000)))))
    (block $done
      (loop $bits
        (if (i64.ge_u (local.get $x) (local.get $y))
          (then (local.set $x (i64.sub (local.get $x) (local.get $y)))))
        (br_if $done (i64.ge_s (local.get $ey) (local.get $ex)))
        (local.set $x (i64.shl (local.get $x) (i64.const 1)))
        (local.set $ex (i64.sub (local.get $ex) (i64.const 1)))
        (br $bits)))
    (if (i64.eqz (local.get $x)) (then (return (f64.reinterpret_i64 (local.get $sign)))))
    (local.set $ey (i64.sub (i64.clz (local.get $x)) (i64.const 11)))
    (local.set $x (i64.shl (local.get $x) (local.get $ey)))
    (local.set $ex (i64.sub (local.get $ex) (local.get $ey)))
    (if (i64.gt_s (local.get $ex) (i64.const 0))
      (then (local.set $x (i64.or
        (i64.and (local.get $x) (i64.const 0xfffffffffffff))
        (i64.shl (local.get $ex) (i64.const 52)))))
      (else (local.set $x (i64.shr_u (local.get $x) (i64.sub (i64.const 1) (local.get $ex))))))
    (f64.reinterpret_i64 (i64.or (local.get $x) (local.get $sign))))""",
    # The same steps as CPython's float_divmod, so that they round alike.
    "modf": """
  (func $modf (param $a f64) (param $b f64) (result f64) (local $m f64)
    (local.set $m (call $fmod (local.get $a) (local.get $b)))
    (if (f64.eq (local.get $m) (f64.const 0)) (then (return (f64.copysign (f64.const 0) (local.get $b)))))
    (if (i32.ne (f64.lt (local.get $b) (f64.const 0)) (f64.lt (local.get $m) (f64.const 0)))
      (then (return (f64.add (local.get $m) (local.get $b)))))
    (local.get $m))""",
    "floordivf": """
  (func $floordivf (param $a f64) (param $b f64) (result f64) (local $m f64) (local $d f64) (local $f f64)
    (local.set $m (call $fmod (local.get $a) (local.get $b)))
    (local.set $d (f64.div (f64.sub (local.get $a) (local.get $m)) (local.get $b)))
    (if (f64.ne (local.get $m) (f64.const 0))
      (then (if (i32.ne (f64.lt (local.get $b) (f64.const 0)) (f64.lt (local.get $m) (f64.const 0)))
        (then (local.set $d (f64.sub (local.get $d) (f64.const 1)))))))
    (if (f64.eq (local.get $d) (f64.const 0))
      (then (return (f64.copysign (f64.const 0) (f64.div (local.get $a) (local.get $b))))))
    (local.set $f (f64.floor (local.get $d)))
    (if (f64.gt (f64.sub (local.get $d) (local.get $f)) (f64.const 0.5))
      (then (local.set $f (f64.add (local.get $f) (f64.const 1)))))
    (local.get $f))""",
}
NEEDS = {
    "modf": ["fmod"],
    "floordivf": ["fmod"],
    "truediv64": ["host.truediv"],
}
