"""Large arrays to workers and back, without copies.

`workers.empty` makes an array in memory that the workers share, and `empty` inside a task does the same for a result:
what crosses the pipe is a description of some hundred bytes. An ordinary array works too, at the price of a copy.
"""

import numpy as np
import numpy.typing as npt

from hybrid_compute import BlockingRuntime, WorkerBackend, empty, task

Image = npt.NDArray[np.float32]


@task
def blur(image: Image) -> Image:
    """Each row averaged with its neighbours."""
    result = empty(image.shape, image.dtype)  # shared, because this runs in a worker
    np.add(image, np.roll(image, 1, axis=0), out=result)
    result += np.roll(image, -1, axis=0)
    result /= 3
    return result


@task
def brighten(image: Image) -> str:
    try:
        image += 1
    except ValueError as error:
        return str(error)
    return "done, to a copy of its own"


def main() -> None:
    workers = WorkerBackend()
    with BlockingRuntime([workers], strategy="worker") as rt:
        shared: Image = workers.empty((1024, 1024), "float32")  # 4 MiB, uninitialised
        shared[:] = np.arange(1024, dtype="float32")[:, np.newaxis]
        blurred = rt.run(blur, shared)
        moved = rt.stats()["blur"]["worker"]
        print(f"{shared.nbytes:,} bytes each way, {moved.sent + moved.received} through the pipe")
        print(f"changing a shared array in a worker: {rt.run(brighten, shared)}")
        print(f"changing an ordinary array in a worker: {rt.run(brighten, np.zeros((512, 512), 'float32'))}")
    assert np.allclose(blurred[1:-1], shared[1:-1])
    assert moved.sent + moved.received < 1000
    assert not blurred.flags.writeable  # the worker may see it too: copy it before changing it


if __name__ == "__main__":
    main()
