"""Train a supernet (--model ShuffleNas), a subnet (--model ShuffleNas_fixArch) or a classifier of GluonCV's zoo.

Results lie in --save-dir: config.json, log.jsonl, checkpoints/ and, at the end, model.params. The same command
continues a run that was stopped.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from typing import List, Optional

from spos.core.flags import OneLineParser, run_program
from spos.training.flags import TrainingFlags
from spos.training.session import train

GROUPS = tuple(TrainingFlags.groups().values())


def main(argv: Optional[List[str]] = None) -> int:
    train(TrainingFlags.parse(OneLineParser(__doc__, GROUPS), argv))
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
