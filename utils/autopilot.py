"""Images, a limit and some hours: a plan, and then a network to deploy with a page that explains it.

sh scripts/autopilot.sh --data-dir PICTURES --flops-max-m 60 --hours 8
sh scripts/autopilot.sh --data-dir PICTURES.csv --model-size-max 2MB --hours 1 --plan-only
sh scripts/autopilot.sh --data-dir digits --params-max-m 0.5 --hours 0.5 --save-dir runs/digits-autopilot

It looks at the images, measures what training takes here, and says what it is going to do and how long each stage
takes. Then it does it: supernet, search, the searched network and a random one within the same limit, ONNX in float32
and INT8, report. The same command goes on after Ctrl-C, a crash or a power cut. If a stage takes longer than planned,
later ones become shorter, so that the hours hold; with --plan FILE nothing is decided anew. Results in --save-dir:
  plan.json     what is going to be done, may be edited     report.html      all of it, also while it runs
  flight.json   how far it is                               searched/model.onnx, model-int8.onnx    the network
  outcome.json  what came out                               supernet/, search/, searched/, control/    the runs
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from typing import List, Optional

from spos.core.flags import OneLineParser, pick, run_program
from spos.pilot.flags import AutopilotOptions, ValueOptions
from spos.pilot.session import run


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, (AutopilotOptions, ValueOptions)).parse_args(argv)
    run(pick(AutopilotOptions, args), pick(ValueOptions, args))
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
