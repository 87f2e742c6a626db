"""Sessions of searching: a run from its flags to its best architectures, and the same from a script."""

from __future__ import annotations

from argparse import Namespace
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

from spos.core.errors import InputError
from spos.core.executors import open_executor
from spos.core.flags import RunOptions, as_json, fill, join_files, pick, split_files
from spos.core.stopping import StopRequest
from spos.core.tls import TlsOptions
from spos.data.flags import DataOptions
from spos.data.pixels import remove_images
from spos.data.registry import check_output
from spos.deploy.candidates import scorer_of
from spos.engine.compat import threads_of_each
from spos.engine.devices import make_devices, versions
from spos.engine.flags import DeviceOptions
from spos.latency.tables import files_of
from spos.native import build
from spos.runs.files import PathLike, file_digest, write_atomic
from spos.runs.journal import Journal
from spos.runs.lock import locked
from spos.runs.run import (
    ARRIVED_FILE,
    CONTENTS,
    HISTORY_FILE,
    LOG_FILE,
    check_run,
    open_run,
    open_run_directory,
    run_folder,
)
from spos.sampling.limits import Limits
from spos.scoring.job import ScoringJob, load_job_images
from spos.scoring.racing import Racing
from spos.scoring.trained import TrainedSupernet, open_together
from spos.search.ask_tell import Found
from spos.search.domain import Domain
from spos.search.finals import hold_all_finals
from spos.search.fine_tuning import FineTuning
from spos.search.flags import (
    INT8,
    ConstraintOptions,
    SearchOptions,
    check_not_shortened,
    check_reachable,
    check_score_dtype,
    check_search_flags,
    choice_of,
    flags_that_may_change,
    initial_architectures,
    make_domain,
    make_search,
    older_rows,
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
from spos.search.report import SearchLog, SearchLogRow, write_results
from spos.search.searcher import Searcher
from spos.search.surrogate import Forecasts
from spos.space.architecture import architecture_of
from spos.space.flags import SpaceOptions
from spos.space.space import SearchSpace

GROUPS = (RunOptions, SearchOptions, ConstraintOptions, DataOptions, SpaceOptions, DeviceOptions, TlsOptions)
DEFAULT_SAVE_DIR = "runs/search"


@dataclass(frozen=True)
class SearchFlags:
    """Everything the user gave, by group."""

    run: RunOptions
    search: SearchOptions
    limits: ConstraintOptions
    data: DataOptions
    space: SpaceOptions
    device: DeviceOptions
    tls: TlsOptions = TlsOptions()  # no part of the run: who may score, not what

    @classmethod
    def of(cls, args: Namespace) -> SearchFlags:
        return cls(
            pick(RunOptions, args),
            pick(SearchOptions, args),
            pick(ConstraintOptions, args),
            pick(DataOptions, args),
            pick(SpaceOptions, args),
            pick(DeviceOptions, args),
            pick(TlsOptions, args),
        )

    @property
    def save_dir(self) -> Path:
        """The run directory."""
        return Path(self.run.save_dir or DEFAULT_SAVE_DIR)


def search_supernet(
    supernet: Union[PathLike, Sequence[PathLike]],
    folder: PathLike,
    limits: Optional[Limits] = None,
    data: Optional[DataOptions] = None,
    latency_table: PathLike = "",
    seed: int = 0,
    num_gpus: int = 0,
    num_processes: int = 1,
    **search: Any,
) -> Found:
    """Search a trained supernet, or go on with it: the same call continues a search that was stopped or killed.

    Candidates are cut from the supernet, their BatchNorm statistics are updated on held-out training images, and their
    accuracy is measured on other held-out ones.

    Args:
        supernet: its parameters, as `train_supernet` returns them; of several supernets, the mean of their accuracies
            scores a candidate.
        folder: of the run: `best.json`, `top-N.json`, `history.jsonl` and more.
        limits: what an architecture may cost at most; nothing is limited by default.
        data: the images; those that the supernet was trained on by default.
        latency_table: file of a table that measures `limits.latency_ms`; where the input size is a choice, the files of
            all sizes, separated by commas.
        num_gpus, num_processes: a process scores on each GPU, or so many on the CPU, with the same result. With
            several, a script does its work under `if __name__ == "__main__":`, because each of them imports it.
        search: flags of a search by their names: search_mode, search_iters, population_size, retain_length, racing, ...
    Returns: all candidates and the best; a row has `top1`, `top1_interval` and what docs/history.md lists.
    Raises: InputError if the files or the limits cannot be used, or if `folder` holds another run; Stopped after Ctrl-C
        or SIGTERM.
    """
    limits = limits or Limits()
    supernets = [supernet] if isinstance(supernet, (str, Path)) else list(supernet)
    if data is None:
        run = run_folder(supernets[0])
        if run is None:
            raise InputError(f"{supernets[0]} does not lie in a run directory, which would say its images; give data")
        data = open_run_directory(run).flags(DataOptions)
    flags = SearchFlags(
        fill(RunOptions, save_dir=str(folder), seed=seed),
        fill(SearchOptions, supernet_params=join_files(supernets), **search),
        limits_as_flags(limits, latency_table),
        data,
        SpaceOptions(),
        fill(DeviceOptions, num_gpus=num_gpus, num_cpus_ctx=num_processes),
    )
    return run_search(flags)


def limits_as_flags(limits: Limits, latency_table: PathLike = "") -> ConstraintOptions:
    """The flags that mean these limits and no others."""
    constraints = limits.constraints()
    in_flags = {
        "flop_max_m": constraints.flop_max_m,
        "param_max_m": constraints.param_max_m,
        "latency_max": constraints.latency_max_ms,
        "score_max": constraints.score_max,
    }
    given = {name: -1.0 if value is None else value for name, value in in_flags.items()}
    return fill(ConstraintOptions, latency_table=str(latency_table), **given)


def run_search(flags: SearchFlags) -> Found:
    """Search what the flags describe to the end, or go on with it; then hold the finals, if there are any.

    Raises: InputError if they cannot be met; Stopped after a signal.
    """
    check_search_flags(flags.search)
    if flags.search.scheduler:
        flags.tls.check(flags.search.scheduler)
    elif flags.tls.is_given:
        raise InputError(f"{flags.tls.arguments[0]} is for --scheduler")
    save_dir = flags.save_dir
    check_output(flags.data, save_dir)
    with locked(save_dir):
        supernet = open_together(split_files(flags.search.supernet_params), flags.data, flags.space, save_dir)
        flags = replace(flags, data=supernet.data)
        num_processes = 1 if flags.search.scheduler else len(make_devices(flags.device))
        domain = make_domain(supernet.space, flags.search, flags.limits)
        check_reachable(domain, flags.search)
        check_score_dtype(flags.search, flags.device, domain)
        supernet.check()  # before anything is written

        config = describe_search(flags, supernet)
        may_change = flags_that_may_change(flags.search)
        check_not_shortened(check_run(save_dir, config, flags.run.resume, may_change), flags.search)
        shared = num_processes > 1 or bool(flags.search.scheduler)
        job = supernet.job(save_dir, flags.search.search_on, flags.device, shared)
        quantized, num_refit_images = flags.search.score_dtype == INT8, flags.search.refit_classifier
        job = replace(job, quantized=quantized, num_refit_images=num_refit_images)
        supernet.warn_of_lists(flags.search.search_on)
        history = open_history(save_dir / HISTORY_FILE)
        check_history(history.rows, job.identity, history.path)
        seeds = read_seeds(save_dir, job, flags.search)
        forecasts, older = Forecasts(), older_rows(seeds, domain, flags.search)
        search = make_search(
            domain,
            flags.search,
            flags.run.seed,
            initial_architectures(older, flags.search),
            forecasts=forecasts,
            rows=history.rows,
            older=older,
        )

        open_run(save_dir, {**config, "images": job.identity["images"]}, flags.run.resume, may_change)
        if seeds:
            write_atomic(save_dir / SEED_FILE, seed_lines(seeds))
        if shared:
            load_job_images(job)  # decoded once, before any worker needs them
        num_threads = threads_of_each(num_processes)
        with StopRequest("") as stop, open_executor(
            num_processes, num_threads, flags.search.scheduler, flags.tls
        ) as executor:
            if not flags.device.num_gpus:
                print(f"candidates run by {build.describe()}", flush=True)
            log = SearchLog(Journal(save_dir / LOG_FILE, SearchLogRow), forecasts)
            rows = make_searcher(domain, job, seeds, history, executor, stop, flags.search, log).run(search)
        training = FineTuning(save_dir, supernet, flags.search, flags.device, flags.run.seed)
        choice = choice_of(flags.search, domain, rows)
        finals = hold_all_finals(rows, flags.search, training, choice)
        source = origin(config, flags.search, flags.run.seed)
        write_results(save_dir, domain, rows, flags.search, source, finals, choice)
        remove_images(save_dir)
    return Found(supernet.space, tuple(rows), finals[""].winner if "" in finals else None, choice)


def describe_search(flags: SearchFlags, supernet: TrainedSupernet) -> Dict[str, Any]:
    """What `config.json` says; the images that score are added when they are known."""
    return {
        "program": "search_supernet.py",
        "options": as_json(*(getattr(flags, name) for name in vars(flags) if name != "tls")),
        "space": supernet.space.to_json(),
        "fingerprint": supernet.space.fingerprint,
        "supernet_sha256": ",".join(sorted(supernet.digests)),
        **latency_digest(flags.limits.latency_table, supernet.space),
        "data": supernet.dataset.name,
        CONTENTS: supernet.dataset.contents(),
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
    log: SearchLog,
) -> Searcher:
    """The searcher of a run, whose other journals lie beside its history."""
    save_dir = history.path.parent
    return Searcher(
        domain,
        target_of(options),
        scorer_of(job),
        history,
        Journal(save_dir / ARRIVED_FILE, ArrivedRow, with_check=True),
        executor,
        job.identity,
        racing_of(options, len(job.supernets)),
        {architecture_of(row): row for row in seeds},
        stop,
        log,
    )


def racing_of(options: SearchOptions, num_supernets: int) -> Optional[Racing]:
    """How candidates are dropped early, if the flags ask for it."""
    if not options.racing:
        return None
    return Racing(max(options.topk, options.retain_length), options.confidence, num_supernets)


def read_seeds(save_dir: Path, job: ScoringJob, options: SearchOptions) -> List[Row]:
    """The complete rows of --seed-history, from the copy in the run directory if there is one."""
    if not options.seed_history:
        return []
    copy = save_dir / SEED_FILE
    source = str(copy) if copy.is_file() else options.seed_history
    rows = read_history(source)
    check_history(rows, job.identity, source)
    return [row for row in rows if is_complete(row)]


def latency_digest(paths: str, space: SearchSpace) -> Dict[str, str]:
    """What `config.json` says of the latency table, if there is one, or of those of all input sizes."""
    digests = [file_digest(path) for path in files_of(paths, space)] if paths else []
    return {"latency_table_sha256": ",".join(digests)} if paths else {}


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
