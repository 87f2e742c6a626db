"""An architecture drawn stage by stage, and what its choice blocks and kinds of operators cost."""

from __future__ import annotations

from html import escape
from typing import Dict, List, Sequence, Tuple

from spos.core.tables import Column, Table, millions
from spos.counting.layers import LayerCost, subnet_layers
from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.blocks import ChoiceBlockGeometry
from spos.space.cost import ZERO, Cost
from spos.space.layers import Conv, Specs, SqueezeExcite, conv_size
from spos.space.names import block_position
from spos.space.space import SearchSpace
from utils.report.page import legend

WIDTH, BAR, GAP = 64, 11, 2.5  # of a drawn choice block, in px
WIDEST, NARROWEST = 56, 10  # bars of its convolutions
LABELS = 140  # where the lines of text below begin
STEM, HEAD = "stem", "head"
POINTWISE, DEPTHWISE, SE, OTHER = "pointwise conv", "depthwise conv", "squeeze-and-excite", "other conv, pooling"
NORM = "BatchNorm"
KINDS = (POINTWISE, DEPTHWISE, SE, OTHER, NORM)  # of operators that cost something


def draw(space: SearchSpace, architecture: Architecture) -> str:
    """HTML: stages of choice blocks, each drawn with its operators; wider bars are wider layers."""
    kinds = [(f"kind-{i}", kind.name) for i, kind in enumerate(space.blocks)]
    stages = [_stem(space)]
    for number, stage in enumerate(space.stages):
        blocks = [block for block in space.choice_blocks if block.stage == number]
        drawn = "".join(_block(space, architecture, block) for block in blocks)
        first, last = blocks[0], conv_size(blocks[0].in_size, blocks[0].stride)
        more = ", SE" if space.use_se and stage.se else ""
        facts = (
            f"{first.in_channels} → {first.out_channels} channels, {first.in_size}² → {last}² px, "
            f"stride {first.stride}, {first.act}{more}"
        )
        stages.append(_frame(f"Stage {number + 1}", facts, drawn))
    return legend(kinds) + f'<div class="stages">{"".join(stages)}{_head(space)}</div>'


def _frame(title: str, facts: str, inner: str = "") -> str:
    blocks = f'<div class="blocks">{inner}</div>' if inner else ""
    return f'<div class="stage"><b>{escape(title)}</b><span>{escape(facts)}</span>{blocks}</div>'


def _stem(space: SearchSpace) -> str:
    (conv,) = layer_specs.stem(space)
    size = conv_size(space.input_size, conv.stride)
    return _frame(
        "Stem",
        f"{conv.kernel_size}x{conv.kernel_size} conv, 3 → {conv.out_channels} channels, {space.input_size}² → {size}² "
        f"px, stride {conv.stride}, {conv.act}",
    )


def _head(space: SearchSpace) -> str:
    names = []
    for spec in layer_specs.head(space) + layer_specs.classifier(space):
        if isinstance(spec, Conv):
            names.append(f"1x1 conv to {spec.out_channels}" + (f", {spec.act}" if spec.act else ""))
        else:
            names.append({"SqueezeExcite": "SE", "GlobalPool": "global pool"}.get(type(spec).__name__, "dropout"))
    return _frame("Head, classifier", " → ".join(names))


def _block(space: SearchSpace, architecture: Architecture, block: ChoiceBlockGeometry) -> str:
    b, c = architecture.block_choices[block.index], architecture.channel_choices[block.index]
    choices, main = space.choices[block.index], space.block_layers(block.index, b, c).main
    width, scale, kind = space.mid_channels(block.index, c, b), choices.channel_scales[c], choices.blocks[b]
    title = (
        f"choice block {block.index}: {kind.name}, middle width {width} ({scale:g} x {block.out_channels // 2}), "
        f"{block.in_channels} to {block.out_channels} channels, stride {block.stride}"
        + (", squeeze-and-excite" if block.use_se else "")
    )
    middle = WIDTH / 2
    lines = (("kind", kind.name), ("", f"{width} (×{scale:g})"))
    texts = "".join(
        f'<text class="{name}" x="{middle}" y="{LABELS + 13 * i}">{escape(line)}</text>'
        for i, (name, line) in enumerate(lines)
    )
    notes = [f"s{block.stride}"] if block.stride > 1 else []
    return (
        f'<svg class="block" viewBox="0 0 {WIDTH} 168" role="img"><title>{escape(title)}</title>'
        f'<text x="{middle}" y="12">{block.index}{" · " if notes else ""}{" ".join(notes)}</text>'
        f"{_wires(block)}{_operators(space, block, main, b)}{texts}</svg>"
    )


def _wires(block: ChoiceBlockGeometry) -> str:
    """The way beside the main branch: kept channels, or a projection with its two convolutions."""
    path = f'<path class="wire" d="M32 18 H4 V{LABELS - 14} H32 M32 18 V{LABELS - 14}"/>'
    if not block.projects:
        return path
    bars = "".join(f'<rect class="side" x="1" y="{60 + 16 * i}" width="6" height="11" rx="2"/>' for i in range(2))
    return path + bars


def _operators(space: SearchSpace, block: ChoiceBlockGeometry, main: Specs, block_choice: int) -> str:
    """Bars of the main branch from above; the widest possible middle is the widest bar."""
    widest = max(space.mid_channels(block.index, -1), block.out_channels, block.in_channels)
    height = len(main) * (BAR + GAP)
    top = 22 + (LABELS - 40 - height) / 2
    bars = []
    for i, spec in enumerate(main):
        is_gate = isinstance(spec, SqueezeExcite)
        channels = spec.channels if isinstance(spec, SqueezeExcite) else spec.out_channels  # type: ignore[union-attr]
        length = NARROWEST + (WIDEST - 8 - NARROWEST) * channels / widest
        y = top + i * (BAR + GAP)
        name = "SE" if is_gate else _operator_name(spec)  # type: ignore[arg-type]
        kind = "gate" if is_gate else f"kind-{block_choice}"
        bars.append(
            f'<rect class="{kind}" x="{36 - length / 2:.1f}" y="{y:.1f}" width="{length:.1f}" height="{BAR}" rx="2"/>'
            + (f'<text class="op" x="36" y="{y + 8.5:.1f}">{name}</text>' if name else "")
        )
    return "".join(bars)


def _operator_name(conv: Conv) -> str:
    """What fits into a bar: the kernel of a depthwise convolution."""
    return f"{conv.kernel_size}" if conv.is_depthwise else ""


def block_table(space: SearchSpace, architecture: Architecture) -> Table:
    """The same as the drawing, with what every choice block costs."""
    costs = costs_by_block(space, architecture)
    rows = []
    for block, b, c in zip(space.choice_blocks, architecture.block_choices, architecture.channel_choices):
        cost = sum(costs[str(block.index)].values(), ZERO)
        rows.append(
            (
                block.index,
                f"{block.stage + 1}",
                space.choices[block.index].blocks[b].name,
                space.mid_channels(block.index, c, b),
            )
            + (space.channel_scales[c], f"{block.in_channels} → {block.out_channels}", block.in_size, block.stride)
            + ("yes" if block.use_se else "no", *cost)
        )
    columns = (
        *(Column("choice block"), Column("stage"), Column("kind"), Column("middle width"), Column("scale", spec="g")),
        *(Column("channels"), Column("input", unit="px"), Column("stride"), Column("SE")),
        *(millions("flops", "FLOPs"), millions("params", "params")),
    )
    return Table("", columns, tuple(rows))


def costs_by_block(space: SearchSpace, architecture: Architecture) -> Dict[str, Dict[str, Cost]]:
    """By stem, number of choice block and head: what each kind of operator costs there."""
    prefixes = {f"features.{block_position(space, b.index)}.": str(b.index) for b in space.choice_blocks}
    costs: Dict[str, Dict[str, Cost]] = {name: {} for name in (STEM, *prefixes.values(), HEAD)}
    place = STEM
    for layer in subnet_layers(space, architecture):
        inside = next((name for prefix, name in prefixes.items() if layer.name.startswith(prefix)), None)
        place = inside or (STEM if place == STEM else HEAD)
        kind = kind_of(layer)
        costs[place][kind] = costs[place].get(kind, ZERO) + layer.cost
    return costs


def kind_of(layer: LayerCost) -> str:
    """One of KINDS. Activations and shuffles cost nothing, so it does not matter which."""
    if "channel_attention" in layer.name:
        return SE
    if layer.kind == NORM:
        return NORM
    if layer.kind.startswith("conv 1x1"):
        return POINTWISE
    return DEPTHWISE if layer.kind.endswith("depthwise") else OTHER


def kind_table(costs: Dict[str, Dict[str, Cost]]) -> Table:
    """What each kind of operator costs in all choice blocks together, with shares."""
    sums: List[Tuple[str, Cost]] = [
        (kind, sum((block.get(kind, ZERO) for block in costs.values()), ZERO)) for kind in KINDS
    ]
    total = sum((cost for _, cost in sums), ZERO)
    columns: Tuple[Column, ...] = (
        Column("operator"),
        millions("flops", "FLOPs"),
        Column("flops_share", "share", spec=".1%"),
    )
    columns += (millions("params", "params"), Column("params_share", "share", spec=".1%"))
    rows = [(kind, c.macs, c.macs / total.macs, c.params, c.params / total.params) for kind, c in sums if any(c)]
    return Table("", columns, tuple(rows), totals=(("total", total.macs, 1.0, total.params, 1.0),))


def parts_of(costs: Dict[str, Dict[str, Cost]], field: str) -> Dict[str, Sequence[int]]:
    """By kind of operator its `macs` or `params` in every block; kinds that cost nothing are left out."""
    parts = {kind: [getattr(block.get(kind, ZERO), field) for block in costs.values()] for kind in KINDS}
    return {kind: values for kind, values in parts.items() if any(values)}
