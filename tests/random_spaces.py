"""Spaces for tests that hold for every space: those that ship, at sizes that are fast, and random ones."""

from dataclasses import replace

import numpy as np

from spos.space.layers import ACTIVATIONS
from spos.space.space_file import load_space, parse_space

BLOCKS = {
    "SN": {"kind": "shuffle", "kernel_size": 5},
    "SX": {"kind": "xception"},
    "MB": {"kind": "mbconv", "expand": 3},
    "MB1": {"kind": "mbconv", "expand": 1, "kernel_size": 5},
    "MB-SE": {"kind": "mbconv", "expand": 2.5, "kernel_size": 7, "se": True},
    "B": {"kind": "basic"},
    "I": {"kind": "identity"},
}
SMALL_IMAGES = {"mobilenet": 64, "mobilenetv2": 64, "nas-bench-macro": 32, "tiny": 96}
NUM_RANDOM = 6


def shipped(name):
    """A space that ships, for few classes and small images; without dropout, where the file has a head."""
    space = load_space(name)
    head = space.head and replace(space.head, dropout=0.0)
    return replace(space, input_size=SMALL_IMAGES.get(name, 64), num_classes=5, head=head)


def random_space(seed):
    """Stages with lists of choices of their own, of all kinds of blocks, wirings and heads."""
    rng = np.random.default_rng(seed)
    channels, stages = 4 * int(rng.integers(2, 5)), []
    stem = {"channels": channels, "stride": int(rng.integers(1, 3)), "act": str(rng.choice(ACTIVATIONS))}
    for _ in range(int(rng.integers(1, 4))):
        channels += 4 * int(rng.integers(1, 5))
        chosen = [str(name) for name in rng.permutation(list(BLOCKS))[: rng.integers(2, 6)]]
        stage = {
            "num_blocks": int(rng.integers(1, 4)),
            "out_channels": channels,
            "stride": int(rng.integers(1, 3)),
            "act": str(rng.choice(ACTIVATIONS)),
            "se": bool(rng.integers(2)),
            "block_choices": chosen,
        }
        if rng.integers(2):
            stage["channel_scales"] = np.cumsum(rng.uniform(0.2, 0.7, rng.integers(1, 5))).round(2).tolist()
        if rng.integers(2):
            own = [name for name in chosen if name != "I"][:1]
            stage["choice_blocks"] = {"0": {"block_choices": own, "channel_scales": [0.6, 1.1]}}
        stages.append(stage)
    head = {"before_pooling": 24 * int(rng.integers(2)), "after_pooling": 20 * int(rng.integers(2))}
    values = {
        "schema": 1,
        "name": f"random-{seed}",
        "input_size": 32,
        "num_classes": 5,
        "stem": stem,
        "blocks": BLOCKS,
        "channel_scales": [0.4, 0.8, 1.3],
        "width_multiple": int(rng.choice((1, 4))),
        "stages": stages,
        "head": {**head, "se": bool(rng.integers(2)), "act": str(rng.choice(ACTIVATIONS))},
        "count_additions": bool(rng.integers(2)),
    }
    return parse_space(values, "a random space")


EVERY_SPACE = {
    **{name: lambda name=name: shipped(name) for name in SMALL_IMAGES},
    **{f"random-{seed}": lambda seed=seed: random_space(seed) for seed in range(NUM_RANDOM)},
}
