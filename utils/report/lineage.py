"""The section of a report about where the best architecture came from."""

from __future__ import annotations

from html import escape
from typing import Any, List, Optional, Sequence, Tuple

from spos.core.errors import InputError
from spos.core.tables import Column, Table
from spos.runs.run import SEARCH_RUN
from spos.search.ancestry import Ancestry
from spos.search.flags import SEARCHES
from spos.search.history import Row, is_complete
from spos.space.architecture import architecture_of
from spos.space.space import SearchSpace
from utils.report.page import Section, Writer, details, heading, kind_class, missing, table, text
from utils.report.plots import ancestors_plot, inspected, passes_on
from utils.report.runs import ReportedRun
from utils.report.sections import NO_RUN, of_kind, score_columns, scores

REPLAYED = (
    "The history names no parents. The decisions of the search were run again from its seed and the recorded scores; "
    "they asked for exactly the architectures of the history, so what follows is what happened."
)
BY_MODEL = "A search by a model proposes what is best by it: none of its proposals has parents."
WITHOUT_PARENTS = {
    "random": "A random search draws every architecture anew: none has parents.",
    "surrogate": BY_MODEL,
    "surrogate-front": BY_MODEL,
}
NEAREST = (
    "What follows is not parentage: every architecture that was better than all before it, beside the nearest of the "
    "earlier ones (the one with the most genes in common, of equals the better)."
)


def lineage_section(runs: Sequence[ReportedRun], writer: Writer) -> Section:
    """True parents where the search can be replayed; else improvements beside what is nearest to them."""
    searches = of_kind(runs, SEARCH_RUN)
    parts = [] if searches else [missing(NO_RUN[SEARCH_RUN])]
    for run in searches:
        parts += [heading(run.name)] if len(searches) > 1 else []
        if run.chosen is None or run.space is None:
            parts.append(missing(f"{run.name} has scored no candidate so far, so there is no best one."))
        else:
            parts += _lineage(run, run.space, run.history.index(run.chosen), writer)
    return Section("lineage", "Lineage of the best", parts)


def _lineage(run: ReportedRun, space: SearchSpace, best: int, writer: Writer) -> List[str]:
    mode = SEARCHES.get(str(run.run.options.get("search_mode")))
    if mode and not mode.breeds:
        reason = WITHOUT_PARENTS[str(run.run.options.get("search_mode"))]
        return [missing(reason), text(NEAREST), table(improvements(space, run.history), wide=(5,))]
    try:
        ancestry = run.ancestry()
    except InputError as error:
        reason = f"Parents cannot be told: {error}."
        return [missing(reason), text(NEAREST), table(improvements(space, run.history), wide=(5,))]
    line, family = ancestry.descent(best), ancestry.ancestors(best)
    if len(line) == 1:
        return [text(REPLAYED), text("The best architecture is a fresh sample: it has no parents.")]
    return [
        text(REPLAYED),
        text(
            f"The best one, evaluation {best}, descends from {len(family) - 1} scored architectures over "
            f"{len(line) - 1} steps from child to fitter parent."
        ),
        writer.plot(ancestors_plot(space, ancestry, best)),
        steps(space, ancestry, line),
        details("The line in figures", table(descent_table(space, ancestry, line), wide=(6,))),
    ]


def steps(space: SearchSpace, ancestry: Ancestry, line: Sequence[int]) -> str:
    """HTML: the architectures of a line, each a strip of choice blocks; those that changed are framed."""
    drawn = []
    for number, before in zip(line, [None, *line]):
        row, parents = ancestry.rows[number], ancestry.parents[number]
        parent = row if before is None else ancestry.rows[before]
        bred = "a fresh sample" if before is None else f"of {' and '.join(map(str, parents))}"
        facts = f"evaluation {number}, iteration {row['iteration']}, top-1 {row['top1']:.2%}, {bred}"
        drawn.append(f"<div><span>{escape(facts)}</span>{_strip(space, row, parent)}</div>")
    note = text(
        "Colour: kind of block; height: width; framed: other than in the fitter parent, one line above."
        + (" Flat ones compute nothing." if passes_on(space) else ""),
        "muted",
    )
    return f'{note}<div class="steps">{"".join(drawn)}</div>'


def _strip(space: SearchSpace, row: Row, before: Row) -> str:
    _, kinds, heights, firsts = inspected(space, row)
    bars = []
    for i, (kind, height) in enumerate(zip(kinds, heights)):
        changed = any(row[key][i] != before[key][i] for key in ("block_choices", "channel_choices"))
        names = [kind_class(kind), *(["first"] if i and i in firsts else []), *(["changed"] if changed else [])]
        bars.append(f'<i class="{" ".join(names)}" style="height:{height:.0%}"></i>')
    return f'<div class="strip small">{"".join(bars)}</div>'


def descent_table(space: SearchSpace, ancestry: Ancestry, line: Sequence[int]) -> Table:
    """A line of descent from its fresh sample to the best, and what changed at each step."""
    columns = (Column("iteration"), Column("evaluation"), *score_columns(), Column("parents"))
    columns += (Column("genes", "genes of both / one / neither"), Column("changes", "changed from the fitter parent"))
    rows = []
    for number, before in zip(line, [None, *line]):
        row, parents = ancestry.rows[number], ancestry.parents[number]
        changed = "a fresh sample" if before is None else "; ".join(changes(space, ancestry.rows[before], row))
        rows.append(
            (row["iteration"], row["evaluation"], *scores(row["top1"], row["top1_interval"]))
            + (
                " × ".join(str(parent) for parent in parents) or None,
                _inherited(ancestry, number),
                changed or "nothing",
            )
        )
    return Table("", columns, tuple(rows))


def _inherited(ancestry: Ancestry, number: int) -> Optional[str]:
    """How many genes both parents, one of them, or none of them has."""
    parents = [architecture_of(ancestry.rows[parent]).genes for parent in ancestry.parents[number]]
    if not parents:
        return None
    genes = architecture_of(ancestry.rows[number]).genes
    having = [sum(gene == other for other in others) for gene, *others in zip(genes, *parents)]
    both = sum(count == len(parents) for count in having)
    none = having.count(0)
    return f"{both} / {len(genes) - both - none} / {none}"


def changes(space: SearchSpace, before: Row, after: Row) -> List[str]:
    """Genes by which two rows differ, choice block by choice block."""
    found = []
    pairs = zip(before["block_choices"], after["block_choices"], before["channel_choices"], after["channel_choices"])
    for i, (old_kind, new_kind, old_width, new_width) in enumerate(pairs):
        kinds, scales = space.choices[i].blocks, space.choices[i].channel_scales
        own = [f"{kinds[old_kind].name} → {kinds[new_kind].name}"] if old_kind != new_kind else []
        if old_width != new_width:
            widths = ((old_kind, old_width), (new_kind, new_width))
            own.append(" → ".join(f"×{scales[c]:g}" if space.has_middle(i, b) else "no width" for b, c in widths))
        found += [f"block {i}: {', '.join(own)}"] if own else []
    old_size, new_size = before.get("input_size"), after.get("input_size")
    return [*found, f"{old_size} → {new_size} px"] if old_size != new_size else found


def improvements(space: SearchSpace, rows: Sequence[Row]) -> Table:
    """Every row that was better than all before it, beside the nearest earlier one."""
    columns = (Column("iteration"), Column("evaluation"), *score_columns())
    columns += (Column("nearest", "nearest earlier"), Column("changes", "changed from it"))
    shown: List[Tuple[Any, ...]] = []
    best = float("-inf")
    for i, row in enumerate(rows):
        if not is_complete(row) or row["fitness"] <= best:
            continue
        best = row["fitness"]
        near = _nearest(rows[:i], row)
        own = (row["iteration"], row["evaluation"], *scores(row["top1"], row["top1_interval"]))
        shown.append((*own, near and near["evaluation"], "; ".join(changes(space, near, row)) if near else "the first"))
    return Table("", columns, tuple(shown))


def _nearest(earlier: Sequence[Row], row: Row) -> Optional[Row]:
    genes = architecture_of(row).genes

    def in_common(other: Row) -> Tuple[int, float]:
        return sum(a == b for a, b in zip(genes, architecture_of(other).genes)), other["fitness"]

    return max(earlier, key=in_common) if earlier else None
