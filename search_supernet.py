"""Search a trained supernet for the best architecture under constraints.

Every candidate is cut from the supernet, its BatchNorm statistics are updated on training images, and its accuracy is
measured on images held out from training. With --num-gpus N (or --num-cpus-ctx N) N processes score, with --scheduler
the workers of a Dask scheduler; the result is the same. The same command continues a search that was stopped, also
with other workers, or with more --search-iters.

Results lie in --save-dir:
  history.jsonl        every evaluation, in the order of the search (docs/history.md says what a row holds)
  best.json, top-N.json    the best architectures, each with its accuracy and how many tie with it
  front.json, front-N.json    of a Pareto search: what no other architecture beats
  log.jsonl            an iteration a line: seconds, evaluations, candidates per hour, dropped early, best top-1
  config.json          flags, search space, versions, and the checksum of the supernet
  seed_history.jsonl   what --seed-history gave, so that the search does not depend on that file any more
  arrived.jsonl        scores that wait for their turn in the history; there only while a search runs or was killed
  pixels/              decoded images, if they take too much memory or are shared; removed at the end
  lists/               held-out images, if the supernet does not lie in a run directory that has them
"""

from __future__ import annotations

import sys
from argparse import Namespace
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from spos.core.executors import open_executor
from spos.core.flags import OneLineParser, RunOptions, as_json, pick, run_program
from spos.core.stopping import StopRequest
from spos.data.flags import DataOptions
from spos.data.pixels import remove_images
from spos.engine.compat import threads_of_each
from spos.engine.devices import make_devices, versions
from spos.engine.flags import DeviceOptions
from spos.runs.files import file_digest, write_atomic
from spos.runs.journal import Journal
from spos.runs.run import ARRIVED_FILE, HISTORY_FILE, LOG_FILE, check_run, open_run
from spos.scoring.job import ScoringJob, load_job_images, score
from spos.scoring.racing import Racing
from spos.scoring.trained import TrainedSupernet
from spos.search.domain import Domain
from spos.search.flags import (
    ConstraintOptions,
    SearchOptions,
    check_not_shortened,
    check_search_flags,
    flags_that_may_change,
    initial_architectures,
    make_domain,
    make_search,
    target_of,
)
from spos.search.history import (
    SEED_FILE,
    ArrivedRow,
    Row,
    check_history,
    is_complete,
    open_history,
    read_history,
    seed_lines,
)
from spos.search.report import SearchLog, SearchLogRow, summarize_search, write_results
from spos.search.searcher import Searcher
from spos.space.flags import SpaceOptions
from spos.space.space import architecture_of

GROUPS = (RunOptions, SearchOptions, ConstraintOptions, DataOptions, SpaceOptions, DeviceOptions)
DEFAULT_SAVE_DIR = "runs/search"


@dataclass(frozen=True)
class Flags:
    """Everything the user gave, by group."""

    run: RunOptions
    search: SearchOptions
    limits: ConstraintOptions
    data: DataOptions
    space: SpaceOptions
    device: DeviceOptions

    @classmethod
    def of(cls, args: Namespace) -> Flags:
        return cls(
            pick(RunOptions, args),
            pick(SearchOptions, args),
            pick(ConstraintOptions, args),
            pick(DataOptions, args),
            pick(SpaceOptions, args),
            pick(DeviceOptions, args),
        )


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    flags = Flags.of(args)
    check_search_flags(flags.search)
    save_dir = Path(flags.run.save_dir or DEFAULT_SAVE_DIR)
    supernet = TrainedSupernet.open(flags.search.supernet_params, flags.data, flags.space, save_dir)
    num_processes = 1 if flags.search.scheduler else len(make_devices(flags.device))
    domain = make_domain(supernet.space, flags.search, flags.limits)
    domain.check()
    supernet.check()  # before anything is written

    config = describe_search(flags, supernet)
    may_change = flags_that_may_change(flags.search)
    check_not_shortened(check_run(save_dir, config, flags.run.resume, may_change), flags.search)
    shared = num_processes > 1 or bool(flags.search.scheduler)
    job = supernet.job(save_dir, flags.search.search_on, flags.device, shared)
    supernet.warn_of_lists(flags.search.search_on)
    history = open_history(save_dir / HISTORY_FILE)
    check_history(history.rows, job.identity, history.path)
    seeds = read_seeds(save_dir, job, flags.search)
    search = make_search(domain, flags.search, flags.run.seed, initial_architectures(seeds, domain, flags.search))

    open_run(save_dir, {**config, "images": job.identity["images"]}, flags.run.resume, may_change)
    if seeds:
        write_atomic(save_dir / SEED_FILE, seed_lines(seeds))
    if shared:
        load_job_images(job)  # decoded once, before any worker needs them
    num_threads = threads_of_each(num_processes)
    with StopRequest("") as stop, open_executor(num_processes, num_threads, flags.search.scheduler) as executor:
        rows = make_searcher(domain, job, seeds, history, executor, stop, flags.search).run(search)
    remove_images(save_dir)
    write_results(save_dir, domain, rows, flags.search, origin(config, flags.search, flags.run.seed))
    print(summarize_search(save_dir, rows))
    return 0


def describe_search(flags: Flags, supernet: TrainedSupernet) -> Dict[str, Any]:
    """What `config.json` says; the images that score are added when they are known."""
    return {
        "program": "search_supernet.py",
        "options": as_json(*(getattr(flags, name) for name in vars(flags))),
        "space": supernet.space.to_json(),
        "fingerprint": supernet.space.fingerprint,
        "supernet_sha256": file_digest(supernet.params),
        **latency_digest(flags.limits.latency_table),
        "data": supernet.dataset.name,
        "versions": versions(),
    }


def make_searcher(
    domain: Domain,
    job: ScoringJob,
    seeds: Sequence[Row],
    history: Journal,
    executor: Executor,
    stop: StopRequest,
    options: SearchOptions,
) -> Searcher:
    """The searcher of a run, whose other journals lie beside its history."""
    save_dir = history.path.parent
    return Searcher(
        domain,
        target_of(options),
        partial(score, job),
        history,
        Journal(save_dir / ARRIVED_FILE, ArrivedRow, with_check=True),
        executor,
        job.identity,
        Racing(max(options.topk, options.retain_length), options.confidence) if options.racing else None,
        {architecture_of(row): row for row in seeds},
        stop,
        SearchLog(Journal(save_dir / LOG_FILE, SearchLogRow)),
    )


def read_seeds(save_dir: Path, job: ScoringJob, options: SearchOptions) -> List[Row]:
    """The complete rows of --seed-history, from the copy in the run directory if there is one."""
    if not options.seed_history:
        return []
    copy = save_dir / SEED_FILE
    source = str(copy) if copy.is_file() else options.seed_history
    rows = read_history(source)
    check_history(rows, job.identity, source)
    return [row for row in rows if is_complete(row)]


def latency_digest(path: str) -> Dict[str, str]:
    """What `config.json` says of the latency table, if there is one."""
    return {"latency_table_sha256": file_digest(path)} if path else {}


def origin(config: Dict[str, Any], options: SearchOptions, seed: int) -> Dict[str, Any]:
    """Where a searched architecture came from: no paths and no dates, so that equal searches write equal files."""
    return {
        "supernet_sha256": config["supernet_sha256"],
        "search_mode": options.search_mode,
        "evolution": options.evolution,
        "search_target": options.search_target,
        "search_on": options.search_on,
        "seed": seed,
        "data": config["data"],
    }


if __name__ == "__main__":
    sys.exit(run_program(main))
