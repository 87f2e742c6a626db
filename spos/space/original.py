"""Names of parameters in the files of the original project, whose supernets have selectors between their layers."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Callable, Iterable, Tuple

ORIGINAL_PERMUTATION = "transpose_conv.weight"  # end of its name for the constant of a shuffle by convolution
# In its supernets a channel selector is a layer of its own, at these positions of a main branch.
SELECTOR_POSITIONS = {"sn": (1,), "sx": (3, 9)}
_MAIN_BRANCH = re.compile(r"^(features\.\d+\.block_(sn|sx)_\w+\.main_branch\.)(\d+)(\..+)$")


def has_selectors(names: Iterable[str]) -> bool:
    """Whether these are a supernet's parameters with the positions of the original project."""
    matches = [match for match in map(_MAIN_BRANCH.match, names) if match]
    return bool(matches) and not any(int(match[3]) in SELECTOR_POSITIONS[match[2]] for match in matches)


def without_selectors(name: str) -> str:
    """Name in this project of a parameter that a supernet file of the original calls `name`."""
    return _move(name, lambda position, selectors: position - bisect_left(selectors, position))


def with_selectors(name: str) -> str:
    """The inverse of `without_selectors`."""

    def moved(position: int, selectors: Tuple[int, ...]) -> int:
        for selector in selectors:
            position += position >= selector
        return position

    return _move(name, moved)


def _move(name: str, new_position: Callable[[int, Tuple[int, ...]], int]) -> str:
    match = _MAIN_BRANCH.match(name)
    if not match:
        return name
    prefix, family, position, rest = match.groups()
    return f"{prefix}{new_position(int(position), SELECTOR_POSITIONS[family])}{rest}"
