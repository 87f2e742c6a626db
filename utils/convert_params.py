"""Rename the parameters of a supernet file that has a channel selector inside the chain of each main branch.

Such files come from implementations whose selector is a layer of its own: everything behind it stands one position
further. Every program here reads them as they are, so this is for code that reads files itself. Subnet files need no
conversion.

    python -m utils.convert_params old.params new.params
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from typing import List, Optional

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, run_program
from spos.engine.parameters import load_arrays, load_named_arrays, save_arrays
from spos.space.original import has_selectors


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, ())
    parser.add_argument("source", help="file with selector positions")
    parser.add_argument("target", help="file to write")
    args = parser.parse_args(argv)
    if not has_selectors(load_named_arrays(args.source)):
        raise InputError(f"{args.source} holds no supernet with channel selectors; nothing to convert")
    save_arrays(args.target, load_arrays(args.source))
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
