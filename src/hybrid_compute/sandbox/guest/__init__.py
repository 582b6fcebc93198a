"""What runs inside the sandbox, in an interpreter of its own: `prepare.py` makes a component of it, by componentize-py.

    app ── runner ──┬── library    modules, out of memory
                    ├── files      `open`, in memory
                    ├── output     `print`, up to a limit
                    └── loop       `asyncio.run`, without I/O

All of it is imported when the component is made, and is in its memory from then on. Nothing here protects the host: a
program may change whatever it finds here. What it cannot do is leave; that is WebAssembly's part. These modules make
it a place in which ordinary programs run, and in which what is not there is missed by a plain Python error.
"""
