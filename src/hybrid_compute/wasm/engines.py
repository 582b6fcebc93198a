"""Engines of wasmtime: one for each way in which code is compiled, shared by all that is compiled so."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from functools import partial
from typing import Any

import wasmtime

from hybrid_compute.wasm import capi, memories, signals, slots, stack


@dataclass(frozen=True)
class Profile:
    """How code is compiled. The same for two modules: they share an engine."""

    metered: bool = False
    """Whether it uses up fuel."""
    deterministic: bool = False
    """Whether equal inputs give equal bits on every machine: NaNs are all the same, relaxed SIMD is refused."""
    stack: int = 256 << 10
    components: bool = False
    """Whether it is for components, whose memories wasmtime makes: a large one begins as a copy on write."""


class Engine:
    """An engine, and what of it is needed often."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.metered = profile.metered or profile.deterministic
        signals.about_to_be_handled()
        self.engine = wasmtime.Engine(_config(profile))
        self.code: weakref.WeakValueDictionary[tuple[str, str], Any] = weakref.WeakValueDictionary()
        """What has been compiled for it (`program.Shared`), by its kind and the digest of its source."""
        self.others: weakref.WeakSet[Any] = weakref.WeakSet()
        """What else of wasmtime's is to be closed at the end of the program."""
        self.pointer = capi.pointer(self.engine)
        self.tick = partial(capi.increment_epoch, self.pointer)


def engine_for(profile: Profile) -> Engine:
    """The engine of this process for such code."""
    with _lock:
        found = _engines.get(profile)
        if found is None:
            made = Engine(profile)
            found = _engines.setdefault(profile, made)  # a handler of a signal may have needed one meanwhile
        return found


def end_engines() -> None:
    """At the end of the program."""
    for each in _engines.values():
        for made in (*(shared.code for shared in each.code.values()), *each.others):
            made.close()
        each.engine.close()


def _config(profile: Profile) -> wasmtime.Config:
    config = wasmtime.Config()
    config.epoch_interruption = True
    config.consume_fuel = profile.metered or profile.deterministic  # the same on every machine, unlike time
    config.cranelift_nan_canonicalization = profile.deterministic
    config.wasm_relaxed_simd = not profile.deterministic
    config.wasm_memory64 = False
    config.wasm_threads = False
    config.max_wasm_stack = profile.stack
    config.parallel_compilation = not _forked
    capi.set_async_stack(config, stack.THREAD)  # host functions run on it as well
    if slots.own and not profile.components:
        config.memory_reservation = slots.SIZE
        config.memory_guard_size = slots.GUARD
        config.memory_may_move = False
        config.memory_init_cow = False
        capi.set_memory_creator(config, memories.creator)
    return config


_engines: dict[Profile, Engine] = {}
_lock = threading.RLock()
_forked = False


def _forget() -> None:
    """In a forked child: a lock that some thread held is free, and the threads that compile are not there."""
    global _lock, _forked  # one process has one of each
    _lock, _forked = threading.RLock(), True
    _engines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
