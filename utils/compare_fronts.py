"""One search for many budgets against a search for each, or searches for a front, at equal evaluations.

python -m utils.compare_fronts --use-se --last-conv-after-pooling --score-max -1 --budgets flops:200,250,300,350,400
python -m utils.compare_fronts --use-se --last-conv-after-pooling --score-max -1 --flop-max-m 400 --objective flops

Fitness is additive, drawn anew for every seed, in standard deviations of uniformly drawn architectures, as in
utils.compare_search; with --noise, searches see it with normal noise and are judged without.

With --budgets, `--search-mode surrogate` searches once within each budget alone, --evaluations each, and once for all
budgets together, with --share times as many evaluations. Shown is the fitness of what is chosen within each budget.

With --objective, the front of fitness against that cost is searched by --search-mode surrogate-front, nsga2 and random,
--evaluations each. Shown is the best fitness within a budget as the mean over all budgets, from the smallest cost there
is to the limit (hypervolume), above the worst architecture that any of them scored.

All intervals are 95% Student's t intervals of a mean over the seeds; gains are paired.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import sys
from typing import Any, List, Optional

from spos.core.flags import JsonOptions, OneLineParser, pick, positive_number, run_program
from spos.core.tables import Column, Table, as_text
from spos.search.budgets import Budgets
from spos.search.costs import COSTS
from spos.search.flags import ConstraintOptions, EvolutionOptions, SearchOptions, evolution_settings
from spos.space.flags import SpaceOptions, use_blocks
from spos.study.flags import ComparisonOptions
from spos.study.fronts import compare_budgets, compare_fronts
from spos.study.strategies import additive


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, (ComparisonOptions, EvolutionOptions, SpaceOptions, ConstraintOptions, JsonOptions))
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--budgets", default="", help="as of search_supernet.py, like flops:200,300")
    what.add_argument("--objective", choices=tuple(COSTS), help="the cost of a front")
    parser.add_argument(
        "--share", type=positive_number, default=1.6, help="times as many for all budgets together [%(default)s]"
    )
    args = parser.parse_args(argv)
    evolution, space, limits = pick(EvolutionOptions, args), pick(SpaceOptions, args), pick(ConstraintOptions, args)
    seeds = pick(ComparisonOptions, args).all_seeds
    use_blocks(space)
    make_task = additive(space, limits, args.noise)
    if args.budgets:
        counts = args.evaluations, round(args.evaluations * args.share)
        settings = evolution_settings(evolution, counts[1])
        results: Any = compare_budgets(make_task, Budgets.parse(args.budgets), settings, counts, seeds)
        head = f"{counts[0]} evaluations for each budget alone, {counts[1]} for all together"
        titles = ["budget", "alone (95% t)", "together (95% t)", "paired gain (95% t)", "optimum at most"]
    else:
        options = SearchOptions(**vars(evolution), search_iters=args.evaluations)
        results = compare_fronts(make_task, args.objective, options, args.evaluations, seeds)
        head = f"front against {args.objective}, {args.evaluations} evaluations"
        titles = ["search", f"after {args.evaluations // 2} (95% t)", f"after {args.evaluations} (95% t)"]
        titles.append("paired gain over nsga2 (95% t)")
    if pick(JsonOptions, args).json:
        print(json.dumps({"settings": {**vars(args), "json": True}, "results": as_json(results)}))
    else:
        noise = f" with noise {args.noise:g}" if args.noise else ""
        title = f"additive fitness{noise}, {head}, seeds {seeds[0]} to {seeds[-1]}"
        rows = tuple((name, *map(cell, result)) for name, result in results.items())
        print(as_text(Table(title, tuple(map(Column, titles)), rows)))
    return 0


def cell(value: Any) -> Any:
    """An interval as text; none stays none."""
    return value if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def as_json(results: Any) -> Any:
    """Intervals as mean, low and high."""
    return {
        name: {key: value._asdict() if hasattr(value, "_asdict") else value for key, value in result._asdict().items()}
        for name, result in results.items()
    }


if __name__ == "__main__":
    sys.exit(run_program(main))
