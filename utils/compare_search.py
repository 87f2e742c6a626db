"""Genetic, SPOS, surrogate and random search at equal numbers of evaluations, over several seeds.

python -m utils.compare_search --use-se --last-conv-after-pooling --output comparison.png
python -m utils.compare_search --history runs/search/history.jsonl --evaluations 100
python -m utils.compare_search --supernet runs/search --evaluations 100 --seeds 5
python -m utils.compare_search --table nas_bench_macro_cifar10.json --format nas-bench-macro --evaluations 100

Without a table or supernet, fitness is additive: for every seed, each (choice block, block choice, channel choice)
draws a utility, and so does each pair of block choices of neighbouring choice blocks; the fitness of an architecture is
their sum. It is scaled so that uniformly drawn architectures have standard deviation 1. The optimum is known exactly by
dynamic programming; under limits an upper bound of it is, so the regret shown is an upper bound too. Only limits that
are given hold. With --noise, searches see a fitness to which normal noise is added, drawn once for each architecture,
and are judged by the fitness itself.

With --history, only the architectures of the file can be visited. Samples are uniform over them, a child is moved to
the nearest one that is not visited yet, and the optimum is the best of the file.

With --table, fitness is the accuracy that others measured: NAS-Bench-Macro, Channel-Bench-Macro, or a CSV or JSON file
of your own (docs/searching.md). A search sees the accuracies of one training seed, in turns for the seeds of the
comparison, and the architecture that it would choose by these is judged by the mean of the others: regret is what that
is below the best. Behind it are the regret of the best of all that it scored, which noise hides from it, and that of
the one that an additive model of all scores would choose (--choose-by model of a search).

With --supernet, fitness is the accuracy by the supernet of a search, within its limits. Every score is kept in the run,
so a comparison that was stopped goes on, and the optimum is not known.

All intervals are 95% Student's t intervals of a mean over the seeds. Gains over random search, or over --baseline, are
paired: both searches of a pair have the seed and the fitness in common.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from spos.core.errors import InputError
from spos.core.flags import JsonOptions, OneLineParser, pick, run_program
from spos.search.flags import ConstraintOptions, EvolutionOptions, evolution_settings
from spos.space.flags import SpaceOptions, use_blocks
from spos.study.flags import ComparisonOptions
from spos.study.strategies import BASELINE, SEARCHES, Result, Task, additive, by_supernet, compare, recorded, tabled
from spos.study.truth import TABLES
from utils.plot.strategies import plot
from utils.plot.style import figure_file, save


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, (ComparisonOptions, EvolutionOptions, SpaceOptions, ConstraintOptions, JsonOptions))
    parser.add_argument("--history", type=Path, help="history.jsonl of a search: the table to search in")
    parser.add_argument("--supernet", type=Path, help="run of search_supernet.py: score by its supernet")
    parser.add_argument("--table", default="", metavar="FILE", help="accuracies that others measured, to search in")
    parser.add_argument(
        "--format", choices=tuple(TABLES), default="csv", help="of the table; csv: your own [%(default)s]"
    )
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=[], help="some of them, and random [all]")
    parser.add_argument(
        "--baseline", choices=SEARCHES, default=BASELINE, help="search that gains are over, paired [%(default)s]"
    )
    parser.add_argument("--output", type=figure_file, help="figure of the best fitness so far (PNG, SVG or PDF)")
    args = parser.parse_args(argv)
    evolution, space = pick(EvolutionOptions, args), pick(SpaceOptions, args)
    limits, output = pick(ConstraintOptions, args), pick(JsonOptions, args)
    seeds = pick(ComparisonOptions, args).all_seeds
    sources = (("--history", args.history), ("--supernet", args.supernet), ("--table", args.table))
    given = [flag for flag, value in sources if value]
    use_blocks(space)
    if len(given) > 1 or (given and (replace(space, blocks=""), limits) != (SpaceOptions(), ConstraintOptions())):
        raise InputError(
            f"{given[0]} says what can be visited; leave out {', '.join(given[1:]) or 'flags of space and limits'}"
        )
    if given and args.noise:
        raise InputError(f"--noise is for additive fitness; leave it out with {given[0]}")
    settings = evolution_settings(evolution, args.evaluations)
    if args.supernet:
        with by_supernet(args.supernet) as make_task:
            results = compare(make_task, settings, args.evaluations, seeds, args.searches, args.baseline)
    else:
        make_task = make_source(args, space, limits)
        results = compare(make_task, settings, args.evaluations, seeds, args.searches, args.baseline)
    if args.output:
        save(plot(results), args.output)
    if output.json:
        print(json.dumps(as_json(results, args)))
    else:
        print(text(results, args))
    return 0


def make_source(args: Any, space: SpaceOptions, limits: ConstraintOptions) -> Callable[[int], Task]:
    """What is searched, but for a supernet."""
    if args.table:
        return tabled(args.table, args.format, args.evaluations)
    return recorded(args.history, args.evaluations) if args.history else additive(space, limits, args.noise)


def describe_oracle(args: Any) -> str:
    if args.supernet:
        return f"supernet of {args.supernet}"
    if args.history or args.table:
        return f"table {args.history or args.table}"
    return "additive" + (f" with noise {args.noise:g}" if args.noise else "")


def settings_rows(args: Any) -> List[Tuple[str, Any]]:
    return [
        ("oracle", describe_oracle(args)),
        ("evaluations", args.evaluations),
        ("seeds", f"{args.seed} to {args.seed + args.seeds - 1}"),
    ]


def text(results: Mapping[str, Result], args: Any) -> str:
    """A table with a line for every search."""
    regret = "regret at most (95% t)" if results[BASELINE].is_bound else "regret (95% t)"
    titles = ["search", "mean best fitness (95% t)", f"paired gain over {args.baseline} (95% t)", regret]
    is_judged = results[BASELINE].regret_of_scored is not None
    lines = [[*titles, "regret of the best scored (95% t)", "regret by the model (95% t)"] if is_judged else titles]
    for name, result in results.items():
        values = [result.best, result.gain, result.regret] + (
            [result.regret_of_scored, result.regret_by_model] if is_judged else []
        )
        lines.append([name, *(str(value) if value else "-" for value in values)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    head = [", ".join(f"{name} {value}" for name, value in settings_rows(args))]
    return "\n".join(head + ["  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in lines])


def as_json(results: Mapping[str, Result], args: Any) -> Dict[str, Any]:
    """The same numbers, and the curves."""
    found = {name: asdict(result) for name, result in results.items()}
    for name, result in results.items():
        for key in ("best", "gain", "regret", "regret_of_scored", "regret_by_model"):
            value = getattr(result, key)
            found[name][key] = None if value is None else value._asdict()
        found[name]["curve"] = [point.mean for point in result.curve]
        found[name]["curve_interval"] = [[point.low, point.high] for point in result.curve]
    return {**dict(settings_rows(args)), "interval": "95% Student's t over seeds", "searches": found}


if __name__ == "__main__":
    sys.exit(run_program(main))
