"""What `python utils/plot.py` says: figures are drawn by the package beside this file."""

import sys

sys.exit(
    "error: figures are drawn by `python -m utils.plot FIGURE`, from run directories instead of text logs: "
    "`python -m utils.plot training runs/supernet`, `python -m utils.plot search runs/search`"
)
