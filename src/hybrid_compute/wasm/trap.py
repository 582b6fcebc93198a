"""`Trap`: what a guest did that stopped it; and `GuestError`: what it answered with."""

from __future__ import annotations

from hybrid_compute.errors import TaskFailed


class Trap(Exception):
    """A guest did what stops it. `code` is wasmtime's name for it, `frames` the calls it was in, innermost first.

    The memory of the guest may be half written: it is thrown away, and the next call has a new one.
    """

    def __init__(self, message: str, code: str = "", frames: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.frames = frames
        if frames:
            self.add_note("in the guest, innermost call first:\n" + "\n".join(f"  {frame}" for frame in frames))

    def as_failure(self, task: str) -> TaskFailed:
        """The failure of the task whose guest it was. Its traceback is the guest's: how we came to it, we know."""
        lines = [f"{type(self).__module__}.{type(self).__qualname__}: {self}", *getattr(self, "__notes__", ())]
        failed = TaskFailed(f"task {task!r} raised Trap: {self}", remote_traceback="\n".join(lines) + "\n")
        failed.__cause__ = self
        return failed

    def __reduce__(self) -> tuple[type[Trap], tuple[object, ...]]:
        return Trap, (self.args[0], self.code, self.frames)


class GuestError(Exception):
    """A component has answered with an error, which is not a trap: that of its `result<>`. `value` is what it gave.

    A function that is granted to a component raises this to answer in the same way.
    """

    def __init__(self, value: object = None) -> None:
        super().__init__(value)
        self.value = value
