"""The machine that a program runs on: its processor, and the memory that is left."""

from __future__ import annotations

import platform
import resource
from contextlib import suppress
from pathlib import Path

_CONTROL_GROUPS = (  # limit and use, of version 2 and of version 1
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def processor_name() -> str:
    """The processor's model, as the kernel or, elsewhere than on Linux, Python says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def available_memory() -> int:
    """Bytes that this process can take without swapping, by the kernel, the container's limit and its own."""
    with open("/proc/meminfo", encoding="ascii") as file:
        rows = dict(line.split(":") for line in file)
    free = [int(rows["MemAvailable"].split()[0]) * 1024]
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    if own != resource.RLIM_INFINITY:
        free.append(own)
    for names in _CONTROL_GROUPS:
        with suppress(OSError, ValueError):  # there is no such group; "max" is no limit
            limit, used = (int(Path("/sys/fs/cgroup", name).read_text()) for name in names)
            free.append(limit - used)
    return max(0, min(free))
