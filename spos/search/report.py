"""The report of a search: a line an iteration, `log.jsonl`, the summary, and the result files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from msgspec import UNSET, Struct, UnsetType

from spos.core.seeds import derive_rng
from spos.core.tables import in_millions, table
from spos.runs.files import write_json
from spos.runs.journal import Journal, read_rows
from spos.runs.run import BEST_FILE, CONTROL_FILE, LOG_FILE
from spos.runs.schema import Count, NotNegative, Share
from spos.search.budgets import Budgets, budget_file
from spos.search.choice import BY_SCORE, Choice
from spos.search.domain import Domain
from spos.search.finals import Finals, chosen_of, read_choice, read_finals
from spos.search.flags import SEARCHES, SearchOptions
from spos.search.front import find_knee, pareto_front, parse_objectives, write_front
from spos.search.history import (
    Row,
    best_record,
    best_rows,
    find_better,
    find_ties,
    fitness_of,
    is_complete,
    mean_of_random,
)
from spos.search.searcher import Progress
from spos.search.surrogate import Errors, Forecasts
from spos.space.architecture import Architecture, architecture_of, format_choices
from spos.space.architecture_file import ArchitectureRecord


class SearchLogRow(Struct):
    """A row of `log.jsonl`."""

    iteration: Count
    seconds: NotNegative
    evaluations: Count
    candidates_per_hour: NotNegative
    dropped: Count
    best_top1: Optional[Share]
    checks: Union[Count, UnsetType] = UNSET
    model_error: Union[NotNegative, UnsetType] = UNSET
    mean_error: Union[NotNegative, UnsetType] = UNSET
    trusted: Union[bool, UnsetType] = UNSET


class SearchLog:
    """Shows each iteration, and writes it to `log.jsonl` unless all of it was read from the history.

    Args:
        forecasts: of a search with a model, whose errors on what it did not choose are told too.
    """

    def __init__(self, journal: Journal, forecasts: Optional[Forecasts] = None) -> None:
        self._journal = journal
        self._forecasts = forecasts or Forecasts()
        self._fitness: Dict[Architecture, float] = {}

    def __call__(self, progress: Progress) -> None:
        self._fitness.update((architecture_of(row), fitness_of(row)) for row in progress.rows)
        errors = self._forecasts.errors(self._fitness)
        trusted = progress.iteration not in self._forecasts.distrusted
        print(describe_iteration(progress) + describe_model(errors, trusted), flush=True)
        if progress.evaluations:
            self._journal.append({**log_row(progress), **errors_row(errors, trusted)})


def describe_model(errors: Optional[Errors], trusted: bool) -> str:
    """What is added to the line of an iteration where there is a model."""
    if errors is None:
        return ""
    text = f"  model errs by {errors.model:.2%}, the mean by {errors.mean:.2%} ({errors.num_checks} uniform)"
    return text if trusted else f"{text}; bred instead, for the model told no more than the mean"


def errors_row(errors: Optional[Errors], trusted: bool) -> Dict[str, Any]:
    """The same for `log.jsonl`: root mean square errors of fitness, and whether the model chose this generation."""
    if errors is None:
        return {}
    model, mean = round(errors.model, 6), round(errors.mean, 6)
    return {"checks": errors.num_checks, "model_error": model, "mean_error": mean, "trusted": trusted}


def log_row(progress: Progress) -> Dict[str, Any]:
    """A row of `log.jsonl`. The evaluations are those of this start of the program, and so are the seconds."""
    best = best_rows(progress.rows, 1)
    return {
        "iteration": progress.iteration,
        "seconds": round(progress.seconds, 3),
        "evaluations": progress.evaluations,
        "candidates_per_hour": round(3600 * progress.evaluations / max(progress.seconds, 1e-9), 1),
        "dropped": sum(not is_complete(row) for row in progress.rows),
        "best_top1": best[0]["top1"] if best else None,
    }


def describe_iteration(progress: Progress) -> str:
    """One line of text for an iteration."""
    complete = [row for row in progress.rows if is_complete(row)]
    text = f"iteration {progress.iteration:3d}  {len(progress.rows)} scored"
    if len(complete) < len(progress.rows):
        text += f", {len(progress.rows) - len(complete)} of them dropped early"
    if not complete:
        return text
    best, mean = best_rows(complete, 1)[0], sum(row["top1"] for row in complete) / len(complete)
    return (
        f"{text}  mean top-1 {mean:.2%}  best {best['top1']:.2%} ({in_millions(best['flops'], 1)} FLOPs, "
        f"{in_millions(best['params'], 2)} params)"
    )


def write_results(
    save_dir: Path,
    domain: Domain,
    rows: Sequence[Row],
    options: SearchOptions,
    origin: Mapping[str, Any],
    finals: Optional[Mapping[str, Finals]] = None,
    choice: Choice = BY_SCORE,
) -> None:
    """`best.json`, and `top-N.json` for each of the best by the search; of a Pareto search the front too.

    `control.json` is drawn uniformly from the domain, whatever was scored: a random network within the same limits.
    """
    budgets = Budgets.parse(options.budgets) if options.budgets else None
    if SEARCHES[options.search_mode].has_front:
        write_front(save_dir, domain, rows, parse_objectives(options.objectives), origin)
    elif budgets:
        write_front(save_dir, domain, rows, [budgets.cost], origin)
    if budgets:
        write_budgets(save_dir, domain, rows, budgets, origin, finals or {}, choice)
    for rank, row in enumerate(choice.best(rows, options.topk), 1):
        record = best_record(domain, row, origin, ties=len(find_ties(rows, row))).to_json()
        write_json(save_dir / f"top-{rank}.json", record)
    write_best(save_dir / BEST_FILE, domain, rows, origin, (finals or {}).get(""), choice)
    write_control(save_dir / CONTROL_FILE, domain, origin)


def write_best(
    path: Path,
    domain: Domain,
    rows: Sequence[Row],
    origin: Mapping[str, Any],
    finals: Optional[Finals],
    choice: Choice = BY_SCORE,
    name: Optional[str] = None,
) -> None:
    """The best of rows; after finals who is left, and how; nothing if no row was scored on all images."""
    best = [finals.winner] if finals else choice.best(rows, 1)
    for row in best:
        record = best_record(domain, row, origin, name, ties=len(find_ties(rows, row)))
        held = {"finals": finals.to_json()} if finals else {}
        write_json(path, {**record.to_json(), **choice.to_json(rows), **held})


def write_budgets(
    save_dir: Path,
    domain: Domain,
    rows: Sequence[Row],
    budgets: Budgets,
    origin: Mapping[str, Any],
    finals: Mapping[str, Finals],
    choice: Choice = BY_SCORE,
) -> None:
    """Of each budget, like 100M: `budget-100M.json`, the best within it, and `control-100M.json`, a random one."""
    for name, part, within in zip(budgets.names, budgets.domains(domain), budgets.rows_within(rows)):
        write_control(save_dir / f"control-{name}.json", part, origin)
        called = f"searched within {name}"
        write_best(save_dir / budget_file(name), domain, within, origin, finals.get(name), choice, called)


def write_control(path: Path, domain: Domain, origin: Mapping[str, Any]) -> None:
    """One architecture drawn uniformly; nothing if none can be met."""
    for architecture in domain.sample_many(1, derive_rng(origin["seed"], "control")):
        control = ArchitectureRecord(domain.space, architecture, {"name": "control", "origin": dict(origin)})
        write_json(path, control.to_json())


def summarize_search(save_dir: Path, rows: Sequence[Row], options: SearchOptions) -> str:
    """What was found, beside what chance gives."""
    finals, choice = read_finals(save_dir / BEST_FILE), read_choice(save_dir / BEST_FILE)
    best = chosen_of(save_dir / BEST_FILE, rows) or best_rows(rows, 1)[0]
    num_dropped = sum(not is_complete(row) for row in rows)
    lines = [
        ("architectures scored", f"{len(rows)}" + (f" ({num_dropped} dropped early)" if num_dropped else "")),
        *([("finalist", finals.text)] if finals else []),
        *([("chosen by the model", choice.text)] if choice else []),
        ("its searched top-1" if finals or choice else "best searched top-1", _describe_share(best)),
        ("mean of random ones", _describe_random(rows, options.search_mode)),
        ("ties with the best", _describe_ties(find_ties(rows, best))),
        *([("clearly better scored", describe_better(better))] if (better := find_better(rows, best)) else []),
        ("FLOPs", in_millions(best["flops"], 1)),
        ("params", in_millions(best["params"], 2)),
        *([("latency", f"{best['latency_ms']:.2f} ms by the table")] if "latency_ms" in best else []),
        ("block choices", format_choices(best["block_choices"])),
        ("channel choices", format_choices(best["channel_choices"])),
        *([("input size", f"{best['input_size']} px")] if "input_size" in best else []),
        *model_lines(read_rows(save_dir / LOG_FILE, SearchLogRow)),
        *(budget_lines(save_dir, rows, Budgets.parse(options.budgets)) if options.budgets else []),
        ("written to", save_dir / BEST_FILE),
    ]
    return table(lines)


def _describe_share(row: Row) -> str:
    low, high = row["top1_interval"]
    return f"{row['top1']:.2%} (95% interval {low:.2%} to {high:.2%})"


def model_lines(log: Sequence[Mapping[str, Any]]) -> List[Tuple[str, str]]:
    """How far the model of a search erred on what it did not choose, by `log.jsonl`; nothing if it had none."""
    told = [row for row in log if "model_error" in row]
    if not told:
        return []
    last, bred = told[-1], sum(not row["trusted"] for row in told)
    text = (
        f"errs by {last['model_error']:.2%} on {last['checks']} uniform architectures before they were scored, the "
        f"mean of the scores by {last['mean_error']:.2%}"
    )
    return [("model of the scores", f"{text}; {bred} generations were bred instead" if bred else text)]


def budget_lines(save_dir: Path, rows: Sequence[Row], budgets: Budgets) -> List[Tuple[str, str]]:
    """Who is chosen within each budget, and the knee of the front."""
    lines = []
    for name, within in zip(budgets.names, budgets.rows_within(rows)):
        best = chosen_of(save_dir / budget_file(name), within)
        text = "nothing was scored" if best is None else _describe_chosen(best, within)
        lines.append((f"within {name}", text))
    knee = find_knee(pareto_front(list(filter(is_complete, rows)), [budgets.cost]), budgets.cost)
    return lines + ([("knee of the front", _describe_best(knee))] if knee else [])


def _describe_chosen(row: Row, rows: Sequence[Row]) -> str:
    """Who is chosen of rows, and how it stands to the others."""
    ties, better = find_ties(rows, row), find_better(rows, row)
    tied = f", {len(ties)} ties" if ties else ""
    return _describe_best(row) + tied + (f", {describe_better(better)}" if better else "")


def _describe_best(row: Row) -> str:
    low, high = row["top1_interval"]
    latency = f", {row['latency_ms']:.2f} ms" if "latency_ms" in row else ""
    return (
        f"{row['top1']:.2%} ({low:.2%} to {high:.2%}), {in_millions(row['flops'], 1)} FLOPs, "
        f"{in_millions(row['params'], 2)} params{latency}, evaluation {row['evaluation']}"
    )


def describe_better(better: Sequence[Row]) -> str:
    """How many were scored clearly better than the one that is chosen."""
    return f"{len(better)} with an interval wholly above its own"


def _describe_random(rows: Sequence[Row], search_mode: str) -> str:
    count, mean = mean_of_random(rows, search_mode)
    return f"{mean:.2%} ({count} architectures, scored on all images)" if count else "none was scored"


def _describe_ties(ties: Sequence[Row]) -> str:
    """How many architectures have an interval that overlaps that of the best, and the cheapest of them."""
    if not ties:
        return "none: no other interval overlaps that of the best"
    cheapest = min(ties, key=lambda row: (row["flops"], row["evaluation"]))
    return (
        f"{len(ties)}, intervals overlap; the cheapest: evaluation {cheapest['evaluation']}, "
        f"{in_millions(cheapest['flops'], 1)} FLOPs, top-1 {cheapest['top1']:.2%}"
    )
