"""The tables of `calculate_flops.py`, and the sentences that belong to their figures."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from spos.core.tables import Column, Table
from spos.counting.layers import LayerCost, head_layers, stem_layers, subnet_layers, supernet_branches
from spos.space.architecture import Architecture, format_choices
from spos.space.cost import COMPARISON_MODELS, ZERO
from spos.space.space import SearchSpace
from spos.space.space_file import LAYOUTS, search_space

CONVENTION = (
    "Counted: one multiply-add is 1; convolutions, one add per output element of a layer with bias, and the input "
    "elements of each global pooling. BatchNorm and activations are 0; gamma and beta are parameters."
)
PLAIN_CONVENTION = (
    "Counted: one multiply-add is 1; convolutions and the classifier alone. Additions of biases and global poolings, "
    "BatchNorm and activations are 0; gamma and beta are parameters."
)
SUPERNET_NOTE = (
    "Trained are the parameters of all branches. The total has gamma and beta of BatchNorm in stem and head too, which "
    "a supernet does not train; running statistics are no parameters. Smallest and largest are FLOPs and parameters of "
    "single paths, each taken alone."
)
PUBLISHED_NOTE = (
    "Published are 15.4M parameters and paths from 168M to 841M FLOPs: these are "
    "SNB-3 at 0.6 with SE and SXB-3 at 2.0 without SE in every block, not the ends."
)

LAYER_COLUMNS = (
    Column("layer"),
    Column("kind"),
    Column("output"),
    Column("flops", "FLOPs", spec=","),
    Column("params", spec=","),
)
BRANCH_COLUMNS = (
    Column("layer"),
    Column("kind"),
    Column("output"),
    Column("flops_narrowest", "FLOPs, narrowest", spec=","),
    Column("flops_widest", "FLOPs, widest", spec=","),
    Column("params", spec=","),
    Column("trained"),
)


def convention(additions: bool) -> str:
    """What is counted, with the additions of biases and poolings or without them."""
    return CONVENTION if additions else PLAIN_CONVENTION


def supernet_note(space: SearchSpace) -> str:
    """What the figures of a supernet are; of a published one also what was printed."""
    published = [
        search_space(use_se=se, last_conv_after_pooling=last) for se in (False, True) for last in (False, True)
    ]
    return f"{SUPERNET_NOTE} {PUBLISHED_NOTE}" if space in published else SUPERNET_NOTE


def summary_table(report: Mapping[str, Any], for_machines: bool = False) -> Table:
    """What was counted and its scores.

    Args:
        report: what `calculate_flops.py --json` prints.
        for_machines: one row of raw values instead of a row for each.
    """
    notes = tuple(report[key] for key in ("note", "convention") if key in report)
    if for_machines:
        values = _flatten(report)
        return Table("", tuple(Column(name) for name in values), (tuple(values.values()),))
    return Table("", (Column("figure"), Column("value")), tuple(_summary(report)), notes, header=False)


def _summary(report: Mapping[str, Any]) -> List[Tuple[str, str]]:
    scores = report["scores"]
    model = COMPARISON_MODELS[scores["comparison_model"]]
    supernet = "range" in report
    rows = [
        ("architecture", report["architecture"]),
        ("input", describe_input(report)),
        ("FLOPs of the largest path" if supernet else "FLOPs", in_millions(report["flops"])),
        ("trainable params" if supernet else "params", in_millions(report["params"])),
    ]
    if supernet:
        rows.append(("params in total", in_millions(report["total_params"])))
        for name, cost in report["range"].items():
            text = f"FLOPs {in_millions(cost['flops'])}, params {in_millions(cost['params'])}"
            rows.append((f"{name} subnet", text))
    if "latency" in report:
        rows.append(("latency", describe_latency(report["latency"])))
    compared = f"{scores['comparison_model']}: {model.macs / 1e6:g} M FLOPs, {model.params / 1e6:g} M params"
    return rows + [
        ("compared with", compared),
        ("FLOP ratio", f"{scores['flop_ratio']:.6f}"),
        ("param ratio", f"{scores['param_ratio']:.6f}"),
        ("sum of normalized scores", f"{scores['normalized_sum']:.6f}"),
        ("combined score", f"{scores['combined']:.6f} (0.5 FLOP ratio + 0.5 param ratio)"),
    ]


def _flatten(report: Mapping[str, Any], prefix: str = "") -> Dict[str, Any]:
    """The values of a report and of what is nested in it, lists as text; sentences and the space are left out."""
    values: Dict[str, Any] = {}
    for name, value in report.items():
        if name in ("space", "note", "convention"):
            continue
        if isinstance(value, dict):
            values.update(_flatten(value, f"{prefix}{name}_"))
        elif isinstance(value, (tuple, list)):
            values[prefix + name] = format_choices(value)
        else:
            values[prefix + name] = value
    return values


def layer_table(name: str, space: SearchSpace, architecture: Architecture) -> Table:
    """Every layer of a subnet."""
    notes = (convention(space.count_additions), "Names are those of the parameters in .params files.")
    return table_of_layers(f"Layers of {name}", subnet_layers(space, architecture), notes)


def table_of_layers(title: str, layers: Sequence[LayerCost], notes: Sequence[str]) -> Table:
    """Layers of a subnet, or operators of an exported graph, and their sum."""
    rows = tuple((layer.name, layer.kind, by_size(layer.out_shape), *layer.cost) for layer in layers)
    total = ("total", "", "", *sum((layer.cost for layer in layers), ZERO))
    return Table(title, LAYER_COLUMNS, rows, tuple(notes), (total,))


def branch_table(space: SearchSpace) -> Table:
    """Every choice of every choice block of a supernet, and the layers around them."""
    branches = (
        (branch.name, branch.kind, by_size(branch.out_shape), branch.narrowest.macs, *branch.widest, "yes")
        for branch in supernet_branches(space)
    )
    rows = (*map(_outer_row, stem_layers(space)), *branches, *map(_outer_row, head_layers(space)))
    trained = sum(row[5] for row in rows if row[6] == "yes")
    totals = (
        ("trained", "", "", None, None, trained, ""),
        ("total", "", "", None, None, sum(row[5] for row in rows), ""),
    )
    notes = (
        convention(space.count_additions),
        f"Narrowest and widest: middle channels at {_ends_of_scales(space)}; parameters are those of the widest. A "
        "path runs one branch of each choice block.",
    )
    return Table("Branches of the supernet", BRANCH_COLUMNS, rows, notes, totals)


def _ends_of_scales(space: SearchSpace) -> str:
    """The smallest and the largest scale that may be searched, in words."""
    searched = [space.channel_choices(index) for index in range(space.num_choice_blocks)]
    ends = {
        (own.channel_scales[widths[0]], own.channel_scales[widths[-1]]) for own, widths in zip(space.choices, searched)
    }
    if len(ends) > 1:
        return "the ends of the scales of each choice block"
    low, high = ends.pop()
    return f"scales {low:g} and {high:g}"


def _outer_row(layer: LayerCost) -> Tuple[Any, ...]:
    """A layer that every path runs; its BatchNorm is not trained."""
    macs, params = layer.cost
    trained = "" if not params else "no" if layer.kind == "BatchNorm" else "yes"
    return (layer.name, layer.kind, by_size(layer.out_shape), macs, macs, params, trained)


def by_size(shape: Sequence[int]) -> str:
    """`'64 x 28 x 28'`."""
    return " x ".join(str(size) for size in shape)


def in_millions(value: int) -> str:
    return f"{value / 1e6:.3f} M ({value:,})"


def describe_latency(latency: Mapping[str, Any]) -> str:
    """What `LatencyTable.predict` gives, in one line."""
    error = latency["held_out_error"]
    quality = "error not known" if error is None else f"median error {error:.1%}"
    return f"{latency['ms']:.2f} ms ({latency['device']}, {latency['dtype']}, batch {latency['batch_size']}; {quality})"


def describe_input(report: Mapping[str, Any]) -> str:
    """What is fed, and the search space where there is one. Args: report: with input_size, classes and space."""
    text = f"3 x {report['input_size']} x {report['input_size']}, {report['classes']} classes"
    space = report["space"]
    if not space:
        return text
    parts = [f"strides {format_choices(space['strides'])}", f"{_word(space)} {space['layout']}"]
    parts += ["SE"] if space["use_se"] else []
    parts += ["last conv after pooling"] if space["last_conv_after_pooling"] else []
    if space["width_multiple"] > 1:
        parts.append(f"widths in multiples of {space['width_multiple']}")
    if space["min_channel_choice"]:
        parts.append(_left_out(space))
    return ", ".join([text, *parts])


def _word(space: Mapping[str, Any]) -> str:
    """What the name of a space is the name of."""
    return "layout" if space["layout"] in LAYOUTS else "space"


def _left_out(space: Mapping[str, Any]) -> str:
    """Which widths may not be searched; choice blocks with scales of their own count from the widest."""
    least = space["min_channel_choice"]
    has_own = any(stage.get("channel_scales") or stage.get("own_choices") for stage in space["stages"])
    return f"without the {least} narrowest widths" if has_own else f"widths from {space['channel_scales'][least]:g}"
