"""Multiply-adds and parameters of an architecture in closed form, and the scores made of them.

Convention (the one of the published 328M / 3.4M): a multiply-add is 1; convolutions count, plus one add per output
element of a layer with bias, plus the input elements of each global pooling; BatchNorm and activations count 0.
Parameters include BatchNorm gamma and beta, not the running statistics. Figures are for one image. A space without
`count_additions` leaves out the additions of biases and poolings, as much of the literature does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np

from spos.core.errors import InputError
from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.layers import Conv, Dropout, GlobalPool, LayerSpec, Specs, SqueezeExcite, with_sizes
from spos.space.published import NETWORKS, PublishedNetwork
from spos.space.space import SearchSpace

NANOSECONDS_PER_MS = 1_000_000


class Cost(NamedTuple):
    """Raw integers. What people call FLOPs is `macs`."""

    macs: int
    params: int

    def __add__(self, other: Tuple[int, ...]) -> Cost:  # type: ignore[override]  # adds, where a tuple appends
        return Cost(self.macs + other[0], self.params + other[1])


ZERO = Cost(0, 0)


class TimedCost(NamedTuple):
    """A cost with what a latency table says. The first two are those of `Cost`, so limits and scores read either."""

    macs: int
    params: int
    nanoseconds: int

    @property
    def latency_ms(self) -> float:
        return self.nanoseconds / NANOSECONDS_PER_MS


AnyCost = Union[Cost, TimedCost]


# Published networks that constraints and scores may be relative to, by the names that flags give them.
COMPARISON_MODELS: Mapping[str, PublishedNetwork] = {
    network.comparison_model: network for network in NETWORKS if network.comparison_model
}
DEFAULT_COMPARISON_MODEL = "SinglePathOneShot"


def count_conv(conv: Conv, size: int, additions: bool = True) -> Cost:
    """Cost of a convolution with its BatchNorm, with an output of `size` x `size`."""
    out_elements = conv.out_channels * size * size
    _, in_per_group, kernel, _ = conv.weight_shape
    weights_per_output = in_per_group * kernel * kernel
    macs = out_elements * (weights_per_output + (conv.bias and additions))
    params = conv.out_channels * (weights_per_output + conv.bias + 2 * conv.bn)
    return Cost(macs, params)


def count_layer(spec: LayerSpec, in_size: int, out_size: int, additions: bool = True) -> Cost:
    """Cost of one layer of a chain."""
    if isinstance(spec, Conv):
        return count_conv(spec, out_size, additions)
    if isinstance(spec, SqueezeExcite):
        return count(spec.gate, in_size, additions)[0]
    if isinstance(spec, GlobalPool):
        return Cost(spec.channels * in_size * in_size * additions, 0)
    if isinstance(spec, Dropout):
        return ZERO
    raise TypeError(f"no cost is known for layer {spec!r}")


def count(specs: Specs, in_size: int, additions: bool = True) -> Tuple[Cost, int]:
    """Cost of a chain of layers fed with `in_size` x `in_size` maps, and the height/width that leaves it.

    Args:
        additions: count those of biases and poolings.
    """
    total, size = ZERO, in_size
    for spec, before, size in with_sizes(specs, in_size):
        total += count_layer(spec, before, size, additions)
    return total, size


def count_choice_block(space: SearchSpace, index: int, block_choice: int, channel_choice: int) -> Cost:
    """Cost of one choice block under a block and a channel choice: both branches."""
    layers, size = space.block_layers(index, block_choice, channel_choice), space.choice_blocks[index].in_size
    return sum((count(specs, size, space.count_additions)[0] for _, specs in layers.branches), ZERO)


class CostTable:
    """Costs of every choice in every choice block of a space, summed per architecture in microseconds.

    Exact, because the channels between choice blocks do not depend on the choices.

    Attributes:
        fixed: cost of stem, head and classifier.    Both hold at the space's input size, the largest if it is a choice.
        blocks: `blocks[i][b][c]`, the cost of choice block i with block choice b and channel choice c; choice blocks
            may have different numbers of both.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        tail = layer_specs.head(space) + layer_specs.classifier(space)
        self.fixed = (
            count(layer_specs.stem(space), space.input_size, space.count_additions)[0]
            + count(tail, space.out_size, space.count_additions)[0]
        )
        self.blocks = tuple(
            tuple(
                tuple(count_choice_block(space, i, b, c) for c in range(len(choices.channel_scales)))
                for b in range(len(choices.blocks))
            )
            for i, choices in enumerate(space.choices)
        )

    def cost(self, architecture: Architecture) -> Cost:
        """Cost of an architecture of this space (not checked; see `SearchSpace.validate`), at its own input size."""
        if architecture.input_size not in (None, self.space.input_size):
            return cost_table(self.space.at(architecture.input_size)).cost(architecture)
        macs, params = self.fixed
        for block, b, c in zip(self.blocks, architecture.block_choices, architecture.channel_choices):
            choice = block[b][c]
            macs += choice[0]
            params += choice[1]
        return Cost(macs, params)

    def choice_costs(self, lowest: Optional[int] = None) -> List[np.ndarray]:
        """For every choice block the (MACs, params) of its choices, (choices, 2) int64.

        Choices are those of `SearchSpace.pairs`, in its order.

        Args:
            lowest: narrowest channel choice; the space's own by default.
        Raises: InputError if the input size is a choice: these costs depend on it, so ask a table of `SearchSpace.at`.
        """
        if self.space.input_sizes:
            sizes = ", ".join(map(str, self.space.input_sizes))
            raise InputError(
                f"choices cost something else at each input size; give --input-size, one of {sizes}, or a space of one"
            )
        return [
            np.array([block[b][c] for b, c in self.space.pairs(i, lowest)], dtype=np.int64)
            for i, block in enumerate(self.blocks)
        ]

    def range(self) -> Tuple[Cost, Cost]:
        """Smallest and largest reachable (MACs, params), each taken alone, over the searchable choices."""
        if self.space.input_sizes:
            lows, highs = zip(*(cost_table(self.space.at(size)).range() for size in self.space.input_sizes))
            return Cost(*map(min, zip(*lows))), Cost(*map(max, zip(*highs)))
        reachable = self.choice_costs()
        smallest, largest = (sum(pick(block, axis=0) for block in reachable).tolist() for pick in (np.min, np.max))
        return self.fixed + tuple(smallest), self.fixed + tuple(largest)

    def most_expensive(self) -> Architecture:
        """The widest path through the blocks of the most multiply-adds."""
        return self.space.widest([int(np.argmax([kind[-1].macs for kind in block])) for block in self.blocks])


@lru_cache(maxsize=16)
def cost_table(space: SearchSpace) -> CostTable:
    """The table of a space, made once (tens of milliseconds)."""
    return CostTable(space)


def count_architecture(space: SearchSpace, architecture: Architecture) -> Cost:
    """Cost of a checked architecture. Raises InputError if it is not of this space."""
    return cost_table(space).cost(space.validate(architecture))


def count_supernet(space: SearchSpace) -> Cost:
    """Cost of the supernet's most expensive path, with the trainable parameters of all branches together.

    BatchNorm outside the choice blocks is not trained in a supernet, so its gamma and beta are left out.
    """
    table = cost_table(space)
    widest = [[kind[-1] for kind in block] for block in table.blocks]
    macs = table.fixed.macs + sum(max(choice.macs for choice in block) for block in widest)
    params = table.fixed.params + sum(choice.params for block in widest for choice in block)
    return Cost(macs, params - count_untrained(space))


def count_untrained(space: SearchSpace) -> int:
    """Gamma and beta of BatchNorm outside the choice blocks, which a supernet has but does not train."""
    shared = layer_specs.stem(space) + layer_specs.head(space)
    return sum(2 * spec.out_channels for spec in shared if isinstance(spec, Conv) and spec.bn)


@dataclass(frozen=True)
class CostScore:
    """A cost relative to a published network. Smaller is better, 1 is on par."""

    comparison_model: str
    flop_ratio: float
    param_ratio: float

    @property
    def combined(self) -> float:
        """0.5 flop ratio + 0.5 param ratio: what a search keeps at or below 1."""
        return 0.5 * self.flop_ratio + 0.5 * self.param_ratio

    @property
    def normalized_sum(self) -> float:
        """The sum of normalized scores, as printed in the published tables (OneShot itself is 2)."""
        return self.flop_ratio + self.param_ratio

    def to_json(self) -> Dict[str, object]:
        return {
            "comparison_model": self.comparison_model,
            "flop_ratio": self.flop_ratio,
            "param_ratio": self.param_ratio,
            "combined": self.combined,
            "normalized_sum": self.normalized_sum,
        }


def cost_score(cost: AnyCost, comparison_model: str = DEFAULT_COMPARISON_MODEL) -> CostScore:
    """Relate a cost to an entry of `COMPARISON_MODELS`."""
    other = COMPARISON_MODELS[comparison_model]
    return CostScore(comparison_model, cost.macs / other.macs, cost.params / other.params)
