"""Progress bars on standard error, for eyes only."""

from __future__ import annotations

import sys
from typing import Any, Iterable, Optional

from tqdm import tqdm

tqdm.monitor_interval = 0  # tqdm starts its monitor's thread under `except Exception`, which would swallow a Stopped


def progress_bar(items: Optional[Iterable] = None, shown: bool = True, leave: bool = False, **settings: Any) -> tqdm:
    """A bar over `items`, or one that the caller moves on; it shows only where standard error is a terminal.

    Args:
        leave: let it stand when it is full.    settings: of tqdm, such as `total`, `desc` and `unit`.
    """
    return tqdm(items, disable=not (shown and sys.stderr is not None and sys.stderr.isatty()), leave=leave, **settings)
