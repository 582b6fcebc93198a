"""The door of the sandbox: what the host calls, and what it offers. Imported once, when the component is made."""

from __future__ import annotations

import gc
import random

import wit_world  # type: ignore[import-not-found]  # componentize-py makes it of sandbox.wit

from hybrid_compute.sandbox.guest import library, runner

library.install()


class WitWorld(wit_world.WitWorld):  # type: ignore[misc]  # the name is componentize-py's
    """The exports of the component."""

    def run(self, job: str, input: str) -> tuple[str, str]:
        return runner.run(job, input)


runner.host = wit_world
runner.warm_up()

# At the first call the interpreter would seed `random` with 2500 bytes of the host's, one by one: 5 ms. The runner
# seeds it with one number.
random.seed = lambda *_arguments: None

# What exists now is never garbage. Not looking at it keeps its pages shared between all sandboxes.
gc.collect()
gc.freeze()
