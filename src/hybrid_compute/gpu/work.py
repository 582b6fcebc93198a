"""What a device is given to do: kernels, and the places of memory that they are bound to.

    Upload ──┐                    ┌─ Output   comes back to the host
    Uniform ─┼─> Step, Step, ... ─┼─ Kept     stays on the device
    Constant ┤        │           └─ (both may begin with what the host has)
    Resident ┘     Scratch

A place has no address until a frame gives it one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hybrid_compute.gpu.memory import Buffer
from hybrid_compute.gpu.wgsl import Access, Size

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


class Kernel:
    """A function of a shader, and what is bound to it: number and access of each buffer. Compared by identity."""

    __slots__ = ("bindings", "entry", "name", "source")

    def __init__(self, name: str, source: str, entry: str, bindings: Sequence[tuple[int, Access]]) -> None:
        self.name = name
        self.source = source
        self.entry = entry
        self.bindings = tuple(bindings)


def words(nbytes: int) -> int:
    """The bytes that are bound, and copied, for so many: whole words, and at least one."""
    return max(4, -(-nbytes // 4) * 4)


class Place:
    """A piece of the device's memory, for as long as the work is under way."""

    __slots__ = ("buffer", "nbytes", "offset")
    buffer: Buffer

    def __init__(self, nbytes: int) -> None:
        self.nbytes = words(nbytes)
        self.offset = 0


class Upload(Place):
    """An array of the host, to be read; or several, one after the other, each so many bytes after the last."""

    __slots__ = ("array", "stride")

    def __init__(self, array: Array | Sequence[Array], nbytes: int, *, stride: int = 0) -> None:
        super().__init__(nbytes)
        self.array = array
        self.stride = stride
        """0 where they follow one another at once."""


class Constant(Place):
    """An array of the host that is the same in every call, and so needs to be sent but once."""

    __slots__ = ("array", "staged")

    def __init__(self, array: Array) -> None:
        super().__init__(array.nbytes)
        self.array = array
        self.staged = 0


class Uniform(Place):
    """A few numbers, to be read."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        super().__init__(len(data))
        self.data = data


class Output(Place):
    """An array that the host will get. It begins as zeros, or as `initial`, unless it is `written` as a whole.

    With a `stride`, the arrays that it consists of, by its first direction, lie so many bytes after one another.
    """

    __slots__ = ("dtype", "initial", "parts", "shape", "staged", "stride", "written")

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: str,
        nbytes: int,
        initial: Array | Sequence[Array] | None = None,
        *,
        written: bool = False,
        stride: int = 0,
        parts: int = 1,
    ) -> None:
        super().__init__(nbytes)
        self.parts = parts
        """Of so many calls; then the shape begins with this."""
        self.shape = shape
        self.dtype = dtype
        self.initial = initial
        self.staged = 0
        self.stride = stride
        self.written = written and nbytes == self.nbytes  # nobody writes what a last word has beyond it


class Scratch(Place):
    """Memory between two steps, with anything in it at first."""

    __slots__ = ()


class Shared(Place):
    """The beginning of a scratch, which others have before it or after it."""

    __slots__ = ("scratch",)

    def __init__(self, scratch: Scratch, nbytes: int) -> None:
        super().__init__(nbytes)
        self.scratch = scratch


class Resident(Place):
    """An array that lies on `device`. `owner` keeps it there."""

    __slots__ = ("device", "owner")

    def __init__(self, buffer: Buffer, nbytes: int, device: object, owner: object) -> None:
        super().__init__(nbytes)
        self.buffer = buffer
        self.device = device
        self.owner = owner


class Kept(Output):
    """An array that will stay on the device, in a buffer of its own."""

    __slots__ = ()


class Fetch(Output):
    """The host will get a copy of an array that lies on the device."""

    __slots__ = ("source",)

    def __init__(self, source: Place, shape: tuple[int, ...], dtype: str) -> None:
        super().__init__(shape, dtype, source.nbytes)
        self.source = source


class Step:
    """One dispatch: a kernel, the place for each of its bindings, and how many workgroups there are.

    `fresh` are those of the places that begin just before it: as a copy of another, or as zeros.
    """

    __slots__ = ("fresh", "groups", "kernel", "places")
    count: int = 1
    """How many dispatches it is."""

    def __init__(
        self,
        kernel: Kernel,
        places: Sequence[Place],
        groups: Size,
        fresh: Sequence[tuple[Place, Upload | None]] = (),
    ) -> None:
        self.kernel = kernel
        self.places = places
        self.groups = groups
        self.fresh = fresh


class Piece(NamedTuple):
    """What is bound of a place in each dispatch of a series: so many bytes, and the next begins so many after it."""

    nbytes: int
    stride: int
    """0 where all are bound to the same."""


class Series(Step):
    """So many dispatches of a kernel, each bound to the next `pieces` of the places."""

    __slots__ = ("count", "pieces")

    def __init__(
        self, kernel: Kernel, places: Sequence[Place], groups: Size, pieces: Sequence[Piece], count: int
    ) -> None:
        super().__init__(kernel, places, groups)
        self.pieces = tuple(pieces)
        self.count = count


GUILTY = 3
"""So many of those that were together may each take a device with them; then the rest is believed to be alike."""


class Suspects:
    """Works that were together when a device did not come to an end. Each goes on alone."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = GUILTY
        """How many more of them may be found guilty."""


class Work:
    """Steps that follow one another, all the places in them, and who is told what came of it."""

    __slots__ = ("places", "reply", "results", "split", "steps", "suspects")

    def __init__(self, steps: Sequence[Step], places: Sequence[Place], results: Sequence[Output], reply: Reply) -> None:
        self.suspects: Suspects | None = None
        self.split: Callable[[], list[Work]] | None = None
        """Makes a work of each of its calls, where it is many."""
        self.steps = steps
        self.places = places
        self.results = results
        self.reply = reply


class Home(Protocol):
    """What arrays need of the device that they lie on."""

    number: int
    lost: str

    def submit(self, works: Sequence[Work]) -> None: ...
    def give_back(self, buffer: Buffer) -> None: ...


class Reply:
    """Who waits for a work. Called in the thread of the device, or of who gives it up."""

    __slots__ = ()

    @property
    def calls(self) -> int:
        """How many calls it is the answer to."""
        return 1

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits: what was not begun need not be."""
        return True

    def done(self, results: list[Any]) -> None:
        raise NotImplementedError

    def failed(self, error: BaseException, *, started: bool) -> None:
        raise NotImplementedError
