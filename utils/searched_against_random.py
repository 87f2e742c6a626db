"""Searched architectures against random ones that cost the same, all trained from scratch by one recipe.

python -m utils.searched_against_random --architecture runs/search/best.json --num-random 10 --seeds 3 --jobs 2 \\
    --save-dir runs/searched-against-random -- --dataset cifar10 --num-epochs 10 --lr 0.2 ...

Random architectures are drawn uniformly from those of the same space whose FLOPs differ from a searched one's by at
most --tolerance; with several searched ones each gets an equal part of them. Every network is trained with the same
seeds by the recipe, the flags of train_imagenet.py behind `--`, and measured on the test images.

What is compared is the mean of a searched architecture's seeds with the mean of the random architectures, each itself
the mean of its seeds. The interval of the difference is Welch's, 95%: for one searched architecture over its seeds, for
all of them together over their means.

The same command goes on where it was stopped, also with other --jobs, more --seeds or more --num-random. Results lie in
--save-dir: alone.jsonl (a trained network a line), networks/ (their runs), comparison.json (what is printed).
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from spos.core.flags import (
    JsonOptions,
    OneLineParser,
    pick,
    run_program,
    split_arguments,
)
from spos.core.intervals import student_interval
from spos.core.tables import as_text
from spos.runs.files import write_json
from spos.runs.lock import entered
from spos.sampling.limits import MILLION
from spos.space.architecture_file import load_architecture
from spos.space.flags import BlocksOptions, use_blocks
from spos.study.alone import check_recipe, describe_run, train_all
from spos.study.flags import MatchOptions
from spos.study.matched import (
    RANDOM,
    Comparison,
    Row,
    check_searched,
    compare,
    group_means,
    matched_table,
    plan,
)

RESULT_FILE = "comparison.json"


def main(argv: Optional[List[str]] = None) -> int:
    own, recipe = split_arguments(sys.argv[1:] if argv is None else argv)
    parser = OneLineParser(__doc__, (MatchOptions, BlocksOptions, JsonOptions))
    parser.add_argument(
        "--architecture", nargs="+", required=True, metavar="FILE", help="searched architectures: best.json of searches"
    )
    args = parser.parse_args(own)
    options, output = pick(MatchOptions, args), pick(JsonOptions, args)
    check_recipe(recipe)
    use_blocks(pick(BlocksOptions, args))
    searched = [load_architecture(file) for file in args.architecture]
    check_searched(searched, args.architecture, options)
    networks = plan(searched, options)
    folder = Path(options.save_dir)
    config = describe_run("utils.searched_against_random", options, recipe, searched[0].space)
    config["architecture"] = [record.to_json() for record in searched]
    with entered(folder, config, may_change=("num_random", "seeds")):
        rows = train_all(networks, searched[0].space, recipe, folder, options.jobs)
        comparisons = compare(rows)
        record = as_json(rows, comparisons)
        write_json(folder / RESULT_FILE, record)
    print(json.dumps(record) if output.json else text(rows, comparisons))
    return 0


def text(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> str:
    flops = [row["flops"] / MILLION for row in rows]
    num_seeds = len({row["seed"] for row in rows})
    return (
        f"{len(rows)} networks of {min(flops):.3f}M to {max(flops):.3f}M FLOPs, {num_seeds} seeds each\n"
        f"{as_text(matched_table(rows, comparisons))}"
    )


def as_json(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> Dict[str, Any]:
    """The same for machines. An interval is [value, low, high]."""
    chance = [top1 for _, top1 in group_means(rows)[RANDOM]]
    return {
        "random": {"architectures": len(chance), "top1": list(student_interval(chance)), "each": chance},
        "searched": [{**one._asdict(), "top1": list(one.top1), "gain": list(one.gain)} for one in comparisons],
    }


if __name__ == "__main__":
    sys.exit(run_program(main))
