"""Spaces whose choice blocks differ: written here for the tests, random ones, and those that ship."""

import itertools
from typing import Any, Dict, List

from random_spaces import NUM_RANDOM, random_space

from spos.space.architecture import Architecture
from spos.space.space import SearchSpace
from spos.space.space_file import load_space, parse_space, shipped_spaces


def space_of(name: str, **values: Any) -> SearchSpace:
    return parse_space({"schema": 1, "name": name, **values}, name)


# Every choice block has choices of its own, some blocks have no middle: 1,024 architectures.
RAGGED = space_of(
    "ragged",
    input_size=32,
    num_classes=5,
    stem={"channels": 8, "stride": 2, "act": "relu"},
    blocks={
        "S3": {"kind": "shuffle", "kernel_size": 3},
        "M1": {"kind": "mbconv", "kernel_size": 3, "expand": 1},
        "M4": {"kind": "mbconv", "kernel_size": 5, "expand": 4, "se": True},
        "B": {"kind": "basic"},
        "I": {"kind": "identity"},
    },
    channel_scales=[0.5, 1.0],
    stages=[
        {"num_blocks": 2, "out_channels": 12, "stride": 2, "choice_blocks": {"1": {"block_choices": ["I", "B", "M1"]}}},
        {
            "num_blocks": 2,
            "out_channels": 16,
            "stride": 2,
            "act": "hard_swish",
            "block_choices": ["B", "M4"],
            "channel_scales": [0.25, 0.5, 0.75, 1.0],
            "choice_blocks": {"1": {"block_choices": ["I", "M4"], "channel_scales": [0.5, 0.75, 1.0]}},
        },
    ],
    head={"before_pooling": 24, "dropout": 0.1},
)

# ResNet's blocks with squeeze-and-excite and hard-swish, and stages of different widths.
RESNET = space_of(
    "resnet",
    input_size=48,
    num_classes=7,
    stem={"channels": 16, "stride": 1, "act": "hard_swish"},
    blocks={"B3": {"kind": "basic"}, "B5": {"kind": "basic", "kernel_size": 5}},
    channel_scales=[0.5, 0.75, 1.0],
    use_se=True,
    stages=[
        {"num_blocks": 2, "out_channels": 16, "stride": 1},
        {"num_blocks": 2, "out_channels": 32, "stride": 2, "se": True, "hard_swish": True},
        {
            "num_blocks": 3,
            "out_channels": 64,
            "stride": 2,
            "act": "hard_swish",
            "channel_scales": [0.25, 0.5, 1.0, 1.5],
        },
    ],
)

# MobileNetV3's blocks; multiply-adds of convolutions and the classifier alone.
MOBILE = space_of(
    "mobile",
    input_size=64,
    num_classes=11,
    stem={"channels": 16, "stride": 2, "act": "hard_swish"},
    blocks={
        "M3": {"kind": "mbconv", "kernel_size": 3, "expand": 3, "se": True},
        "M6": {"kind": "mbconv", "kernel_size": 5, "expand": 6},
        "I": {"kind": "identity"},
    },
    channel_scales=[0.5, 1.0],
    use_se=True,
    stages=[
        {"num_blocks": 2, "out_channels": 16, "stride": 1, "act": "relu6"},
        {"num_blocks": 3, "out_channels": 24, "stride": 2, "se": True, "hard_swish": True},
    ],
    head={"before_pooling": 96, "se": True, "after_pooling": 128, "act": "hard_swish", "dropout": 0.2},
    count_additions=False,
)

OWN: Dict[str, SearchSpace] = {space.layout: space for space in (RAGGED, RESNET, MOBILE)}
RANDOM: Dict[str, SearchSpace] = {space.layout: space for space in map(random_space, range(NUM_RANDOM))}
SPACES: Dict[str, SearchSpace] = {**{name: load_space(name) for name in shipped_spaces()}, **OWN, **RANDOM}


def check_canonical(space: SearchSpace, architecture: Architecture) -> None:
    """An architecture is one of the space, in the form in which no other one means the same layers."""
    assert space.validate(architecture) == architecture
    for index, pair in enumerate(zip(architecture.block_choices, architecture.channel_choices)):
        assert pair in space.pairs(index)


def every_architecture(space: SearchSpace) -> List[Architecture]:
    """All architectures of a small space, without asking for its pairs."""
    choices = []
    for index, own in enumerate(space.choices):
        widths = range(space.channel_choices(index).start, len(own.channel_scales))
        all_pairs = itertools.product(range(len(own.blocks)), widths)
        widest = len(own.channel_scales) - 1
        choices.append([(b, c) for b, c in all_pairs if c == widest or space.block_layers(index, b, c).middle])
    return [Architecture(*zip(*path)) for path in itertools.product(*choices)]
