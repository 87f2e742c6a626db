"""The sections of a report: what stands in them for the runs there are, and sentences for what there is not."""

from __future__ import annotations

import shlex
from typing import Any, List, Sequence, Tuple

import numpy as np

from spos.core.tables import Column, Table, in_millions, millions
from spos.counting.profile import profile_tables
from spos.runs.run import BN_UPDATE_FILE, HISTORY_FILE, LOG_FILE, NETWORK_RUN, SEARCH_RUN, SUBNET_RUN, SUPERNET_RUN
from spos.search.budgets import Budgets, budget_file
from spos.search.finals import chosen_of
from spos.search.flags import SEARCHES
from spos.search.front import find_knee, pareto_front, parse_objectives
from spos.search.history import Row, find_better, find_ties, mean_of_random
from spos.search.report import model_lines
from spos.space.architecture import Architecture, architecture_of, format_choices
from spos.space.cost import count_architecture
from spos.space.space import SearchSpace
from spos.training.flags import validated_on
from utils.report import architecture as drawing
from utils.report.page import (
    Section,
    Writer,
    command,
    details,
    flags_table,
    heading,
    missing,
    side_by_side,
    table,
    text,
)
from utils.report.plots import bn_update_plot, cost_plot, hypervolume_plot, search_plot, training_plots
from utils.report.runs import ReportedRun

Runs = Sequence[ReportedRun]
NO_RUN = {
    SUPERNET_RUN: "No run of a supernet was given, so its training is not shown.",
    SEARCH_RUN: "No run of a search was given.",
    SUBNET_RUN: "No run of a subnet was given: the best architecture has not been trained from scratch here.",
}
SCORES = ("top-1 (%)", "95% interval (%)")


def of_kind(runs: Runs, *kinds: str) -> List[ReportedRun]:
    return [run for run in runs if run.kind in kinds]


def training_section(runs: Runs, writer: Writer) -> Section:
    """Curves of everything that was trained, with the warm-ups."""
    parts = [missing(NO_RUN[kind]) for kind in (SUPERNET_RUN, SUBNET_RUN) if not of_kind(runs, kind)]
    for run in of_kind(runs, SUPERNET_RUN, SUBNET_RUN, NETWORK_RUN):
        parts.append(heading(f"{run.name} ({describe_kind(run)})"))
        parts += [missing(run.remarks[LOG_FILE])] if LOG_FILE in run.remarks else []
        if not run.log:
            parts.append(missing(f"No epoch of {run.name} has ended yet, so there are no curves."))
            continue
        parts.append(text(_describe_training(run)))
        parts.append(side_by_side(*map(writer.plot, training_plots(run.training, validated_on(run.run.options)))))
    return Section("training", "Training", parts)


def describe_kind(run: ReportedRun) -> str:
    return f"network {run.run.options.get('model')}" if run.kind == NETWORK_RUN else run.kind


def _describe_training(run: ReportedRun) -> str:
    done, planned = len(run.log), run.num_epochs
    sentences = [f"{done} of {planned} epochs done." if not run.is_finished else f"{done} epochs, finished."]
    if run.ended_early:
        sentences = [f"Ended after {done} of {planned} epochs: validations did not get better any more (--patience)."]
    last = run.last_validated
    if last is None:
        sentences.append(
            "The run has not been validated yet: that happens after the last epoch, or by --val-frequency."
        )
    elif run.kind == SUPERNET_RUN:
        each = ", ".join(f"{top1:.1%}" for top1 in last.get("val_top1_each", ()))
        sentences.append(
            f"Top-1 on held-out images after epoch {last['epoch'] + 1}: {last['val_top1']:.2%}, the mean of sampled "
            f"architectures ({each}), each after a BatchNorm update."
        )
    else:
        averaged = f" ({last['ema_top1']:.2%} with averaged weights)" if "ema_top1" in last else ""
        images = validated_on(run.run.options)
        sentences.append(f"Top-1 on {last['val_images']} {images}: {last['val_top1']:.2%}{averaged}.")
    return " ".join(sentences)


def search_section(runs: Runs, writer: Writer) -> Section:
    """Every candidate of every search."""
    searches = of_kind(runs, SEARCH_RUN)
    parts = [] if searches else [missing(NO_RUN[SEARCH_RUN])]
    for run in searches:
        parts += [heading(run.name)] if len(searches) > 1 else []
        parts += [missing(run.remarks[HISTORY_FILE])] if HISTORY_FILE in run.remarks else []
        if not run.history or run.space is None or run.best is None:
            parts.append(missing(run.remarks.get("space") or f"{run.name} has scored no candidate so far."))
            continue
        if not run.is_finished:
            parts.append(
                missing("This search has not ended: it has no best.json yet. What is shown is the best so far.")
            )
        parts.append(text(_describe_search(run, run.best)))
        parts.append(writer.plot(search_plot(run.searched, run.space)))
        if run.choice:
            parts.append(text(f"Chosen: {run.choice.text}."))
        parts += _finals(run) + _front(run, writer)
    return Section("search", "Search", parts)


def _describe_search(run: ReportedRun, best: Row) -> str:
    rows, options = run.history, run.run.options
    low, high = best["top1_interval"]
    dropped, ties = len(run.searched.dropped), len(run.searched.ties)
    count, mean = mean_of_random(rows, str(options.get("search_mode")))
    mode, evolution = str(options.get("search_mode")), options.get("evolution", "published")
    how = f"{mode} search" + (f" with the {evolution} operators" if mode in SEARCHES and SEARCHES[mode].evolves else "")
    how = how[:1].upper() + how[1:]
    return (
        f"{how} of {len(rows)} architectures in {rows[-1]['iteration'] + 1} iterations"
        + (f", {dropped} of them dropped early by racing" if dropped else "")
        + f". Best top-1 with the supernet's weights: {best['top1']:.2%} (95% interval {low:.2%} to {high:.2%}); "
        + (f"{ties} others tie with it: their intervals overlap. " if ties else "no other interval overlaps its own. ")
        + (f"The {count} architectures drawn at random have {mean:.2%} on average." if count else "")
        + "".join(f" The model of the scores {line}." for _, line in model_lines(run.search_log))
    )


def _finals(run: ReportedRun) -> List[str]:
    """The rounds that told the best apart."""
    finals = run.finals
    if finals is None:
        return []
    searched = {row["evaluation"]: 100 * row["top1"] for row in run.history}
    left = [{one.evaluation for one in own} for own in finals.rounds[1:]] + [{finals.winner}]
    rows = [
        (number, one.epochs, one.evaluation, searched.get(one.evaluation))
        + (*scores(one.top1, one.top1_interval), 100 * one.combined)
        + ("goes on" if one.evaluation in go_on else "",)
        for number, (own, go_on) in enumerate(zip(finals.rounds, left), 1)
        for one in own
    ]
    columns: Tuple[Column, ...] = (Column("round"), Column("epochs"), Column("evaluation"))
    columns += (Column("searched", "searched top-1 (%)", spec=".2f"), *score_columns())
    columns += (Column("combined", "both, above the mean (points)", spec="+.2f"), Column("then", "then"))
    return [
        heading("Finals", 4),
        text(f"{finals.text[:1].upper()}{finals.text[1:]}. Both accuracies count by the inverse of their variance."),
        table(Table("", columns, tuple(rows))),
    ]


def _front(run: ReportedRun, writer: Writer) -> List[str]:
    """The architectures that no other beats in all objectives, and how the front grew."""
    options, parts = run.run.options, _budgets(run)
    mode = SEARCHES.get(str(options.get("search_mode")))
    if options.get("budgets"):
        names: Sequence[str] = [Budgets.parse(options["budgets"]).cost]
    elif mode and mode.has_front:
        names = parse_objectives(options["objectives"])
    else:
        return []
    front = pareto_front(run.searched.scored, names)
    columns = (Column("evaluation"), *score_columns(), millions("flops", "FLOPs"), millions("params", "params"))
    columns += (Column("block choices"), Column("channel choices"))
    rows = [
        (row["evaluation"], *scores(row["top1"], row["top1_interval"]), row["flops"], row["params"])
        + (format_choices(row["block_choices"]), format_choices(row["channel_choices"]))
        for row in front
    ]
    knee = find_knee(pareto_front(run.searched.scored, names[:1]), names[0])
    if knee:
        parts.append(
            text(
                f"The knee of the front, where more {names[0]} begin to bring less: evaluation {knee['evaluation']}, "
                f"top-1 {knee['top1']:.2%}, {in_millions(knee['flops'], 1)} FLOPs, "
                f"{in_millions(knee['params'], 2)} params."
            )
        )
    parts.append(
        text(
            f"How the front grew: the best top-1 within a budget, as the mean over all budgets of {names[0]} between "
            "the smallest and the largest that was scored (hypervolume)."
        )
    )
    parts.append(writer.plot(hypervolume_plot(run.searched, names[0])))
    title = f"The front of accuracy against {', '.join(names)}: {len(rows)} architectures"
    return [*parts, details(title, table(Table("", columns, tuple(rows))))]


def _budgets(run: ReportedRun) -> List[str]:
    """A line for each budget."""
    if not run.run.options.get("budgets"):
        return []
    budgets, rows = Budgets.parse(run.run.options["budgets"]), []
    for name, within in zip(budgets.names, budgets.rows_within(run.history)):
        best = chosen_of(run.run.path / budget_file(name), within)
        accuracy = scores(best["top1"], best["top1_interval"]) if best else (None, None)
        costs = [best.get(key) if best else None for key in ("flops", "params", "evaluation")]
        others = [len(find(within, best)) if best else None for find in (find_ties, find_better)]
        rows.append((name, *accuracy, *costs, *others, len(within)))
    columns = (Column("budget"), *score_columns(), millions("flops", "FLOPs"), millions("params", "params"))
    columns += (Column("evaluation"), Column("ties"), Column("above", "intervals wholly above it"))
    columns += (Column("scored", "scored within it"),)
    return [table(Table("", columns, tuple(rows)))]


def score_columns() -> Tuple[Column, ...]:
    return Column("top1", SCORES[0], spec=".2f"), Column("interval", SCORES[1])


def scores(top1: float, interval: Sequence[float]) -> Tuple[Any, ...]:
    """A share and its interval in percent."""
    low, high = interval
    return 100 * top1, f"{low:.2%} to {high:.2%}".replace("%", "")


def architecture_section(runs: Runs, writer: Writer) -> Section:
    """The best of each search and what was trained, each architecture once."""
    named: List[Tuple[str, SearchSpace, Architecture]] = []
    for run in of_kind(runs, SEARCH_RUN, SUBNET_RUN):
        found = run.architecture()
        if found and found[1] not in [architecture for _, _, architecture in named]:
            named.append((f"{'best of ' if run.kind == SEARCH_RUN else 'trained in '}{run.name}", *found))
    parts = [missing(run.remarks["architecture"]) for run in runs if "architecture" in run.remarks]
    if not named:
        parts.append(missing("There is no architecture to draw: no candidate was scored, and no subnet was trained."))
    for name, space, architecture in named:
        parts += _architecture(name, space, architecture, writer)
    return Section("architecture", "The best architecture", parts)


def _architecture(name: str, space: SearchSpace, architecture: Architecture, writer: Writer) -> List[str]:
    costs = drawing.costs_by_block(space, architecture)
    total = count_architecture(space, architecture)
    plots = [
        cost_plot(title, list(costs), drawing.parts_of(costs, field))
        for title, field in (("FLOPs", "macs"), ("params", "params"))
    ]
    profile, micronet = profile_tables(name, space, architecture, "block")
    return [
        heading(name[:1].upper() + name[1:]),
        text(
            f"{total.macs / 1e6:.3f}M FLOPs, {total.params / 1e6:.3f}M params, {space.input_size} px, "
            f"{space.num_classes} classes. Blocks {format_choices(architecture.block_choices)}; channels "
            f"{format_choices(architecture.channel_choices)}."
        ),
        drawing.draw(space, architecture),
        text(
            "From above: number of the choice block (s2: stride 2), its operators with the kernels of convolutions "
            "above 1x1, its kind, its middle width (times the plain one). Bars are as wide as their layers; "
            f"{drawing.describe_wires(space, architecture)}.",
            "muted",
        ),
        heading("Where it spends its budget", 4),
        side_by_side(*map(writer.plot, plots)),
        table(drawing.kind_table(costs)),
        details("Every choice block", table(drawing.block_table(space, architecture))),
        details("Multiplies and adds apart, and MicroNet scores", table(profile), table(micronet)),
    ]


def bn_update_section(runs: Runs, writer: Writer) -> Section:
    """What updating BatchNorm statistics does to the accuracy of paths."""
    parts = [
        text(
            "An architecture cut from a supernet has running statistics of other paths. Before it is scored, they are "
            "replaced by those of training images; every top-1 of a search, and the top-1 on held-out images of a "
            "supernet above, is after such an update."
        )
    ]
    measured = False
    for run in of_kind(runs, SUPERNET_RUN, SEARCH_RUN):
        parts += [missing(run.remarks[BN_UPDATE_FILE])] if BN_UPDATE_FILE in run.remarks else []
        if run.bn_updates:
            measured = True
            parts += _bn_updates(run, writer)
    if not measured:
        supernets = of_kind(runs, SUPERNET_RUN)
        path = str(supernets[0].run.path) if supernets else "runs/supernet"
        parts.append(
            missing(f"No run given holds {BN_UPDATE_FILE}, so the effect of the update is not known. To measure it:")
        )
        parts.append(command(f"python -m utils.bn_update_effect --supernet {shlex.quote(path)}"))
    return Section("batch-norm", "Effect of the BatchNorm update", parts)


def _bn_updates(run: ReportedRun, writer: Writer) -> List[str]:
    """Only architectures measured at every number of images are compared."""
    counts = sorted({row["num_bn_images"] for row in run.bn_updates})
    tops: dict = {}
    for row in run.bn_updates:
        tops.setdefault(architecture_of(row), {})[row["num_bn_images"]] = row["top1"]
    whole = [own for own in tops.values() if len(own) == len(counts)]
    if not whole:
        return [missing(f"{BN_UPDATE_FILE} of {run.name} has no architecture with all numbers of images so far.")]
    matrix = np.array([[own[number] for number in counts] for own in whole])
    means = ", ".join(f"{mean:.2%} ({number})" for number, mean in zip(counts, matrix.mean(axis=0).tolist()))
    partly = len(tops) - len(whole)
    return [
        heading(run.name),
        text(
            f"Mean top-1 of {len(whole)} architectures by images of the update: {means}."
            + (f" {partly} more are measured in part and left out." if partly else "")
        ),
        writer.plot(bn_update_plot(counts, matrix)),
    ]


def runs_section(runs: Runs) -> Section:
    """Where everything came from."""
    parts = []
    for run in runs:
        versions = ", ".join(f"{name} {value}" for name, value in (run.run.config.get("versions") or {}).items())
        rows = flags_table(run.run.options)
        parts.append(text(f"{run.name}: {describe_kind(run)}, {run.run.path}. Versions: {versions or 'not recorded'}."))
        parts.append(details(f"Flags of {run.name}", table(Table("", (Column("flag"), Column("value")), tuple(rows)))))
    return Section("runs", "The runs and their flags", parts)
