"""What makes `import mxnet` work in env/, also in notebooks and scripts that do not know this project.

`scripts/setup.sh` copies this file into the environment, where every Python imports it at its start. It needs nothing
but the standard library, and does nothing until MXNet is asked for; then `spos/engine/compat.py` comes first.
"""

import sys
from pathlib import Path

ROOT = str(Path(sys.prefix).parent)  # the folder that env/ lies in


class BeforeMxnet:
    """A finder of modules that finds none: it only hears that MXNet is about to be imported, once."""

    def find_spec(self, name, path=None, target=None):
        if name == "mxnet":
            sys.meta_path.remove(self)
            sys.path.append(ROOT)  # last: a checkout that is being worked in comes before the one that made env/
            try:
                import spos.engine.compat  # noqa: F401
            finally:
                sys.path.remove(ROOT)
        return None


sys.meta_path.insert(0, BeforeMxnet())
