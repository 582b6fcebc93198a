"""Two real servers, called without pause while their processes are killed: is anything lost, done twice, or kept?

    python -m benchmarks.soak [--minutes N] [--seed N] [--callers N]

    callers ── calls, keyed calls, streams, batches ──> Runtime ── HTTP and WebSocket ──> steady   loses its workers
                                                                └─ HTTP and WebSocket ──> mortal   loses its life, too

Every task leaves a mark in a file when it begins. At the end the marks are compared with what the callers were told:

    every call has ended, once, with a result or with an error of a place
    a call with a result has begun once, one that was refused has not, and none has begun twice
    a stream has brought its items in their order, up to its end or to its error
    who died has left no process behind
    the last third of the time took no more memory, and no more open files, than the first
"""
