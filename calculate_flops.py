"""Count FLOPs (multiply-adds) and parameters of an architecture, of the supernet, or of any exported network.

python calculate_flops.py --architecture oneshot-s+
python calculate_flops.py --architecture oneshot-s+ --profile block --format markdown
python calculate_flops.py --block-choices '0, 0, 3, ...' --channel-choices '6, 5, 3, ...' --use-se --layers
python calculate_flops.py --supernet --use-se --last-conv-after-pooling
python calculate_flops.py --symbol runs/subnet/model-symbol.json
python calculate_flops.py --architecture runs/search/best.json --latency-table runs/latency/latency.json
python calculate_flops.py --comparison
python calculate_flops.py --distribution 100000 --use-se
python calculate_flops.py --space tiny --describe --flop-max-m 5 --param-max-m 0.1
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import sys
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from spos.core.flags import JsonOptions, OneLineParser, pick, run_program
from spos.core.tables import Table, render
from spos.counting.comparison import comparison_table
from spos.counting.description import description_json, description_tables
from spos.counting.distribution import distribution_json, distribution_table
from spos.counting.flags import CountOptions, check_count_flags, given_subjects
from spos.counting.layers import LayerCost
from spos.counting.profile import profile_json, profile_tables
from spos.counting.summary import (
    branch_table,
    convention,
    layer_table,
    summary_table,
    supernet_note,
    table_of_layers,
)
from spos.latency.flags import LatencyTableOptions
from spos.latency.table import LatencyTable
from spos.sampling.flags import LimitOptions, constraints_of
from spos.space.architecture import Architecture, choices_of
from spos.space.cost import ZERO, Cost, cost_score, cost_table, count_architecture, count_supernet, count_untrained
from spos.space.flags import ArchitectureOptions, SpaceOptions, fit, named_architecture, space_of
from spos.space.space import SearchSpace

GROUPS = (ArchitectureOptions, CountOptions, SpaceOptions, LimitOptions, LatencyTableOptions, JsonOptions)


@dataclass(frozen=True)
class Subject:
    """What is counted, and whether additions of biases and poolings are."""

    report: Dict[str, Any]
    additions: bool

    @property
    def name(self) -> str:
        return self.report["architecture"]

    @property
    def cost(self) -> Cost:
        return Cost(self.report["flops"], self.report["params"])

    def layer_table(self) -> Table:
        """What --layers shows."""
        raise NotImplementedError


@dataclass(frozen=True)
class SubnetSubject(Subject):
    space: SearchSpace
    architecture: Architecture

    def layer_table(self) -> Table:
        return layer_table(self.name, self.space, self.architecture)


@dataclass(frozen=True)
class SupernetSubject(Subject):
    space: SearchSpace

    def layer_table(self) -> Table:
        return branch_table(self.space)


@dataclass(frozen=True)
class ExportedSubject(Subject):
    """An exported network knows its own classes and structure."""

    layers: Tuple[LayerCost, ...]

    def layer_table(self) -> Table:
        return table_of_layers(f"Operators of {self.name}", self.layers, [convention(self.additions)])


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    named, options, space_options = pick(ArchitectureOptions, args), pick(CountOptions, args), pick(SpaceOptions, args)
    latency, output, limits = pick(LatencyTableOptions, args), pick(JsonOptions, args), pick(LimitOptions, args)
    check_count_flags(named, options, space_options, output, latency, limits)
    model = limits.comparison_model
    report: Dict[str, Any]
    if options.distribution or options.describe:
        space = fit(space_of(space_options), space_options, options.input_size, options.classes)
        report, tables = show_space(space, options, limits)
    elif not given_subjects(named, options):
        tables = [comparison_table(comparison_model=model)]
        report = {"comparison": tables[0].records(), "notes": tables[0].notes}
    else:
        subject = find_subject(named, options, space_options)
        scores = cost_score(subject.cost, model).to_json()
        report = {**subject.report, "scores": scores, "convention": convention(subject.additions)}
        if latency.latency_table and isinstance(subject, SubnetSubject):
            table = LatencyTable.read(latency.latency_table)
            report["latency"] = table.predict(subject.space, subject.architecture)
        tables = show(subject, report, options, model)
    print(json.dumps(report) if output.json else render(tables, options.format))
    return 0


def show_space(space: SearchSpace, options: CountOptions, limits: LimitOptions) -> Tuple[Dict[str, Any], List[Table]]:
    """What the flags ask of a whole space."""
    if options.distribution is not None:
        report = distribution_json(space, options.distribution, options.seed, limits.comparison_model)
        return report, [distribution_table(report)]
    report = description_json(space, constraints_of(limits).limits(), options.seed)
    return report, description_tables(report)


def find_subject(named: ArchitectureOptions, options: CountOptions, space_options: SpaceOptions) -> Subject:
    """Count what the flags name."""
    if options.symbol:
        return count_file(options, space_options)
    record = named_architecture(named, space_options)
    if record is None:
        space = fit(space_of(space_options), space_options, options.input_size, options.classes)
        return SupernetSubject(count_space(space), space.count_additions, space)
    space = fit(record.space, space_options, options.input_size, options.classes)
    cost = count_architecture(space, record.architecture)
    name = named.architecture or str(record.architecture)
    report = {"architecture": name, **choices_of(record.architecture), **figures(space, cost)}
    return SubnetSubject(report, space.count_additions, space, record.architecture)


def count_space(space: SearchSpace) -> Dict[str, Any]:
    extremes = zip(("smallest", "largest"), cost_table(space).range())
    reach = {name: {"flops": cost.macs, "params": cost.params} for name, cost in extremes}
    counted = count_supernet(space)
    total = {"total_params": counted.params + count_untrained(space)}
    return {
        "architecture": "supernet",
        **figures(space, counted),
        **total,
        "range": reach,
        "note": supernet_note(space),
    }


def figures(space: SearchSpace, cost: Cost) -> Dict[str, Any]:
    return {
        "flops": cost.macs,
        "params": cost.params,
        "input_size": space.input_size,
        "classes": space.num_classes,
        "strides": space.strides,
        "fingerprint": space.fingerprint,
        "space": space.to_json(),
    }


def count_file(options: CountOptions, space_options: SpaceOptions) -> ExportedSubject:
    """Count an exported network, for the images and by the convention of a space if one is named."""
    from spos.counting.symbol import count_nodes
    from spos.engine.graph_file import load_symbol

    space = space_of(space_options)
    size = options.input_size or space.input_size
    nodes = count_nodes(load_symbol(options.symbol), (1, 3, size, size), space.count_additions)
    macs, params = sum((node.cost for node in nodes), ZERO)
    own = {"input_size": size, "classes": nodes[-1].out_shape[-1], "space": None}
    layers = tuple(LayerCost(node.name, node.op, node.out_shape[1:], node.cost) for node in nodes)
    return ExportedSubject(
        {"architecture": options.symbol, "flops": macs, "params": params, **own}, space.count_additions, layers
    )


def show(subject: Subject, report: Dict[str, Any], options: CountOptions, model: str) -> List[Table]:
    """The tables that the flags ask for; their rows are added to the report."""
    if options.profile and isinstance(subject, SubnetSubject):
        report["profile"] = profile_json(subject.space, subject.architecture, options.profile)
        return profile_tables(subject.name, subject.space, subject.architecture, options.profile)
    if options.comparison:
        table = comparison_table([(f"{subject.name}{other_terms(report, subject.additions)}", subject.cost)], model)
        report["comparison"] = table.records()
    elif options.layers:
        table = subject.layer_table()
        report["layers"] = table.records()
    else:
        table = summary_table(report, for_machines=options.format == "csv")
    return [table]


def other_terms(report: Dict[str, Any], additions: bool) -> str:
    """What to add to a name beside networks for ImageNet at 224 px, if it was counted for or by something else."""
    size, classes = report["input_size"], report["classes"]
    usual = (size, classes) == (SearchSpace.input_size, SearchSpace.num_classes)
    terms = [] if usual else [f"{size} px", f"{classes} classes"]
    terms += [] if additions else ["no additions of biases and poolings"]
    return f" ({', '.join(terms)})" if terms else ""


if __name__ == "__main__":
    sys.exit(run_program(main))
