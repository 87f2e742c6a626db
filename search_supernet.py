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

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional

from spos.core.errors import InputError
from spos.core.executors import open_executor
from spos.core.flags import OneLineParser, RunOptions, as_json, pick, run_program
from spos.core.stopping import StopRequest
from spos.data.flags import DataOptions
from spos.data.pixels import remove_images
from spos.data.registry import check_output, open_data, with_lists
from spos.engine.compat import threads_of_each
from spos.engine.devices import make_devices, versions
from spos.engine.flags import DeviceOptions
from spos.runs.files import file_digest, write_atomic
from spos.runs.journal import Journal
from spos.runs.run import ARRIVED_FILE, CONTENTS, HISTORY_FILE, LOG_FILE, check_run, find_config, open_run
from spos.scoring.job import ScoringJob, load_job_images, make_job, score, warn_of_short_lists
from spos.scoring.racing import Racing
from spos.scoring.supernet import check_supernet, supernet_lists, supernet_space
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
from spos.search.history import SEED_FILE, Row, check_history, is_complete, read_history
from spos.search.report import SearchLog, summarize_search, write_results
from spos.search.searcher import Searcher
from spos.space.flags import SpaceOptions
from spos.space.space import architecture_of

GROUPS = (RunOptions, SearchOptions, ConstraintOptions, DataOptions, SpaceOptions, DeviceOptions)
DEFAULT_SAVE_DIR = "runs/search"


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    groups = [pick(group, args) for group in GROUPS]
    run, options, constraint_options, data_options, space_options, device_options = groups
    check_search_flags(options)
    save_dir = Path(run.save_dir or DEFAULT_SAVE_DIR)
    if not Path(options.supernet_params).is_file():
        raise InputError(f"--supernet-params {options.supernet_params} does not exist; train a supernet first")
    trained = find_config(options.supernet_params)
    data = open_data(data_options)
    check_output(data, save_dir)
    num_processes = 1 if options.scheduler else len(make_devices(device_options))
    space = supernet_space(space_options, data, trained, options.supernet_params)
    domain = make_domain(space, options, constraint_options)
    domain.check()
    check_supernet(options.supernet_params, space)  # before anything is written

    config = {
        "program": "search_supernet.py",
        "options": as_json(*groups),
        "space": space.to_json(),
        "fingerprint": space.fingerprint,
        "supernet_sha256": file_digest(options.supernet_params),
        **latency_digest(constraint_options.latency_table),
        "data": data.name,
        CONTENTS: data.contents(),
        "versions": versions(),
    }
    may_change = flags_that_may_change(options)
    check_not_shortened(check_run(save_dir, config, run.resume, may_change), options)
    lists = supernet_lists(options.supernet_params, trained, save_dir)
    data = with_lists(data, data_options, lists)
    on_gpu = device_options.num_gpus > 0
    shared = num_processes > 1 or bool(options.scheduler)
    job = make_job(
        options.supernet_params,
        space,
        data_options,
        data,
        lists,
        options.search_on,
        on_gpu,
        device_options.dtype,
        save_dir,
        shared,
    )
    warn_of_short_lists(data, options.search_on, data_options.batch_size)
    history = Journal(save_dir / HISTORY_FILE)
    check_history(history.rows, job.identity, history.path)
    seeds = read_seeds(save_dir, job, options)
    search = make_search(domain, options, run.seed, initial_architectures(seeds, domain, options))

    open_run(save_dir, {**config, "images": job.identity["images"]}, run.resume, may_change)
    if seeds:
        write_atomic(save_dir / SEED_FILE, "".join(json.dumps(row) + "\n" for row in seeds))
    if shared:
        load_job_images(job)  # decoded once, before any worker needs them
    num_threads = threads_of_each(num_processes)
    with StopRequest("") as stop, open_executor(num_processes, num_threads, options.scheduler) as executor:
        searcher = Searcher(
            domain,
            target_of(options),
            partial(score, job),
            history,
            Journal(save_dir / ARRIVED_FILE),
            executor,
            job.identity,
            Racing(max(options.topk, options.retain_length), options.confidence) if options.racing else None,
            {architecture_of(row): row for row in seeds},
            stop,
            SearchLog(Journal(save_dir / LOG_FILE)),
        )
        rows = searcher.run(search)
    write_results(save_dir, domain, rows, options, origin(config, options, run.seed))
    print(summarize_search(save_dir, rows))
    remove_images(save_dir)
    return 0


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
