"""Count FLOPs (multiply-adds) and parameters of an architecture, of the supernet, or of any exported network.

python calculate_flops.py --architecture oneshot-s+
python calculate_flops.py --block-choices '0, 0, 3, ...' --channel-choices '6, 5, 3, ...' --use-se
python calculate_flops.py --supernet --use-se --last-conv-after-pooling
python calculate_flops.py --symbol runs/subnet/model-symbol.json
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any, Dict, List, Optional

from spos.architectures import fit, named_architecture, space_of
from spos.cost import ZERO, Cost, cost_table, count_architecture, count_supernet, score
from spos.cost_report import CONVENTION, SUPERNET_NOTE, as_table
from spos.errors import InputError
from spos.options import (
    ArchitectureOptions,
    ComparisonOptions,
    CountOptions,
    JsonOptions,
    OneLineParser,
    SpaceOptions,
    as_json,
    pick,
    run_program,
)
from spos.search_space import SearchSpace

GROUPS = (ArchitectureOptions, CountOptions, SpaceOptions, ComparisonOptions, JsonOptions)


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    named, options, space_options, comparison, output = (pick(group, args) for group in GROUPS)
    check_one_way(named, options)
    if options.symbol:
        report = count_file(options, space_options)
    elif options.supernet:
        report = count_space(fit(space_of(space_options), space_options, options.input_size, options.classes))
    else:
        report = count_named(named, options, space_options)
    cost = Cost(report["flops"], report["params"])
    report["scores"] = score(cost, comparison.comparison_model).to_json()
    report["convention"] = CONVENTION
    print(json.dumps(report) if output.json else as_table(report))
    return 0


def check_one_way(named: ArchitectureOptions, options: CountOptions) -> None:
    """Refuse flags that name nothing to count, or two things."""
    ways = {
        "--architecture": named.architecture,
        "--block-choices with --channel-choices": named.block_choices or named.channel_choices,
        "--supernet": options.supernet,
        "--symbol": options.symbol,
    }
    given = [way for way, value in ways.items() if value]
    if len(given) != 1:
        raise InputError(f"give one of {', '.join(ways)}; given: {' and '.join(given) or 'none'}")


def count_named(named: ArchitectureOptions, options: CountOptions, space_options: SpaceOptions) -> Dict[str, Any]:
    record = named_architecture(named, space_options)
    space = fit(record.space, space_options, options.input_size, options.classes)
    cost = count_architecture(space, record.architecture)
    name = named.architecture or str(record.architecture)
    return {"architecture": name, **asdict(record.architecture), **figures(space, cost)}


def count_space(space: SearchSpace) -> Dict[str, Any]:
    extremes = zip(("smallest", "largest"), cost_table(space).range())
    reach = {name: {"flops": cost.macs, "params": cost.params} for name, cost in extremes}
    return {"architecture": "supernet", **figures(space, count_supernet(space)), "range": reach, "note": SUPERNET_NOTE}


def figures(space: SearchSpace, cost: Cost) -> Dict[str, Any]:
    own = {"input_size": space.input_size, "classes": space.num_classes, "strides": space.strides}
    return {
        "flops": cost.macs,
        "params": cost.params,
        **own,
        "fingerprint": space.fingerprint,
        "space": space.to_json(),
    }


def count_file(options: CountOptions, space_options: SpaceOptions) -> Dict[str, Any]:
    """An exported network knows its own classes and structure, so flags about them are refused."""
    unfit = [name for name, value in as_json(space_options).items() if value != getattr(SpaceOptions(), name)]
    unfit += ["classes"] if options.classes else []
    if unfit:
        raise InputError(f"--{unfit[0].replace('_', '-')} has no effect on --symbol; leave it out")
    from spos.symbol_cost import count_nodes, load_symbol  # imports MXNet, which the other ways do not need

    size = options.input_size or SearchSpace.input_size
    nodes = count_nodes(load_symbol(options.symbol), (1, 3, size, size))
    macs, params = sum((node.cost for node in nodes), ZERO)
    own = {"input_size": size, "classes": nodes[-1].out_shape[-1], "space": None}
    return {"architecture": options.symbol, "flops": macs, "params": params, **own}


if __name__ == "__main__":
    sys.exit(run_program(main))
