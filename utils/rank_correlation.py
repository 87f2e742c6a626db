"""Does a supernet order architectures as training each of them alone does?

python -m utils.rank_correlation --supernet runs/supernet --num-architectures 40 --strata 5 --jobs 2 \\
    --save-dir runs/rank-correlation -- --dataset cifar10 --num-epochs 10 --lr 0.2 ...

Architectures are drawn uniformly from the supernet's space, as many from each stratum of FLOPs as from any other, and
each is trained alone by the recipe: the flags of train_imagenet.py behind `--`. Its accuracy on the test images is
compared with that by each supernet, on the held-out images after a BatchNorm update, by Kendall's tau-b: over all
pairs, over pairs of the same stratum, and beside orders that need no supernet, by FLOPs alone and by params alone. The
regret of a predictor's first k is what taking the best of them loses against the best of all. Intervals are 95%
percentiles of 2,000 bootstrap samples of the architectures, drawn inside the strata.

The same command goes on where it was stopped, also with other --jobs, more --supernet, more --seeds or more
architectures. Results lie in --save-dir:
  alone.jsonl         a network trained alone a line      networks/    their training runs
  supernets.jsonl     a score by a supernet a line        correlation.json    what is printed
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spos.command_line import OneLineParser, flag, not_negative, pick, positive, run_program, split_arguments
from spos.constraints import MILLION
from spos.cost import cost_table
from spos.intervals import Interval
from spos.options import JsonOptions
from spos.ranking import TOP_COUNTS, Correlation, Ranked, correlate, draw_stratified, kendall_tau
from spos.records import open_run, write_json
from spos.schedule import derive_rng
from spos.search_space import SearchSpace
from spos.tables import Column, Table, as_text
from utils.figures import DPI, check_format, save
from utils.stand_alone import Network, check_recipe, describe_run, first_rows, mean_top1, train_all
from utils.supernet_scores import open_supernets, score_all

POOL_SIZE = 10_000  # uniform draws whose FLOPs make the strata
FLOPS, PARAMS = "FLOPs", "params"  # predictors that need no supernet; the first is the baseline
RESULT_FILE = "correlation.json"


@dataclass(frozen=True)
class RankingOptions:
    """Which architectures are trained alone, and how many at a time."""

    save_dir: str = flag("runs/rank-correlation", "folder of the results")
    num_architectures: int = flag(40, "architectures, a multiple of --strata", type=positive)
    strata: int = flag(5, "strata of FLOPs", type=positive)
    seeds: int = flag(1, "seeds that each is trained with, from 0; the mean of their accuracies counts", type=positive)
    seed: int = flag(0, "of the draw of architectures and of the bootstrap", type=not_negative)
    jobs: int = flag(1, "trainings, and processes that score, at a time", type=positive)
    batch_size: int = flag(250, "images in a step of scoring", type=positive)


def main(argv: Optional[List[str]] = None) -> int:
    own, recipe = split_arguments(sys.argv[1:] if argv is None else argv)
    groups = (RankingOptions, JsonOptions)
    parser = OneLineParser(__doc__, groups)
    parser.add_argument("--supernet", type=Path, nargs="+", required=True, metavar="RUN", help="run of a supernet")
    parser.add_argument("--output", default="", help="figure of accuracies alone against predictions (PNG, SVG or PDF)")
    args = parser.parse_args(own)
    options, output = (pick(group, args) for group in groups)
    check_recipe(recipe)
    if args.output:
        check_format(args.output)
    supernets = open_supernets(args.supernet, options.batch_size)
    folder, space = Path(options.save_dir), supernets[0].space
    networks = plan(space, options)
    open_run(
        folder,
        describe_run("utils.rank_correlation", options, recipe, space),
        may_change=("num_architectures", "seeds"),
    )
    rows = train_all(networks, space, recipe, folder, options.jobs)
    architectures = list(mean_top1(rows))
    scores = score_all(supernets, architectures, folder, options.jobs)
    ranked = rank(rows, scores)
    correlations = correlate(ranked, FLOPS, derive_rng(options.seed, "bootstrap"))
    record = as_json(ranked, correlations, rows)
    write_json(folder / RESULT_FILE, record)
    if args.output:
        save(plot(ranked, correlations, costs_of(rows)), args.output)
    print(json.dumps(record) if output.json else text(ranked, correlations, rows))
    return 0


def plan(space: SearchSpace, options: RankingOptions) -> List[Network]:
    """The networks to be trained: all architectures with the first seed, then with the next."""
    rng, table = derive_rng(options.seed, "strata"), cost_table(space)
    architectures, strata = draw_stratified(
        lambda count: [space.sample(rng) for _ in range(count)],
        lambda architecture: table.cost(architecture).macs,
        options.num_architectures,
        options.strata,
        POOL_SIZE,
    )
    return [
        Network(architecture, seed, {"stratum": stratum})
        for seed in range(options.seeds)
        for architecture, stratum in zip(architectures, strata)
    ]


def rank(rows: Sequence[Mapping[str, Any]], scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> Ranked:
    """Truth and predictions of each architecture once, in the order of the rows."""
    predictors = {name: np.array([row["top1"] for row in own]) for name, own in scores.items()}
    strata = [row["stratum"] for row in first_rows(rows).values()]
    return Ranked(np.array(list(mean_top1(rows).values())), {**predictors, **costs_of(rows)}, np.array(strata))


def costs_of(rows: Sequence[Mapping[str, Any]]) -> Dict[str, np.ndarray]:
    """FLOPs and params of each architecture."""
    first = first_rows(rows).values()
    return {name: np.array([row[key] for row in first]) for name, key in ((FLOPS, "flops"), (PARAMS, "params"))}


def seed_agreement(rows: Sequence[Mapping[str, Any]]) -> Optional[float]:
    """Mean tau-b between the accuracies of two seeds: what no predictor of one seed can be expected to exceed."""
    by_seed: Dict[int, List[float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], []).append(row["top1"])
    pairs = [kendall_tau(*pair) for pair in combinations(by_seed.values(), 2)]
    return float(np.mean(pairs)) if pairs else None


def table(correlations: Mapping[str, Correlation]) -> Table:
    """A row for each predictor."""
    columns = (
        Column("predictor"),
        *(Column(name, title, spec="+.3f") for name, title in (("tau", "tau-b"), ("low", "95% from"), ("high", "to"))),
        *(Column(f"within_{name}", title, spec="+.3f") for name, title in WITHIN),
        *(Column(f"gain_{name}", title, spec="+.3f") for name, title in GAIN),
        *(Column(f"regret_{k}", f"regret@{k}", spec=".2%") for k in TOP_COUNTS),
    )
    rows = tuple(
        (name, *one.overall, *one.within, *(one.gain or (None,) * 3), *one.regrets.values())
        for name, one in correlations.items()
    )
    return Table("", columns, rows)


WITHIN = (("tau", "within strata"), ("low", "from"), ("high", "to"))
GAIN = (("tau", f"over {FLOPS}"), ("low", "from"), ("high", "to"))


def text(ranked: Ranked, correlations: Mapping[str, Correlation], rows: Sequence[Mapping[str, Any]]) -> str:
    """What is printed."""
    agreement = seed_agreement(rows)
    lines = [
        f"{len(ranked.truth)} architectures in {len(set(ranked.strata.tolist()))} strata of FLOPs, {len(rows)} networks"
        f" trained alone: top-1 {ranked.truth.min():.2%} to {ranked.truth.max():.2%}, mean {ranked.truth.mean():.2%}",
        as_text(table(correlations)),
    ]
    return "\n".join(lines + ([f"tau-b between two seeds of the same networks: {agreement:+.3f}"] if agreement else []))


def as_json(
    ranked: Ranked, correlations: Mapping[str, Correlation], rows: Sequence[Mapping[str, Any]]
) -> Dict[str, Any]:
    """The same for machines. An interval is [value, low, high]."""
    return {
        "architectures": len(ranked.truth),
        "networks": len(rows),
        "baseline": FLOPS,
        "seed_agreement": seed_agreement(rows),
        "predictors": {
            name: {
                "tau_b": list(one.overall),
                "tau_b_within_strata": list(one.within),
                "gain_over_baseline": list(one.gain) if one.gain else None,
                "regret": {str(k): value for k, value in one.regrets.items()},
            }
            for name, one in correlations.items()
        },
    }


def plot(ranked: Ranked, correlations: Mapping[str, Correlation], costs: Mapping[str, np.ndarray]) -> Figure:
    """A panel for each predictor, a colour for each stratum."""
    names = [*(name for name in ranked.predictors if name not in costs), *costs]
    num_rows = -(-len(names) // 3)
    figure = Figure(figsize=(10, 3.4 * num_rows), dpi=DPI)
    panels = figure.subplots(num_rows, min(3, len(names)), squeeze=False, sharey=True).ravel()
    for axes, name in zip(panels, names):
        is_cost = name in costs
        points = axes.scatter(
            ranked.predictors[name] / (MILLION if is_cost else 1),
            ranked.truth,
            c=ranked.strata + 1,
            cmap="viridis",
            s=18,
        )
        axes.set_title(f"{name}: tau-b {describe(correlations[name].overall)}", fontsize=9)
        axes.set_xlabel(f"{name} (M)" if is_cost else "top-1 by the supernet", fontsize=9)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        if not is_cost:
            axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.2)
    for axes in panels[:: min(3, len(names))]:
        axes.set_ylabel("top-1 trained alone", fontsize=9)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.tight_layout(rect=(0, 0, 0.93, 1))
    bar = figure.colorbar(points, cax=figure.add_axes((0.945, 0.15, 0.012, 0.7)), label="stratum of FLOPs")
    bar.set_ticks(sorted(set((ranked.strata + 1).tolist())))
    return figure


def describe(interval: Interval) -> str:
    return f"{interval.mean:.2f} ({interval.low:.2f} to {interval.high:.2f})"


if __name__ == "__main__":
    sys.exit(run_program(main))
