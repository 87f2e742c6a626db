"""Genetic, SPOS and random search at equal numbers of evaluations, over several seeds.

python -m utils.compare_search --use-se --last-conv-after-pooling --output comparison.png
python -m utils.compare_search --history runs/search/history.jsonl --evaluations 100
python -m utils.compare_search --supernet runs/search --evaluations 100 --seeds 5

Without a table or supernet, fitness is additive: for every seed, each (choice block, block choice, channel choice)
draws a utility, and so does each pair of block choices of neighbouring choice blocks; the fitness of an architecture is
their sum. It is scaled so that uniformly drawn architectures have standard deviation 1. The optimum is known exactly by
dynamic programming; under limits an upper bound of it is, so the regret shown is an upper bound too. Only limits that
are given hold.

With --history, only the architectures of the file can be visited. Samples are uniform over them, a child is moved to
the nearest one that is not visited yet, and the optimum is the best of the file.

With --supernet, fitness is the accuracy by the supernet of a search, within its limits. Every score is kept in the run,
so a comparison that was stopped goes on, and the optimum is not known.

All intervals are 95% Student's t intervals of a mean over the seeds. Differences to random search are paired: both
searches of a pair have the seed and the fitness in common.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from spos.architectures import fit, space_of
from spos.command_line import OneLineParser, not_negative, pick, positive, run_program
from spos.errors import InputError
from spos.evolution import GeneticSettings, Search, genetic_search, random_search, spos_search
from spos.intervals import Interval, student_interval
from spos.options import ConstraintOptions, EvolutionOptions, JsonOptions, SearchOptions, SpaceOptions
from spos.oracles import AdditiveOracle, RecordedDomain
from spos.records import read_rows
from spos.schedule import derive_rng
from spos.search_plan import make_domain
from spos.search_space import Architecture
from utils.plot import BLUE, DPI, GREY, ORANGE, check_format, save

Oracle = Callable[[Architecture], float]
BASELINE = "random"
COLORS = {"genetic": BLUE, "spos": ORANGE, BASELINE: GREY}


class Task(NamedTuple):
    """What is searched under one seed. `optimum` is the highest fitness there is, or an upper bound, if known."""

    domain: Any  # Domain, or what stands for it
    oracle: Oracle
    optimum: Optional[float] = None
    is_bound: bool = False


@dataclass(frozen=True)
class Result:
    """One search over all seeds. `curve` is the best fitness after each evaluation, averaged over the seeds."""

    best: Interval
    gain: Optional[Interval]  # over random search; None for random search itself
    regret: Optional[Interval]
    curve: List[Interval]
    is_bound: bool = False  # of the regret: it may be smaller


def main(argv: Optional[List[str]] = None) -> int:
    groups = (EvolutionOptions, SpaceOptions, ConstraintOptions, JsonOptions)
    parser = OneLineParser(__doc__, groups)
    parser.add_argument("--history", type=Path, help="history.jsonl of a search: the table to search in")
    parser.add_argument("--supernet", type=Path, help="run of search_supernet.py: score by its supernet")
    parser.add_argument("--evaluations", type=positive, default=500, help="architectures a search scores [%(default)s]")
    parser.add_argument("--seeds", type=positive, default=20, help="seeds, at least 2 [%(default)s]")
    parser.add_argument("--seed", type=not_negative, default=0, help="the first of them [%(default)s]")
    parser.add_argument("--output", default="", help="figure of the best fitness so far (PNG, SVG or PDF)")
    args = parser.parse_args(argv)
    evolution, space, limits, output = (pick(group, args) for group in groups)
    if args.output:
        check_format(args.output)
    if args.seeds < 2:
        raise InputError("--seeds must be at least 2: an interval needs more than one")
    given = [flag for flag, value in (("--history", args.history), ("--supernet", args.supernet)) if value]
    if len(given) > 1 or (given and (space, limits) != (SpaceOptions(), ConstraintOptions())):
        raise InputError(
            f"{given[0]} says what can be visited; leave out {', '.join(given[1:]) or 'flags of space and limits'}"
        )
    settings = GeneticSettings(
        evolution.population_size,
        evolution.retain_length,
        evolution.random_select,
        evolution.mutate_chance,
        args.evaluations,
    )
    if args.history:
        make_task = recorded(args.history, args.evaluations)
    else:
        make_task = by_supernet(args.supernet) if args.supernet else additive(space, limits)
    results = compare(make_task, settings, args.evaluations, range(args.seed, args.seed + args.seeds))
    if args.output:
        save(plot(results), args.output)
    if output.json:
        print(json.dumps(as_json(results, args)))
    else:
        print(text(results, args))
    return 0


def additive(space_options: SpaceOptions, limits: ConstraintOptions) -> Callable[[int], Task]:
    """Another additive oracle for every seed. Without limits given there are none."""
    space = fit(space_of(space_options), space_options)
    no_default = limits if limits.score_max is not None else replace(limits, score_max=-1.0)
    domain = make_domain(space, SearchOptions(), no_default)
    domain.check()

    def make_task(seed: int) -> Task:
        oracle = AdditiveOracle.draw(space, derive_rng(seed, "oracle"))
        return Task(domain, oracle, oracle.optimum(domain), bool(domain.constraints.limits()))

    return make_task


def recorded(history: Path, num_evaluations: int) -> Callable[[int], Task]:
    """The same table for every seed."""
    if not history.is_file():
        raise InputError(f"--history {history} does not exist")
    domain = RecordedDomain.from_rows(read_rows(history), str(history))
    if len(domain.scores) <= num_evaluations:
        raise InputError(
            f"--evaluations {num_evaluations} would score all {len(domain.scores)} architectures of {history}"
        )
    task = Task(domain, domain, max(domain.scores.values()))
    return lambda seed: task


def by_supernet(run: Path) -> Callable[[int], Task]:
    """The same supernet for every seed."""
    from utils.supernet_oracle import open_search  # MXNet takes seconds to load

    domain, oracle = open_search(run)
    return lambda seed: Task(domain, oracle, None)


def searches(settings: GeneticSettings) -> Dict[str, Callable[[Any, np.random.Generator], Search]]:
    """What is compared, by name."""
    return {
        "genetic": lambda domain, rng: genetic_search(domain, settings, rng),
        "spos": lambda domain, rng: spos_search(domain, settings, rng),
        BASELINE: lambda domain, rng: random_search(domain, settings.num_iterations, settings.population_size, rng),
    }


def compare(
    make_task: Callable[[int], Task], settings: GeneticSettings, num_evaluations: int, seeds: range
) -> Dict[str, Result]:
    """Run every search under every seed.

    Args:
        make_task: domain and fitness of a seed; any function of an architecture will do, a supernet's too.
        settings: `num_iterations` must suffice for `num_evaluations`.
    """
    makers = searches(settings)
    curves: Dict[str, List[np.ndarray]] = {name: [] for name in makers}
    optima, is_bound = [], False
    for seed in tqdm(seeds, desc="seeds", unit="seed", disable=not sys.stderr.isatty(), leave=False):
        task = make_task(seed)
        optima.append(np.nan if task.optimum is None else task.optimum)
        is_bound |= task.is_bound
        for name, make in makers.items():
            search = make(task.domain, derive_rng(seed, "comparison"))
            curves[name].append(best_so_far(search, task.oracle, num_evaluations))
    return summarize({name: np.array(rows) for name, rows in curves.items()}, np.array(optima), is_bound)


def best_so_far(search: Search, oracle: Oracle, num_evaluations: int) -> np.ndarray:
    """Highest fitness after each evaluation. The last generation is cut where the evaluations end.

    A search whose domain is used up earlier keeps its best.
    """
    fitness: List[float] = []
    generation = next(search, None)
    while generation is not None and len(fitness) < num_evaluations:
        scores = [oracle(architecture) for architecture in generation]
        fitness += scores
        try:
            generation = search.send(scores)
        except StopIteration:
            break
    best = np.maximum.accumulate(fitness[:num_evaluations])
    return np.pad(best, (0, num_evaluations - len(best)), mode="edge")


def summarize(curves: Mapping[str, np.ndarray], optima: np.ndarray, is_bound: bool = False) -> Dict[str, Result]:
    """Args: curves: for every search (seeds, evaluations); optima: (seeds,), nan where none is known."""
    last = {name: rows[:, -1] for name, rows in curves.items()}
    return {
        name: Result(
            student_interval(final),
            None if name == BASELINE else student_interval(final - last[BASELINE]),
            None if np.isnan(optima).any() else student_interval(optima - final),
            [student_interval(column) for column in curves[name].T],
            is_bound,
        )
        for name, final in last.items()
    }


def describe_oracle(args: Any) -> str:
    if args.supernet:
        return f"supernet of {args.supernet}"
    return f"table {args.history}" if args.history else "additive"


def settings_rows(args: Any) -> List[Tuple[str, Any]]:
    return [
        ("oracle", describe_oracle(args)),
        ("evaluations", args.evaluations),
        ("seeds", f"{args.seed} to {args.seed + args.seeds - 1}"),
    ]


def text(results: Mapping[str, Result], args: Any) -> str:
    """A table with a line for every search."""
    regret = "regret at most (95% t)" if results[BASELINE].is_bound else "regret (95% t)"
    lines = [("search", "mean best fitness (95% t)", "paired gain over random (95% t)", regret)]
    for name, result in results.items():
        cells = (str(value) if value else "-" for value in (result.best, result.gain, result.regret))
        lines.append((name, *cells))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    head = [", ".join(f"{name} {value}" for name, value in settings_rows(args))]
    return "\n".join(head + ["  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in lines])


def as_json(results: Mapping[str, Result], args: Any) -> Dict[str, Any]:
    """The same numbers, and the curves."""
    found = {name: asdict(result) for name, result in results.items()}
    for name, result in results.items():
        for key in ("best", "gain", "regret"):
            value = getattr(result, key)
            found[name][key] = None if value is None else value._asdict()
        found[name]["curve"] = [point.mean for point in result.curve]
        found[name]["curve_interval"] = [[point.low, point.high] for point in result.curve]
    return {**dict(settings_rows(args)), "interval": "95% Student's t over seeds", "searches": found}


def plot(results: Mapping[str, Result]) -> Figure:
    """Mean best fitness so far over the evaluations; bands are the intervals."""
    figure = Figure(figsize=(7, 4.2), dpi=DPI)
    axes = figure.subplots()
    for name, result in results.items():
        mean, low, high = np.array(result.curve).T
        evaluations = np.arange(1, len(mean) + 1)
        axes.plot(evaluations, mean, color=COLORS[name], linewidth=1.6, label=name)
        axes.fill_between(evaluations, low, high, color=COLORS[name], alpha=0.2, linewidth=0)
    regret = results[BASELINE].regret
    if regret is not None:
        optimum = results[BASELINE].best.mean + regret.mean
        label = "upper bound of the optimum" if results[BASELINE].is_bound else "optimum"
        axes.axhline(optimum, color="black", linestyle="--", linewidth=1, label=f"{label}, mean over seeds")
    axes.set_xlabel("architectures scored")
    axes.set_ylabel("best fitness so far, mean and 95% interval")
    axes.grid(alpha=0.2)
    axes.legend(loc="lower right", fontsize=9)
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    sys.exit(run_program(main))
