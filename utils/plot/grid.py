"""The grid of a supernet's choices: a column for every choice block, kinds of blocks above widths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Dict, List, Sequence, Tuple

from spos.space.blocks import BlockKind, ChoiceBlockGeometry
from spos.space.layers import SqueezeExcite, conv_size
from spos.space.space import SearchSpace
from utils.plot import diagrams
from utils.plot.diagrams import ACTIVATIONS, SMALL, TITLE, WIDTH, Place, Point, text_width

FIRST, LAST = 1.84, WIDTH - 1.58  # where the stages begin and end, if there is room for them
NAMES = 0.6  # room left of the stages for names of kinds
STAGE_GAP, MARGIN = 0.12, 0.05  # between stages; at the sides of words
KINDS, CELL = 1.24, 0.3  # heights: of the first kind of blocks; and from one to the next
BAR = 0.125  # height of a width
BOX, FLAT = 0.72, 0.16  # heights of a block choice, and of one that computes nothing, in cells


@dataclass(frozen=True)
class Grid:
    """Where the choices of a space stand, in inches. A row is a kind of blocks, or a scale of widths."""

    space: SearchSpace

    @cached_property
    def kinds(self) -> Tuple[BlockKind, ...]:
        """Those that some choice block may be."""
        return tuple(kind for kind in self.space.blocks if any(kind in own.blocks for own in self.space.choices))

    @cached_property
    def scales(self) -> List[float]:
        """All scales that the width of some choice block may have."""
        own = {self._scale(block, c) for block in self.space.choice_blocks for c in self.widths_of(block)}
        return sorted(own)

    def _scale(self, block: ChoiceBlockGeometry, channel_choice: int) -> float:
        return self.space.choices[block.index].channel_scales[channel_choice]

    def widths_of(self, block: ChoiceBlockGeometry) -> Sequence[int]:
        """The channel choices of a choice block; none if no block that it may be has a width to choose."""
        kinds = range(len(self.space.choices[block.index].blocks))
        has_middle = any(self.space.has_middle(block.index, b) for b in kinds)
        return self.space.channel_choices(block.index) if has_middle else ()

    @cached_property
    def first(self) -> float:
        """Where the stages begin."""
        return FIRST + max(0, *(text_width(kind.name, SMALL) - NAMES for kind in self.kinds))

    @cached_property
    def _stages(self) -> List[Tuple[float, float]]:
        """(left, width) of every stage: as many times the same as it has choice blocks, and room for its words."""
        space, available = self.space, LAST - FIRST - STAGE_GAP * (len(self.space.stages) - 1)
        needed = [self._needed(stage) for stage in range(len(space.stages))]
        widths = shared(available, [stage.num_blocks for stage in space.stages], needed)
        lefts = [self.first + sum(widths[:i]) + STAGE_GAP * i for i in range(len(widths))]
        return list(zip(lefts, widths))

    def _needed(self, stage: int) -> float:
        """Width of the words above a stage, and of the channels below it."""
        title, *facts = stage_facts(self.space, stage)
        words = max(text_width(title, TITLE, "bold"), *(text_width(fact, SMALL) for fact in facts))
        own = [block for block in self.space.choice_blocks if block.stage == stage]
        widest = max(self._widest(block) for block in own)
        return max(words + 2 * MARGIN, len(own) * (text_width(str(widest), SMALL) + MARGIN))

    def _widest(self, block: ChoiceBlockGeometry) -> int:
        kinds = range(len(self.space.choices[block.index].blocks))
        return max(self.space.mid_channels(block.index, -1, b) for b in kinds)

    def stage(self, stage: int) -> Tuple[float, float]:
        """(left, width) of a stage."""
        return self._stages[stage]

    @property
    def last(self) -> float:
        """Where the stages end."""
        return sum(self._stages[-1])

    @property
    def width(self) -> float:
        """Of the whole figure."""
        return self.last + WIDTH - LAST

    @cached_property
    def pitch(self) -> float:
        """The least from one column to the next."""
        return min(width / stage.num_blocks for (_, width), stage in zip(self._stages, self.space.stages))

    @cached_property
    def _columns(self) -> List[float]:
        stages = zip(self._stages, self.space.stages)
        return [
            left + width / own.num_blocks * (i + 0.5) for (left, width), own in stages for i in range(own.num_blocks)
        ]

    def x(self, block: ChoiceBlockGeometry) -> float:
        return self._columns[block.index]

    def row(self, number: int) -> float:
        """Height of a kind of blocks."""
        return KINDS + CELL * (number + 0.5)

    def points(self, block: ChoiceBlockGeometry) -> List[Point]:
        """The middles of the block choices of a choice block."""
        return [(self.x(block), self.row(self.kinds.index(kind))) for kind in self.space.choices[block.index].blocks]

    def box(self, block: ChoiceBlockGeometry, block_choice: int) -> Place:
        x, y = self.points(block)[block_choice]
        width = 0.62 * min(self.pitch, 2 * CELL)
        height = CELL * (BOX if self.space.block_layers(block.index, block_choice, -1).main else FLAT)
        return Place(x - width / 2, y - height / 2, width, height)

    @property
    def middle(self) -> float:
        """Height at which the stages are entered and left, between two kinds."""
        return KINDS + CELL * ((len(self.kinds) + 1) // 2)

    @property
    def widths(self) -> float:
        """Where the widths begin."""
        return KINDS + CELL * len(self.kinds) + 0.14

    @cached_property
    def _width_rows(self) -> Dict[float, float]:
        return {scale: self.widths + BAR * row for row, scale in enumerate(self.scales)}

    def width_row(self, scale: float) -> float:
        """Where the bars of a scale begin."""
        return self._width_rows[scale]

    def bar(self, block: ChoiceBlockGeometry, channel_choice: int) -> Place:
        """Of a length that is as the scale of the width."""
        scale = self._scale(block, channel_choice)
        length = 0.84 * min(self.pitch, 2 * CELL) * scale / max(self.scales)
        return Place(self.x(block) - length / 2, self.width_row(scale), length, 0.68 * BAR)

    @property
    def bottom(self) -> float:
        """Where the widths end."""
        return self.widths + BAR * len(self.scales)


def shared(available: float, counts: Sequence[int], needed: Sequence[float]) -> List[float]:
    """Widths in the ratio of the counts; where more is needed, that, and what is left for the others."""
    widths = list(needed)
    free = set(range(len(counts)))
    while free:
        share = (available - sum(needed[i] for i in range(len(counts)) if i not in free)) / sum(counts[i] for i in free)
        narrow = {i for i in free if share * counts[i] < needed[i]}
        if not narrow:
            return [share * count if i in free else width for i, (count, width) in enumerate(zip(counts, widths))]
        free -= narrow
    return widths


def stage_facts(space: SearchSpace, stage: int) -> List[str]:
    """What the choices of a stage have in common: its name, stride, what leaves it, activation, and SE."""
    own = [block for block in space.choice_blocks if block.stage == stage]
    first = own[0]
    gates = [
        any(isinstance(spec, SqueezeExcite) for spec in layers.main)
        for block in own
        for b in range(len(space.choices[block.index].blocks))
        for layers in [space.block_layers(block.index, b, -1)]
        if layers.main
    ]
    facts = [f"stage {stage + 1}", f"stride {first.stride}"]
    facts += [diagrams.shape(first.out_channels, conv_size(first.in_size, first.stride)), ACTIVATIONS[first.act]]
    return facts + (["SE" if all(gates) else "SE in some"] if any(gates) else [])
