"""What is drawn of the choice blocks of a stage: those that are alike once, by the structure of their layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Dict, List, Sequence, Tuple

from spos.space.blocks import WIRINGS, BlockKind, BlockLayers, ChoiceBlockGeometry
from spos.space.layers import Conv, LayerSpec, Specs
from spos.space.space import SearchSpace
from utils.plot import diagrams
from utils.plot.diagrams import BOX, SMALL, TITLE, Row, text_width

KEPT, GAP = 0.42, 0.12  # width left of a main branch for what passes by; between boxes
TITLE_WIDTH = 1.9  # where names of blocks are broken into lines


@dataclass(frozen=True)
class Drawing:
    """What is drawn of choice blocks that are alike, for the block choices that differ in kernels and widths only.

    Args:
        block: one of them.
        widths: of the middle, narrowest first, for each kind; one width is no choice.
        layers: of the first kind at its widest.
        which: the choice blocks, in words.
    """

    block: ChoiceBlockGeometry
    kinds: Tuple[BlockKind, ...]
    widths: Tuple[Tuple[int, ...], ...]
    layers: BlockLayers
    main: Tuple[Row, ...]
    projection: Tuple[Row, ...]
    which: str = ""

    @property
    def names(self) -> str:
        return ", ".join(kind.name for kind in self.kinds)

    @property
    def place(self) -> str:
        return f"{self.which} of stage {self.block.stage + 1}, stride {self.block.stride}"

    @property
    def selects(self) -> bool:
        return any(len(own) > 1 for own in self.widths)

    @property
    def has_branches(self) -> bool:
        """Whether anything is beside the main branch."""
        wiring = WIRINGS[self.layers.wiring]
        return wiring.adds or wiring.splits

    @cached_property
    def title(self) -> List[str]:
        """Lines of names."""
        lines: List[str] = []
        for kind in self.kinds:
            longer = f"{lines[-1]} {kind.name}" if lines else kind.name
            fits = text_width(longer, TITLE, "bold") <= max(TITLE_WIDTH, self.drawn_width)
            lines[-1:] = [longer] if fits or not lines else [lines[-1], kind.name]
            lines[-1] += "," if kind is not self.kinds[-1] else ""
        return lines

    @property
    def drawn_width(self) -> float:
        """Of the boxes."""
        if not self.has_branches:
            return BOX
        return BOX + GAP + (BOX if self.layers.projection else KEPT)

    @cached_property
    def width(self) -> float:
        words = max(text_width(self.place, SMALL), *(text_width(line, TITLE, "bold") for line in self.title))
        return self.drawn_width if words <= self.drawn_width else words + GAP

    @property
    def joined(self) -> Tuple[int, int]:
        """Channels of what is joined: what passes by or is projected, and the main branch."""
        if WIRINGS[self.layers.wiring].adds:
            return self.block.out_channels, self.block.out_channels
        beside = diagrams.channels(self.projection[-1])[0] if self.projection else self.block.in_channels // 2
        return beside, self.block.out_channels - beside

    @property
    def joining(self) -> str:
        """How."""
        return "sum" if WIRINGS[self.layers.wiring].adds else "concat"

    def text(self) -> str:
        """One line: the channels from layer to layer of the main branch."""
        if not self.main:
            return "nothing"
        leaving = (diagrams.span(diagrams.channels(row)) for row in self.main)
        return " -> ".join([diagrams.entering(self.main[0]), *leaving])


def drawings_of(space: SearchSpace, stage: int) -> List[Drawing]:
    """For block choices of one structure: in blocks that do not project, then in those that do, as far as there are.

    Choice blocks in which they are the same share a drawing.
    """
    own = [block for block in space.choice_blocks if block.stage == stage]
    groups: Dict[Any, List[int]] = {}
    for position, block in enumerate(own):
        for chosen in by_structure(space, block):
            one = drawing(space, block, chosen)
            groups.setdefault(replace(one, block=replace(block, index=0, projects=False)), []).append(position)
    order = {kind.name: number for number, kind in enumerate(space.blocks)}
    found = [
        (order[one.kinds[0].name], 0 in positions, positions, replace(one, which=in_words(positions, len(own))))
        for one, positions in groups.items()
    ]
    return [one for *_, one in sorted(found, key=lambda item: item[:3])]


def in_words(positions: Sequence[int], count: int) -> str:
    """Some of so many choice blocks."""
    others = list(range(1, count))
    named = {"first block": [0], "other blocks": others, "all blocks": [0, *others]}
    for words, own in named.items():
        if list(positions) == own:
            return words
    return f"block{'s' if len(positions) > 1 else ''} {', '.join(str(position + 1) for position in positions)}"


def by_structure(space: SearchSpace, block: ChoiceBlockGeometry) -> List[List[int]]:
    """The block choices of a choice block, those of one structure together."""
    groups: Dict[Any, List[int]] = {}
    for b in range(len(space.choices[block.index].blocks)):
        layers = space.block_layers(block.index, b, space.channel_choices(block.index)[-1])
        groups.setdefault(structure(layers), []).append(b)
    return list(groups.values())


def structure(layers: BlockLayers) -> Tuple[Any, ...]:
    """What is drawn of layers besides channels and the kernel, which is `k` where it is the widest."""
    widest = widest_kernel(layers.main)
    return layers.wiring, layers.act, *(tuple(_form(spec, widest) for spec in specs) for _, specs in layers.branches)


def _form(spec: LayerSpec, widest: int) -> Tuple[Any, ...]:
    if not isinstance(spec, Conv):
        return (type(spec),)
    kernel = "k" if spec.kernel_size == widest else spec.kernel_size
    return kernel, spec.stride, spec.is_depthwise, spec.bn, spec.act, spec.selects


def widest_kernel(specs: Specs) -> int:
    return max((spec.kernel_size for spec in specs if isinstance(spec, Conv)), default=0)


def drawing(space: SearchSpace, block: ChoiceBlockGeometry, chosen: Sequence[int]) -> Drawing:
    """Of some of the block choices of a choice block."""
    kinds, choices = space.choices[block.index].blocks, space.channel_choices(block.index)
    described = [[space.block_layers(block.index, b, c) for c in choices] for b in chosen]
    widths = tuple(tuple(dict.fromkeys(one.middle for one in own)) for own in described)
    selects = any(len(own) > 1 for own in widths)
    main, projection = (
        tuple(zip(*([_shown(spec, selects) for spec in getattr(one, name)] for own in described for one in own)))
        for name in ("main", "projection")
    )
    return Drawing(block, tuple(kinds[b] for b in chosen), widths, described[0][-1], main, projection)


def _shown(spec: LayerSpec, selects: bool) -> LayerSpec:
    """Without channel selection where there is one width only."""
    return spec if selects or not isinstance(spec, Conv) else replace(spec, selects=False)
