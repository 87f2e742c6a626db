"""The results of a supernet run, a search and the training of its best architecture, in one table.

python -m utils.summarize runs/digits/supernet runs/digits/search runs/digits/oneshot
python -m utils.summarize runs/digits/supernet runs/digits/search runs/digits/oneshot runs/digits/control

A fourth run is that of a random network within the limits of the search, trained in the same way (train_oneshot.sh
--control).
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, pick, run_program
from spos.core.intervals import wilson_interval
from spos.core.tables import in_millions, table
from spos.runs.journal import read_rows
from spos.runs.run import (
    BEST_FILE,
    HISTORY_FILE,
    LOG_FILE,
    SEARCH_RUN,
    SUBNET_RUN,
    SUPERNET_RUN,
    open_run_directory,
)
from spos.search.budgets import Budgets
from spos.search.finals import chosen_of, read_choice, read_finals
from spos.search.flags import SearchOptions
from spos.search.history import NeededRow, best_rows, is_complete, mean_of_random, read_search_rows
from spos.search.report import SearchLogRow, budget_lines, model_lines
from spos.space.architecture import format_choices
from spos.space.architecture_file import load_architecture, parse_architecture
from spos.space.cost import count_architecture
from spos.space.flags import BlocksOptions, use_blocks
from spos.training.flags import TrainOptions, validated_on
from spos.training.log import EpochRow, is_over

Rows = List[Tuple[str, str]]


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, (BlocksOptions,))
    for name in ("supernet", "search", "subnet"):
        parser.add_argument(name, type=Path, help=f"run directory of the {name}")
    parser.add_argument("control", type=Path, nargs="?", help="run directory of a random network")
    args = parser.parse_args(argv)
    use_blocks(pick(BlocksOptions, args))
    for folder, wanted in zip(
        (args.supernet, args.search, args.subnet, args.control), (SUPERNET_RUN, SEARCH_RUN, SUBNET_RUN, SUBNET_RUN)
    ):
        if folder:
            check_kind(folder, wanted)
    rows = supernet_rows(args.supernet) + search_rows(args.search) + subnet_rows(args.subnet)
    folders = [args.supernet, args.search, args.subnet]
    if args.control:
        rows += control_rows(args.control)
        folders.append(args.control)
    print(table(rows))
    print("\nfiles")
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            print(f"  {path}")
    return 0


def check_kind(folder: Path, wanted: str) -> None:
    """Raise InputError for a run of another kind than its place says."""
    found = open_run_directory(folder).kind
    if found != wanted:
        raise InputError(f"{folder} is the run of a {found}, where that of a {wanted} belongs")


def supernet_rows(folder: Path) -> Rows:
    """Held-out accuracy of sampled architectures after the last epoch."""
    row = last_validated(folder)
    each = ", ".join(f"{top1:.1%}" for top1 in row["val_top1_each"])
    return [
        (
            "supernet top-1, held-out images",
            f"{row['val_top1']:.2%}  (mean of {len(row['val_top1_each'])} sampled architectures: {each})",
        )
    ]


def search_rows(folder: Path) -> Rows:
    """The best architecture beside the random ones."""
    history = read_search_rows(folder / HISTORY_FILE, NeededRow)
    if not any(map(is_complete, history)):
        raise InputError(f"the search in {folder} has scored nothing on all images so far")
    record = load_architecture(folder / BEST_FILE)
    finals, choice = read_finals(folder / BEST_FILE), read_choice(folder / BEST_FILE)
    best = chosen_of(folder / BEST_FILE, history) or best_rows(history, 1)[0]
    options = open_run_directory(folder).flags(SearchOptions)
    count, mean = mean_of_random(history, options.search_mode)
    low, high = best["top1_interval"]
    return [
        ("best architecture, blocks", format_choices(record.architecture.block_choices)),
        ("best architecture, channels", format_choices(record.architecture.channel_choices)),
        ("  FLOPs, params", f"{best['flops'] / 1e6:.2f}M, {best['params'] / 1e6:.3f}M"),
        *([("  finals", finals.text)] if finals else []),
        *([("  chosen by the model", choice.text)] if choice else []),
        (
            "  searched top-1",
            f"{best['top1']:.2%}  (95% interval {low:.2%} to {high:.2%}, {best['num_images']} images)",
        ),
        ("random architectures, mean top-1", f"{mean:.2%}  ({count}, same constraints, same images)"),
        ("architectures scored", str(len(history))),
        *model_lines(read_rows(folder / LOG_FILE, SearchLogRow)),
        *(budget_lines(folder, history, Budgets.parse(options.budgets)) if options.budgets else []),
    ]


def subnet_rows(folder: Path) -> Rows:
    """Test accuracy of the network trained from scratch."""
    rows = [("trained from scratch, test top-1", measured_top1(folder))]
    last = last_validated(folder)
    return rows + ([("  with averaged weights", f"{last['ema_top1']:.2%}")] if "ema_top1" in last else [])


def control_rows(folder: Path) -> Rows:
    """The same of a random network, with what it costs."""
    record = parse_architecture(open_run_directory(folder).config["architecture"], str(folder))
    cost = count_architecture(record.space, record.architecture)
    costs = f"{in_millions(cost.macs, 2)}, {in_millions(cost.params, 3)}"
    return [("a random network, trained alike", measured_top1(folder)), ("  FLOPs, params", costs)]


def measured_top1(folder: Path) -> str:
    """Of a subnet's run, with its 95% Wilson interval."""
    row = last_validated(folder)
    images = validated_on(open_run_directory(folder).options)
    low, high = wilson_interval(row["val_top1"] * row["val_images"], row["val_images"])
    return f"{row['val_top1']:.2%}  (95% interval {low:.2%} to {high:.2%}, {row['val_images']} {images})"


def last_validated(folder: Path) -> Dict[str, Any]:
    """The last row of a training log that has a validation. Raises InputError if the run is not finished."""
    run, rows = open_run_directory(folder), read_rows(folder / LOG_FILE, EpochRow)
    options = run.flags(TrainOptions)
    is_last = bool(rows) and (rows[-1]["epoch"] + 1 >= options.num_epochs or is_over(rows, options.patience))
    if not is_last or "val_top1" not in rows[-1]:
        raise InputError(f"the run in {folder} is not finished")
    return rows[-1]


if __name__ == "__main__":
    sys.exit(run_program(main))
