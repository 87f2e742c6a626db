"""MXNet's own im2rec, which packs a folder of images into RecordIO files, under this project's compatibility module.

python -m utils.im2rec --list --recursive data/mine/train data/images/train    # writes data/mine/train.lst
python -m utils.im2rec --num-thread 4 --resize 256 data/mine/train data/images/train    # .rec and .idx
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from spos.engine.compat import mx

if __name__ == "__main__":
    sys.argv[0] = str(Path(mx.__file__).parent / "tools" / "im2rec.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
