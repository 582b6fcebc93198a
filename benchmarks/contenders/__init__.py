"""The groups of contenders, one module each: the limit, ours and the peers side by side."""

from __future__ import annotations

from benchmarks.contenders import (
    actions,
    arrays,
    asynchronous,
    burst,
    concurrent5,
    crowd,
    engine,
    gpu,
    instances,
    kernels,
    lag,
    lifecycle,
    outbox,
    remote,
    remote_arrays,
    requests,
    routing,
    sandbox,
    sockets,
    sync,
    tensors,
    trivial,
    wasm,
)

GROUPS = {
    module.group.name: module.group
    for module in (
        sync,
        asynchronous,
        concurrent5,
        trivial,
        burst,
        arrays,
        lifecycle,
        lag,
        outbox,
        routing,
        requests,
        sockets,
        remote,
        remote_arrays,
        crowd,
        engine,
        actions,
        wasm,
        instances,
        kernels,
        sandbox,
        gpu,
        tensors,
    )
}
