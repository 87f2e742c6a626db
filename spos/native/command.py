"""The command that builds the native kernels: `python -m utils.build_native`, or `spos-build-native` if installed."""

from __future__ import annotations

from typing import List, Optional

from spos.core.flags import OneLineParser
from spos.core.stopping import StopRequest
from spos.native.build import COMPILERS, build

DESCRIPTION = "Build the native kernels for this machine's processor, if they are not there, and say where they are."


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(DESCRIPTION, ())
    parser.add_argument(
        "--compiler", help=f"of C++ (default: CXX, or the first of {', '.join(COMPILERS)} that is here)"
    )
    args = parser.parse_args(argv)
    with StopRequest("") as stop, stop.at_once():
        print(f"native kernels: {build(args.compiler)}")
    return 0
