"""Spaces that figures and reports are drawn of: some that ship, one of residual blocks that differ, random ones."""

from random_spaces import random_space

from spos.space.space_file import load_space, parse_space

RESIDUAL = {
    "schema": 1,
    "name": "residual",
    "input_size": 32,
    "num_classes": 10,
    "stem": {"channels": 16, "stride": 1},
    "blocks": {
        "B3": {"kind": "basic", "kernel_size": 3},
        "B5": {"kind": "basic", "kernel_size": 5},
        "I": {"kind": "identity"},
    },
    "channel_scales": [0.25, 0.5, 0.75, 1.0],
    "use_se": True,
    "stages": [
        {"num_blocks": 2, "out_channels": 16, "stride": 1},
        {
            "num_blocks": 3,
            "out_channels": 32,
            "stride": 2,
            "channel_scales": [0.5, 1.0],
            "choice_blocks": {
                "0": {"block_choices": ["B3", "B5"]},
                "2": {"channel_scales": [0.5, 1.0, 1.5]},
            },
        },
        {
            "num_blocks": 2,
            "out_channels": 64,
            "stride": 2,
            "act": "hard_swish",
            "se": True,
            "choice_blocks": {"1": {"block_choices": ["B3"], "channel_scales": [1.0]}},
        },
    ],
}
SPACES = {
    **{name: load_space(name) for name in ("tiny", "mobilenet", "nas-bench-macro", "mobilenetv2")},
    "residual": parse_space(RESIDUAL, "the tests"),
    **{f"random-{seed}": random_space(seed) for seed in range(3)},
}
