"""Search a trained supernet for the best architecture under constraints.

Every candidate is cut from the supernet, its BatchNorm statistics are updated on training images, and its accuracy is
measured on images held out from training. With --num-gpus N (or --num-cpus-ctx N) N processes score, with --scheduler
the workers of a Dask scheduler; the result is the same. The same command continues a search that was stopped, also
with other workers, or with more --search-iters.

Results lie in --save-dir:
  history.jsonl        every evaluation, in the order of the search (docs/history.md says what a row holds)
  best.json, top-N.json    the best architectures, each with its accuracy and how many tie with it
  front.json, front-N.json    of a Pareto search, or one with --budgets: what no other architecture beats
  budget-100M.json, control-100M.json    of each of --budgets: the best within it, and a random one
  control.json         a random architecture within the same limits
  log.jsonl            an iteration a line: seconds, evaluations, candidates per hour, dropped early, best top-1
  config.json          flags, search space, versions, and the checksum of the supernet
  seed_history.jsonl   what --seed-history gave, so that the search does not depend on that file any more
  arrived.jsonl        scores that wait for their turn in the history; there only while a search runs or was killed
  pixels/              decoded images, if they take too much memory or are shared; removed at the end
  lists/               held-out images, if the supernet does not lie in a run directory that has them
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from typing import List, Optional

from spos.core.flags import OneLineParser, run_program
from spos.search.report import summarize_search
from spos.search.session import GROUPS, SearchFlags, run_search


def main(argv: Optional[List[str]] = None) -> int:
    flags = SearchFlags.of(OneLineParser(__doc__, GROUPS).parse_args(argv))
    found = run_search(flags)
    print(summarize_search(flags.save_dir, found.rows, flags.search))
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
