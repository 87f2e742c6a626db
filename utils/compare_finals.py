"""Finals of searches, judged: is who was left better than who was first?

python -m utils.compare_finals runs/search runs/search-1 --truth-format nas-bench-macro \\
    --truth nas_bench_macro_cifar10.json
python -m utils.compare_finals runs/search-0 runs/search-1 runs/search-2 --seeds 3 --jobs 2 --save-dir runs/finals \\
    -- --dataset cifar10 --num-epochs 20 --lr 0.2 ...

For every search with --finalists, and for each of its --budgets: the accuracy of the architecture that the search put
first, and of who was left by the finals. With --truth, the accuracy that others measured, and that of all finalists on
average. With a recipe behind `--`, flags of train_imagenet.py, both are trained from scratch with the same seeds and
measured on the test images; so is the first once more with as many epochs more as its finals have cost.

Below, what was gained: 95% Student's t intervals over the lines. Lines of one search share its history, so they are not
wholly independent.

Trainings go on where they were stopped, by the same command, also with other --jobs or more --seeds. They lie in
--save-dir: alone.jsonl (a trained network a line), networks/ (their runs), finals.json (what is printed).
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from spos.core.errors import InputError
from spos.core.flags import JsonOptions, OneLineParser, changed_flags, pick, run_program, split_arguments
from spos.core.intervals import Interval
from spos.core.tables import Column, Table, as_text
from spos.runs.files import write_json
from spos.runs.lock import entered
from spos.space.flags import BlocksOptions, use_blocks
from spos.study.alone import check_recipe, describe_run, train_all
from spos.study.finals import (
    FinalsTruth,
    TrainedFinals,
    finals_of,
    gains,
    judge,
    plan,
    trained_gains,
    true_finals,
)
from spos.study.flags import FinalsOptions
from spos.study.truth import TruthOptions

RESULT_FILE = "finals.json"


def main(argv: Optional[List[str]] = None) -> int:
    own, recipe = split_arguments(sys.argv[1:] if argv is None else argv)
    parser = OneLineParser(__doc__, (TruthOptions, FinalsOptions, BlocksOptions, JsonOptions))
    parser.add_argument("searches", type=Path, nargs="+", help="run directories of searches")
    args = parser.parse_args(own)
    truth, output = pick(TruthOptions, args), pick(JsonOptions, args)
    if bool(truth.truth) == bool(recipe):
        raise InputError("give either --truth, the file of true accuracies, or a recipe behind --, to train by")
    use_blocks(pick(BlocksOptions, args))
    training = pick(FinalsOptions, args)
    if recipe:
        return train(args.searches, training, recipe, output)
    for name in changed_flags(training):
        raise InputError(f"{name} is for a recipe behind --; with --truth nothing is trained")
    rows = [row for run in args.searches for row in true_finals(run, truth)]
    if output.json:
        gained = gains(rows)
        found = {"over_first": gained[0]._asdict(), "over_mean": gained[1]._asdict()} if gained else None
        print(json.dumps({"finals": [row._asdict() for row in rows], "gain": found}))
    else:
        print(as_text(truth_table(rows)))
    return 0


def train(searches: Sequence[Path], options: FinalsOptions, recipe: Sequence[str], output: JsonOptions) -> int:
    check_recipe(recipe)
    spaces, held = zip(*map(finals_of, searches))
    for space, run in zip(spaces, searches):
        if space != spaces[0]:
            raise InputError(f"{run} searched another space than {searches[0]}")
    finals = [one for own in held for one in own]
    networks, folder = plan(finals, recipe, options), Path(options.save_dir)
    config = describe_run("utils.compare_finals", options, recipe, spaces[0])
    config["architecture"] = [f"{one.first} {one.left} {one.epochs}" for one in finals]
    with entered(folder, config, may_change=("seeds",)):
        rows = judge(finals, train_all(networks, spaces[0], recipe, folder, options.jobs), recipe)
        result = as_json(rows)
        write_json(folder / RESULT_FILE, result)
    print(json.dumps(result) if output.json else as_text(trained_table(rows, options.seeds)))
    return 0


def as_json(rows: Sequence[TrainedFinals]) -> Dict[str, Any]:
    """The same for machines. An interval is [value, low, high]."""
    gained = trained_gains(rows)
    found = {role: list(gain) for role, gain in gained.items()} if gained else None
    return {"finals": [row._asdict() for row in rows], "gain": found}


def truth_table(rows: Sequence[FinalsTruth]) -> Table:
    """A line for each, and the gains below."""
    columns = (
        *(Column("search"), Column("budget"), Column("finalists")),
        Column("first", "first by the search", spec=".3%"),
        Column("left", "left by the finals", spec=".3%"),
        Column("mean", "mean of the finalists", spec=".3%"),
        Column("best", "best of them", spec=".3%"),
    )
    lines = tuple((row.search, row.budget or None, *row[2:]) for row in rows)
    names = ("first by the search", "the mean of the finalists")
    notes = [said(f"Left by the finals against {name}", gain) for name, gain in zip(names, gains(rows) or ())]
    return Table("", columns, lines, tuple(notes))


def trained_table(rows: Sequence[TrainedFinals], num_seeds: int) -> Table:
    """The same of networks that were trained for it."""
    columns = (
        *(Column("search"), Column("budget"), Column("finalists")),
        Column("first", "first by the search", spec=".2%"),
        Column("left", "left by the finals", spec=".2%"),
        Column("longer", "the first, trained longer", spec=".2%"),
        Column("longer_epochs", "its epochs"),
    )
    lines = tuple((row.search, row.budget or None, *row[2:]) for row in rows)
    names = ("Left by the finals", "The first, trained longer,")
    gained = (trained_gains(rows) or {}).values()
    notes = [said(f"{name} against the first by the search", gain) for name, gain in zip(names, gained)]
    return Table("", columns, lines, (f"Test top-1, means of {num_seeds} seeds.", *notes))


def said(what: str, gain: Interval) -> str:
    return f"{what}: {gain.mean:+.3%} (95% {gain.low:+.3%} to {gain.high:+.3%})."


if __name__ == "__main__":
    sys.exit(run_program(main))
