"""Rank correlation: how well a supernet orders architectures as training each of them alone does.

python -m utils.rank_correlation --supernet runs/supernet --num-architectures 40 --strata 5 --jobs 2 \\
    --save-dir runs/rank-correlation -- --dataset cifar10 --num-epochs 10 --lr 0.2 ...

Architectures are drawn uniformly from the supernet's space, as many from each stratum of FLOPs as from any other, and
each is trained alone by the recipe: the flags of train_imagenet.py behind `--`. Its accuracy on the test images is
compared with that by each supernet, on the held-out images after a BatchNorm update, by Kendall's tau-b: over all
pairs, over pairs of the same stratum, and beside orders that need no supernet, by FLOPs alone and by params alone. The
regret of a predictor's first k is what taking the best of them loses against the best of all; within budgets, the
architectures up to each stratum stand for all. Intervals are 95%
percentiles of 2,000 bootstrap samples of the architectures, drawn inside the strata. `NAME/additive` is what a model
of all scores by the supernet NAME expects, in which every choice block adds what it is worth; `NAME/additive+FLOPs`
counts FLOPs too, the more the less the model explains of the scores. Of several supernets, the mean of their accuracies
is compared too.

With `--truth FILE` nothing is trained: accuracies are those that others measured, of NAS-Bench-Macro
(`--truth-format nas-bench-macro`) or in a table of your own. Architectures are drawn from it in the same way; the
additive models are held against all the others of the table too, which nobody has scored:

python -m utils.rank_correlation --supernet runs/supernet --num-architectures 500 --truth-format nas-bench-macro \\
    --truth nas_bench_macro_cifar10.json --save-dir runs/rank-correlation

Without --supernet the networks are trained, in the space of the flags (--space, --channels-layout ..) on the images of
the recipe, and orders by FLOPs and params are compared; supernets of this space can follow.

The same command goes on where it was stopped, also with other --jobs, more --supernet, more --seeds or more
architectures. Results lie in --save-dir:
  alone.jsonl         a network trained alone a line      networks/    their training runs
  truth.jsonl         the same of --truth                 correlation.json    what is printed
  supernets.jsonl     a score by a supernet a line
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from spos.core.errors import InputError
from spos.core.flags import JsonOptions, OneLineParser, changed_flags, pick, run_program, split_arguments
from spos.core.ranking import FEWEST, Correlation, Ranked, correlate
from spos.core.seeds import derive_rng
from spos.core.tables import as_text
from spos.data.flags import DataOptions
from spos.data.registry import open_data
from spos.data.space import make_space, sized_for
from spos.runs.files import file_digest, without_nan, write_atomic, write_json
from spos.runs.journal import as_lines
from spos.runs.lock import entered
from spos.scoring.many import name_of_scores, score_all
from spos.scoring.trained import open_supernets
from spos.space.flags import SpaceOptions, use_blocks
from spos.space.space import SearchSpace
from spos.study.alone import check_recipe, describe_run, mean_top1, train_all
from spos.study.flags import RankingOptions
from spos.study.rank import (
    ADDITIVE,
    FLOPS,
    PARAMS,
    WITH_FLOPS,
    costs_of,
    plan,
    rank,
    ranking_table,
    seed_agreement,
    tau_of_others,
    with_mean,
)
from spos.study.truth import TRUTH_FILE, TruthOptions, read_truth, rows_of
from utils.plot.ranking import plot
from utils.plot.style import figure_file, save

RESULT_FILE = "correlation.json"


def main(argv: Optional[List[str]] = None) -> int:
    own, recipe = split_arguments(sys.argv[1:] if argv is None else argv)
    parser = OneLineParser(__doc__, (RankingOptions, TruthOptions, SpaceOptions, JsonOptions))
    parser.add_argument(
        "--supernet", type=Path, nargs="+", default=[], metavar="RUN", help="run of a supernet, or a file in it"
    )
    parser.add_argument(
        "--baseline",
        default=FLOPS,
        help="predictor that gains are over, paired: FLOPs, params or a supernet's name [%(default)s]",
    )
    parser.add_argument("--output", type=figure_file, help="figure of accuracies alone against predictions")
    args = parser.parse_args(own)
    options, truth, output = pick(RankingOptions, args), pick(TruthOptions, args), pick(JsonOptions, args)
    check_truth(truth, recipe)
    space_flags = pick(SpaceOptions, args)
    use_blocks(space_flags)
    check_space_flags(space_flags, args.supernet, truth)
    supernets = open_supernets(args.supernet, options.batch_size) if args.supernet else []
    folder, space = Path(options.save_dir), supernets[0].space if supernets else space_of_recipe(space_flags, recipe)
    names = [name_of_scores(supernet, options.refit_classifier) for supernet in supernets]
    predictors = (FLOPS, PARAMS, *(name + ending for ending in ("", ADDITIVE, WITH_FLOPS) for name in names))
    if args.baseline not in predictors:
        raise InputError(f"--baseline {args.baseline}: predictors are {', '.join(predictors)}")
    networks = [] if truth.truth else plan(space, options)
    known = read_truth(truth, space) if truth.truth else {}
    measured = rows_of(known, options, space) if known else []
    config = describe_run("utils.rank_correlation", options, recipe, space)
    if truth.truth:
        config["options"].update(truth_format=truth.truth_format, truth=file_digest(truth.truth))  # wherever it lies
    with entered(folder, config, may_change=("num_architectures", "seeds")):
        rows = measured or train_all(networks, space, recipe, folder, options.jobs)
        architectures = list(mean_top1(rows))
        how = (folder, options.jobs, options.refit_classifier)
        scores = score_all(supernets, architectures, *how) if supernets else {}
        if measured:
            write_atomic(folder / TRUTH_FILE, as_lines(rows))
        ranked = with_mean(rank(rows, scores, space), list(scores))
        correlations = correlate(ranked, args.baseline, derive_rng(options.seed, "bootstrap"))
        record = as_json(ranked, correlations, rows, args.baseline)
        if len(known) > len(architectures) + FEWEST:
            record["others"] = tau_of_others(known, scores, space)
        record = without_nan(record)
        write_json(folder / RESULT_FILE, record)
    if args.output:
        save(plot(ranked, correlations, costs_of(rows)), args.output)
    print(json.dumps(record) if output.json else text(ranked, correlations, rows, args.baseline))
    if not output.json and "others" in record:
        others = ", ".join(f"{name} {tau_as_text(tau)}" for name, tau in record["others"].items())
        print(f"tau-b of the {len(known) - len(architectures):,} other networks of the table: {others}")
    return 0


def check_truth(truth: TruthOptions, recipe: Sequence[str]) -> None:
    """Raise InputError unless there is either a table of accuracies or a recipe of trainings."""
    if not truth.truth:
        check_recipe(recipe)
    elif recipe:
        raise InputError("--truth: nothing is trained, so no recipe may stand behind --")


def check_space_flags(flags: SpaceOptions, supernets: Sequence[Path], truth: TruthOptions) -> None:
    """Raise InputError if two things say the space, or if there is a table and no supernet to hold against it."""
    given = changed_flags(replace(flags, blocks=""))
    if supernets and given:
        raise InputError(f"--supernet says the space; leave out {given[0]}")
    if truth.truth and not supernets:
        raise InputError("--truth is what supernets are held against: give a --supernet")


def space_of_recipe(flags: SpaceOptions, recipe: Sequence[str]) -> SearchSpace:
    """That of a supernet with these flags on the images, and with the --strides, of a recipe."""
    args, _ = OneLineParser("", (SpaceOptions, DataOptions)).parse_known_args(recipe)
    options = replace(flags, strides=flags.strides or args.strides)
    return make_space(options, open_data(sized_for(pick(DataOptions, args), options)))


def text(
    ranked: Ranked,
    correlations: Mapping[str, Correlation],
    rows: Sequence[Mapping[str, Any]],
    baseline: str = FLOPS,
) -> str:
    """What is printed."""
    agreement = seed_agreement(rows)
    lines = [
        f"{len(ranked.truth)} architectures in {len(set(ranked.strata.tolist()))} strata of FLOPs, {len(rows)} networks"
        f" trained alone: top-1 {ranked.truth.min():.2%} to {ranked.truth.max():.2%}, mean {ranked.truth.mean():.2%}",
        as_text(ranking_table(correlations, baseline)),
    ]
    told = [] if agreement is None else [f"tau-b between two seeds of the same networks: {tau_as_text(agreement)}"]
    return "\n".join(lines + told)


def tau_as_text(tau: Optional[float]) -> str:
    """A rank correlation; that of an order which orders no pair is unknown."""
    return "unknown" if tau is None or math.isnan(tau) else f"{tau:+.3f}"


def as_json(
    ranked: Ranked,
    correlations: Mapping[str, Correlation],
    rows: Sequence[Mapping[str, Any]],
    baseline: str = FLOPS,
) -> Dict[str, Any]:
    """The same for machines. An interval is [value, low, high]; what is no number there is null in the file."""
    return {
        "architectures": len(ranked.truth),
        "networks": len(rows),
        "baseline": baseline,
        "seed_agreement": seed_agreement(rows),
        "predictors": {
            name: {
                "tau_b": list(one.overall),
                "tau_b_within_strata": list(one.within),
                "gain_over_baseline": list(one.gain) if one.gain else None,
                "regret": {str(k): value for k, value in one.regrets.items()},
                "regret_within_budgets": one.regret_within_budgets,
            }
            for name, one in correlations.items()
        },
    }


if __name__ == "__main__":
    sys.exit(run_program(main))
