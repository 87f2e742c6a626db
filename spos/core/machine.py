"""The machine that a program runs on."""

from __future__ import annotations

import platform
from pathlib import Path


def processor_name() -> str:
    """The processor's model, as the kernel or, elsewhere than on Linux, Python says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
