"""Rename the parameters of a supernet file that has a channel selector inside the chain of each main branch.

Such files come from implementations whose selector is a layer of its own: everything behind it stands one position
further. Subnet files need no conversion.

    python -m utils.convert_params old.params new.params
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_left
from typing import Dict, List, Optional

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, run_program
from spos.engine.parameters import load_arrays, save_arrays

SELECTOR_POSITIONS = {"sn": (1,), "sx": (3, 9)}  # in the chain that has them
_MAIN_BRANCH = re.compile(r"^(features\.\d+\.block_(sn|sx)_\w+\.main_branch\.)(\d+)(\..+)$")


def own_supernet_name(name: str) -> str:
    """Name in this project of a parameter that another file calls `name`."""
    return _move(name, lambda position, selectors: position - bisect_left(selectors, position))


def reference_supernet_name(name: str) -> str:
    """The inverse of `own_supernet_name`."""

    def moved(position: int, selectors) -> int:
        for selector in selectors:
            position += position >= selector
        return position

    return _move(name, moved)


def _move(name: str, new_position) -> str:
    match = _MAIN_BRANCH.match(name)
    if not match:
        return name
    prefix, family, position, rest = match.groups()
    return f"{prefix}{new_position(int(position), SELECTOR_POSITIONS[family])}{rest}"


def convert(arrays: Dict[str, object]) -> Dict[str, object]:
    """Renamed copy of a supernet's parameters. Raises InputError if they have no selector positions."""
    converted = {own_supernet_name(name): value for name, value in arrays.items()}
    occupied = [name for name in arrays if (m := _MAIN_BRANCH.match(name)) and int(m[3]) in SELECTOR_POSITIONS[m[2]]]
    if occupied or not any(_MAIN_BRANCH.match(name) for name in arrays):
        found = occupied[0] if occupied else next(iter(arrays), "nothing")
        raise InputError(
            f"these are not supernet parameters with channel selectors (found {found}); nothing to convert"
        )
    return converted


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, ())
    parser.add_argument("source", help="file with selector positions")
    parser.add_argument("target", help="file to write")
    args = parser.parse_args(argv)
    save_arrays(args.target, convert(load_arrays(args.source)))
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
