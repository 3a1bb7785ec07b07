"""All parts, in the order in which they are measured."""

from . import (
    commands,
    growth,
    http,
    idle,
    imports,
    kept,
    latency,
    lookup,
    memory,
    streams,
    throughput,
    watchdog,
)

PARTS = {
    module.PART.name: module.PART
    for module in (
        throughput, latency, memory, kept, idle, imports, lookup, growth, watchdog, http, streams,
        commands,
    )
}  # fmt: skip
