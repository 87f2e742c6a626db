"""What a command that is run by its file finds as `spos`: of `python utils/merge_bn.py` Python searches `utils/` first.

The project's folder takes the place of the file's in the search path, as with `python -m utils.merge_bn`, and the
package that of this module. In the folders of larger commands, `python utils/report`, links to this file do the same.
"""

import sys
from pathlib import Path

if __name__ == "spos":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    del sys.modules["spos"]
    import spos  # noqa: F401
