"""Build the native kernels for the processor of this machine (docs/native.md); setup.sh does it.

python -m utils.build_native

Where they are built already, it says where. Programs use them from their next start on.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys

from spos.core.flags import run_program
from spos.native.command import main

if __name__ == "__main__":
    sys.exit(run_program(main))
