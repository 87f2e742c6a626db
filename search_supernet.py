"""Search a trained supernet for the best architecture under constraints.

Every candidate is cut from the supernet, its BatchNorm statistics are updated on training images, and its accuracy is
measured on images held out from training. Results lie in --save-dir: history.jsonl (every evaluation), best.json and
top-1.json, top-2.json ..., of a Pareto search also front.json and front-1.json, front-2.json ...  The same command
continues a search that was stopped.
"""

from __future__ import annotations

import hashlib
import sys
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional

from oneshot_nas_network import Supernet
from spos import assembly
from spos.checkpoint import load_parameters
from spos.data_set import DataSet
from spos.domain import Domain
from spos.errors import InputError
from spos.execution import candidate_evaluator
from spos.options import (
    SUPERNET,
    ConstraintOptions,
    DataOptions,
    DeviceOptions,
    OneLineParser,
    RunOptions,
    SearchOptions,
    SpaceOptions,
    as_json,
    pick,
    run_program,
)
from spos.pareto import parse_objectives, write_front
from spos.records import BEST_FILE, HISTORY_FILE, LISTS_FOLDER, Journal, find_config, open_run, write_json
from spos.reporting import table, warn
from spos.search_plan import make_domain, make_search
from spos.search_space import SearchSpace, format_choices
from spos.searcher import Searcher, Target, best_record, best_rows, mean_of_random, num_ties

GROUPS = (RunOptions, SearchOptions, ConstraintOptions, DataOptions, SpaceOptions, DeviceOptions)
DEFAULT_SAVE_DIR = "runs/search"
FLAG_OF_FIELD = {
    "layout": "channels_layout",
    "use_se": "use_se",
    "last_conv_after_pooling": "last_conv_after_pooling",
    "min_channel_choice": "ignore_first_two_cs",
}


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    run, options, constraint_options, data_options, space_options, device_options = (pick(g, args) for g in GROUPS)
    save_dir = Path(run.save_dir or DEFAULT_SAVE_DIR)
    if not Path(options.supernet_params).is_file():
        raise InputError(f"--supernet-params {options.supernet_params} does not exist; train a supernet first")
    trained = find_config(options.supernet_params)
    data = assembly.open_data(data_options)
    ctx = assembly.make_devices(device_options)
    space = supernet_space(space_options, data, trained, options.supernet_params)
    domain = make_domain(space, options, constraint_options)
    domain.check()
    net = Supernet(space)
    net.initialize(ctx=list(ctx))
    load_parameters(options.supernet_params, net)
    search = make_search(domain, options, run.seed)

    groups = (run, options, constraint_options, data_options, space_options, device_options)
    config = {
        "program": "search_supernet.py",
        "options": as_json(*groups),
        "space": space.to_json(),
        "fingerprint": space.fingerprint,
        "supernet_sha256": file_digest(options.supernet_params),
        **latency_digest(constraint_options.latency_table),
        "data": data.name,
        "versions": assembly.versions(),
    }
    open_run(save_dir, config, run.resume)
    data = assembly.with_lists(data, data_options, supernet_lists(options.supernet_params, trained, save_dir))
    scored = "search_val" if options.search_on == "holdout" else "test"
    evaluator = candidate_evaluator(net, data, data_options, save_dir, ctx, device_options.dtype, scored)
    target = Target(options.search_target, options.score_acc_ratio)
    searcher = Searcher(domain, target, evaluator, Journal(save_dir / HISTORY_FILE), report_iteration)
    rows = searcher.run(search)
    write_results(save_dir, domain, rows, options, origin(config, options, run.seed))
    print_summary(save_dir, rows)
    return 0


def supernet_lists(supernet_params: str, trained: Optional[Dict[str, Any]], save_dir: Path) -> Path:
    """Folder of the held-out lists: the supernet's own, so that no candidate is scored on its training images."""
    if trained is not None:
        return Path(supernet_params).resolve().parent / LISTS_FOLDER
    warn(
        f"{supernet_params} does not lie in a run directory, so nothing says which images it was trained on; "
        "accuracies may be too high"
    )
    return save_dir / LISTS_FOLDER


def supernet_space(
    options: SpaceOptions, data: DataSet, trained: Optional[Dict[str, Any]], supernet_params: str
) -> SearchSpace:
    """The space the supernet was trained in; that of the flags if its run is not known.

    Raises: InputError if the flags or the data contradict the supernet's run.
    """
    asked = assembly.make_space(options, data)
    if trained is None:
        return asked
    model = trained["options"]["model"]
    if model != SUPERNET:
        raise InputError(f"{supernet_params} was trained by --model {model}; a search needs a supernet ({SUPERNET})")
    space = SearchSpace.from_json(trained["space"], source=supernet_params)
    own = "leave the flag out to use the supernet's own"
    for field, flag in FLAG_OF_FIELD.items():
        given = getattr(options, flag) != getattr(SpaceOptions(), flag)
        if given and getattr(asked, field) != getattr(space, field):
            raise InputError(f"--{flag.replace('_', '-')}: {supernet_params} was trained in another space; {own}")
    for field, what in (("num_classes", "classes"), ("input_size", "px"), ("strides", "as strides")):
        trained_for, now = getattr(space, field), getattr(asked, field)
        if trained_for != now:
            raise InputError(f"{supernet_params} was trained for {trained_for} {what}, the data has {now}")
    return space


def report_iteration(iteration: int, rows: List[Dict[str, Any]]) -> None:
    """One line for an iteration."""
    best = best_rows(rows, 1)[0]
    mean = sum(row["top1"] for row in rows) / len(rows)
    print(
        f"iteration {iteration:3d}  {len(rows)} scored  mean top-1 {mean:.2%}  best {best['top1']:.2%} "
        f"({best['flops'] / 1e6:.1f}M FLOPs, {best['params'] / 1e6:.2f}M params)",
        flush=True,
    )


def file_digest(path: str) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(partial(file.read, 1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


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


def write_results(
    save_dir: Path, domain: Domain, rows: List[Dict[str, Any]], options: SearchOptions, origin: Dict
) -> None:
    """`best.json`, and `top-N.json` for each of the best; of a Pareto search the front too."""
    if options.search_mode == "nsga2":
        write_front(save_dir, domain, rows, parse_objectives(options.objectives), origin)
    for rank, row in enumerate(best_rows(rows, options.topk), 1):
        record = best_record(domain, row, origin).to_json()
        write_json(save_dir / f"top-{rank}.json", record)
        if rank == 1:
            write_json(save_dir / BEST_FILE, record)


def print_summary(save_dir: Path, rows: List[Dict[str, Any]]) -> None:
    """What was found, beside what chance gives."""
    best = best_rows(rows, 1)[0]
    count, mean = mean_of_random(rows)
    low, high = best["top1_interval"]
    lines = [
        ("architectures scored", len(rows)),
        ("best searched top-1", f"{best['top1']:.2%} (95% interval {low:.2%} to {high:.2%})"),
        ("mean of random ones", f"{mean:.2%} ({count} architectures)"),
        ("ties within the interval", num_ties(rows, best)),
        ("FLOPs", f"{best['flops'] / 1e6:.1f}M"),
        ("params", f"{best['params'] / 1e6:.2f}M"),
        ("block choices", format_choices(best["block_choices"])),
        ("channel choices", format_choices(best["channel_choices"])),
        ("written to", save_dir / BEST_FILE),
    ]
    print(table(lines))


if __name__ == "__main__":
    sys.exit(run_program(main))
