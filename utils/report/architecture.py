"""An architecture drawn stage by stage, and what its choice blocks and kinds of operators cost."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import Dict, List, Optional, Sequence, Tuple

from spos.core.tables import Column, Table, millions
from spos.counting.layers import LayerCost, subnet_layers
from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.blocks import WIRINGS, BlockLayers, ChoiceBlockGeometry
from spos.space.cost import ZERO, Cost
from spos.space.layers import Conv, SqueezeExcite, conv_size
from spos.space.names import block_position
from spos.space.space import SearchSpace
from utils.report.page import kind_class, legend

WIDTH, BAR, GAP = 64, 11, 2.5  # of a drawn choice block, in px
MOST_BARS = 7  # of this height; more are lower
WIDEST, NARROWEST = 56, 10  # bars of its convolutions
MOST_LETTERS = {"kind": 9, "": 11}  # of the lines of text; longer ones are squeezed
LABELS = 140  # where the lines of text below begin
STEM, HEAD = "stem", "head"
POINTWISE, DEPTHWISE, SE, OTHER = "pointwise conv", "depthwise conv", "squeeze-and-excite", "other conv, pooling"
NORM = "BatchNorm"
KINDS = (POINTWISE, DEPTHWISE, SE, OTHER, NORM)  # of operators that cost something


def draw(space: SearchSpace, architecture: Architecture) -> str:
    """HTML: stages of choice blocks, each drawn with its operators; wider bars are wider layers."""
    kinds = [(kind_class(i), kind.name) for i, kind in enumerate(space.blocks)]
    stages = [_stem(space)]
    for number in range(len(space.stages)):
        blocks = [block for block in space.choice_blocks if block.stage == number]
        drawn = "".join(_block(space, architecture, block) for block in blocks)
        first, last = blocks[0], conv_size(blocks[0].in_size, blocks[0].stride)
        more = ", SE" if any(has_gate(layers_of(space, architecture, block.index)) for block in blocks) else ""
        facts = (
            f"{first.in_channels} → {first.out_channels} channels, {first.in_size}² → {last}² px, "
            f"stride {first.stride}, {first.act}{more}"
        )
        stages.append(_frame(f"Stage {number + 1}", facts, drawn))
    return legend(kinds) + f'<div class="stages">{"".join(stages)}{_head(space)}</div>'


def layers_of(space: SearchSpace, architecture: Architecture, index: int) -> BlockLayers:
    return space.block_layers(index, architecture.block_choices[index], architecture.channel_choices[index])


def has_gate(layers: BlockLayers) -> bool:
    return any(isinstance(spec, SqueezeExcite) for spec in layers.main)


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
    kind = space.choices[block.index].blocks[architecture.block_choices[block.index]]
    layers = layers_of(space, architecture, block.index)
    title = (
        f"choice block {block.index}: {kind.name}, {_describe_middle(space, architecture, block)}, "
        f"{block.in_channels} to {block.out_channels} channels, stride {block.stride}"
        + (", squeeze-and-excite" if has_gate(layers) else "")
        + (f", {layers.act} behind the sum" if layers.act else "")
    )
    middle = WIDTH / 2
    scale = scale_of(space, architecture, block.index)
    lines = (("kind", kind.name), ("", f"{layers.middle} (×{scale:g})" if layers.middle else ""))
    texts = "".join(
        f'<text class="{name}" x="{middle}" y="{LABELS + 13 * i}"{_squeezed(name, line)}>{escape(line)}</text>'
        for i, (name, line) in enumerate(lines)
        if line
    )
    notes = [f"s{block.stride}"] if block.stride > 1 else []
    bars = _operators(space, block, layers, kind_class(space.blocks.index(kind)))
    return (
        f'<svg class="block" viewBox="0 0 {WIDTH} 168" role="img"><title>{escape(title)}</title>'
        f'<text x="{middle}" y="12">{block.index}{" · " if notes else ""}{" ".join(notes)}</text>'
        f"{_wires(layers)}{bars}{texts}</svg>"
    )


def _squeezed(name: str, line: str) -> str:
    """An attribute that keeps a long line within its drawing."""
    return f' textLength="{WIDTH - 4}" lengthAdjust="spacingAndGlyphs"' if len(line) > MOST_LETTERS[name] else ""


def scale_of(space: SearchSpace, architecture: Architecture, index: int) -> Optional[float]:
    """Of the width of a choice block; None if the block has none to choose."""
    if not layers_of(space, architecture, index).middle:
        return None
    return space.choices[index].channel_scales[architecture.channel_choices[index]]


def _describe_middle(space: SearchSpace, architecture: Architecture, block: ChoiceBlockGeometry) -> str:
    layers, scale = layers_of(space, architecture, block.index), scale_of(space, architecture, block.index)
    if scale is None:
        return "no width to choose" if layers.main else "its input is passed on"
    kind = space.choices[block.index].blocks[architecture.block_choices[block.index]]
    plain = kind.describe(replace(block, width_multiple=1)).middle
    return f"middle width {layers.middle} ({scale:g} x {plain})"


def _wires(layers: BlockLayers) -> str:
    """The way beside the main branch, if there is one: what passes by, or a projection and its layers; + adds."""
    wiring, end = WIRINGS[layers.wiring], LABELS - 14
    beside = f"M32 18 H4 V{end} H32 " if wiring.splits or wiring.adds else ""
    path = f'<path class="wire" d="{beside}M32 18 V{end}"/>'
    bars = "".join(
        f'<rect class="side" x="1" y="{60 + 16 * i}" width="6" height="11" rx="2"/>'
        for i in range(len(layers.projection))
    )
    return path + bars + (f'<text class="sum" x="32" y="{end + 4}">+</text>' if wiring.adds else "")


def describe_wires(space: SearchSpace, architecture: Architecture) -> str:
    """What the lines beside the main branches are."""
    wirings = [WIRINGS[layers_of(space, architecture, index).wiring] for index in range(space.num_choice_blocks)]
    found = ["the kept half of the channels, or the projection"] if any(one.splits for one in wirings) else []
    found += ["the input or its projection, which is added (+)"] if any(one.adds for one in wirings) else []
    return f"the line on the left is {', or '.join(found)}" if found else "nothing runs beside them"


def _operators(space: SearchSpace, block: ChoiceBlockGeometry, layers: BlockLayers, kind: str) -> str:
    """Bars of the main branch from above; the widest possible middle is the widest bar."""
    kinds = range(len(space.choices[block.index].blocks))
    middles = (space.mid_channels(block.index, -1, b) for b in kinds)
    widest = max(*middles, block.out_channels, block.in_channels)
    step = (BAR + GAP) * min(1, MOST_BARS / max(len(layers.main), 1))
    top = 22 + (LABELS - 40 - len(layers.main) * step) / 2
    bars = []
    for i, spec in enumerate(layers.main):
        is_gate = isinstance(spec, SqueezeExcite)
        channels = spec.channels if isinstance(spec, SqueezeExcite) else spec.out_channels  # type: ignore[union-attr]
        length = NARROWEST + (WIDEST - 8 - NARROWEST) * channels / widest
        y = top + i * step
        name = "SE" if is_gate else _operator_name(spec)  # type: ignore[arg-type]
        bars.append(
            f'<rect class="{"gate" if is_gate else kind}" x="{36 - length / 2:.1f}" y="{y:.1f}" width="{length:.1f}" '
            f'height="{step - GAP:g}" rx="2"/>'
            + (f'<text class="op" x="36" y="{y + step - GAP - 2.5:.1f}">{name}</text>' if name else "")
        )
    return "".join(bars)


def _operator_name(conv: Conv) -> str:
    """What fits into a bar: the kernel, if it is larger than 1."""
    return f"{conv.kernel_size}" if conv.kernel_size > 1 else ""


def block_table(space: SearchSpace, architecture: Architecture) -> Table:
    """The same as the drawing, with what every choice block costs."""
    costs = costs_by_block(space, architecture)
    rows = []
    for block, b in zip(space.choice_blocks, architecture.block_choices):
        cost, layers = sum(costs[str(block.index)].values(), ZERO), layers_of(space, architecture, block.index)
        own = block.index, f"{block.stage + 1}", space.choices[block.index].blocks[b].name, layers.middle or None
        place = f"{block.in_channels} → {block.out_channels}", block.in_size, block.stride
        gate = "yes" if has_gate(layers) else "no"
        rows.append((*own, scale_of(space, architecture, block.index), *place, gate, *cost))
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
