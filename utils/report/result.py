"""The section of a report about what was trained from scratch, beside the published networks."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple

from spos.core.intervals import wilson_interval
from spos.core.tables import Column, Table, millions
from spos.counting.comparison import comparison_table
from spos.runs.run import NETWORK_RUN, SEARCH_RUN, SUBNET_RUN
from spos.space.cost import Cost, cost_score, count_architecture
from spos.space.flags import SpaceOptions, fit
from spos.space.published import NETWORKS
from spos.space.space_file import search_space
from spos.training.flags import validated_on
from utils.report.page import Section, details, missing, table, text
from utils.report.runs import ReportedRun
from utils.report.sections import NO_RUN, Runs, of_kind, score_columns, scores

PUBLISHED = search_space()  # its images are ImageNet's


def result_section(runs: Runs) -> Section:
    """What was trained from scratch, beside the published networks."""
    trained = [run for run in of_kind(runs, SUBNET_RUN, NETWORK_RUN) if run.last_validated]
    rows = [_own_row(run, run.last_validated) for run in trained if run.last_validated]
    parts = [] if of_kind(runs, SUBNET_RUN) else [missing(NO_RUN[SUBNET_RUN])]
    for run in of_kind(runs, SUBNET_RUN, NETWORK_RUN):
        if not run.last_validated:
            parts.append(missing(f"{run.name} has not been validated yet, so it has no result."))
        elif not run.is_finished:
            parts.append(missing(f"{run.name} is not finished: its result is that of its last validated epoch."))
    for search in of_kind(runs, SEARCH_RUN):
        parts += _searched_and_trained(search, trained)
    counted = [row for run in of_kind(runs, SEARCH_RUN, SUBNET_RUN) for row in _counted_row(run)]
    rows += [row for i, row in enumerate(counted) if row[5:7] not in [other[5:7] for other in counted[:i]]]
    parts.append(table(_published_table(rows), own=range(len(rows))))
    parts.append(
        text(
            "Accuracies compare only between networks of the same images. The published ones are of ImageNet, and were "
            "not measured here.",
            "muted",
        )
    )
    parts.append(details("The published table, with scores computed and counted again", table(comparison_table())))
    return Section("result", "Result, beside published networks", parts)


def _searched_and_trained(search: ReportedRun, trained: Runs) -> List[str]:
    """One sentence for every training of the architecture that a search found best."""
    found = search.architecture()
    if not found or search.chosen is None:
        return []
    sentences = []
    for run in trained:
        own, last = run.architecture(), run.last_validated
        if own and own[1] == found[1] and last:
            found_top1, count = search.chosen["top1"], search.chosen.get("num_images")
            images = f"{last['val_images']} {validated_on(run.run.options)}"
            sentences.append(
                f"The architecture that {search.name} chose has top-1 {found_top1:.2%} with the supernet's weights on "
                f"{count} images, and {last['val_top1']:.2%} on {images} when it was trained "
                f"from scratch ({run.name})."
            )
    return [text(sentence) for sentence in sentences]


def _own_row(run: ReportedRun, last: Mapping[str, Any]) -> Tuple[Any, ...]:
    found = run.architecture()
    cost = count_architecture(*found) if found else None
    count = last["val_images"]
    interval = wilson_interval(round(last["val_top1"] * count), count)
    images = f"{run.run.config.get('data')}, {count} {validated_on(run.run.options)}"
    images += f", {found[0].input_size} px" if found else ""
    top5 = 100 * last["val_top5"] if "val_top5" in last else None
    accuracies = (*scores(last["val_top1"], interval), top5)
    return (run.name, *accuracies[:1], "this run", *accuracies[1:], *_costs(cost), images)


def _counted_row(run: ReportedRun) -> List[Tuple[Any, ...]]:
    """The same architecture for ImageNet: only counted."""
    found = run.architecture()
    if not found:
        return []
    cost = count_architecture(fit(found[0], SpaceOptions(), PUBLISHED.input_size, PUBLISHED.num_classes), found[1])
    name = f"{run.name}, for ImageNet"
    images = f"{PUBLISHED.input_size} px, {PUBLISHED.num_classes} classes"
    return [(name, None, "counted only", None, None, *_costs(cost), images)]


def _costs(cost: Optional[Cost]) -> Tuple[Any, ...]:
    """FLOPs, params, and the sum of their normalized scores."""
    return (*cost, cost_score(cost).normalized_sum) if cost else (None, None, None)


def _published_table(own: Sequence[Tuple[Any, ...]]) -> Table:
    top1, interval = score_columns()
    columns: Tuple[Column, ...] = (
        Column("network"),
        top1,
        Column("source"),
        interval,
        Column("top5", "top-5 (%)", spec=".2f"),
    )
    columns += (millions("flops", "FLOPs"), millions("params", "params"))
    columns += (Column("score", "sum of normalized scores", spec=".4f"), Column("images"))
    rows, images = [], f"ImageNet, {PUBLISHED.input_size} px"
    for network in NETWORKS:
        accuracies = (network.top1_percent, "published", None, network.top5_percent)
        rows.append((network.name, *accuracies, *_costs(Cost(network.macs, network.params)), images))
    note = comparison_table().notes[0]
    return Table("", columns, (*own, *rows), (note, "Scores are computed from the FLOPs and params of their row."))
