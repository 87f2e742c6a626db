"""The layers of a space's stem, head and classifier, and of whole subnets, described once as data.

`oneshot_nas_blocks.build` turns a description into Gluon layers and `spos.space.cost.count` into multiply-adds and
parameters, so network and count cannot disagree. A description for a chosen width is also the rule for slicing:
the selected part of a supernet parameter is its leading corner with the described shape.
"""

from __future__ import annotations

from typing import Tuple

from spos.space.architecture import Architecture
from spos.space.layers import SMALL_INIT_STD, Conv, Dropout, GlobalPool, Specs, SqueezeExcite
from spos.space.space import SearchSpace


def stem(space: SearchSpace) -> Tuple[Conv]:
    """3x3 convolution on RGB."""
    return (Conv(3, space.stem_channels, 3, space.strides[0], act=space.act, init_std=SMALL_INIT_STD),)


def head(space: SearchSpace) -> Specs:
    """From the last stage to the feature vector, then dropout."""
    chosen, channels, std = space.own_head, space.out_channels, SMALL_INIT_STD
    specs: Specs = ()
    if chosen.before_pooling:
        specs += (Conv(channels, chosen.before_pooling, act=chosen.act, init_std=std),)
        channels = chosen.before_pooling
    specs += (GlobalPool(channels),)
    if chosen.se:
        specs += (SqueezeExcite(channels),)
    if chosen.after_pooling:
        specs += (Conv(channels, chosen.after_pooling, bn=False, bias=True, act=chosen.act, init_std=std),)
    return specs + ((Dropout(chosen.dropout),) if chosen.dropout else ())


def classifier(space: SearchSpace) -> Tuple[Conv]:
    """1x1 convolution from the feature vector to the classes."""
    chosen = space.own_head
    features = chosen.after_pooling or chosen.before_pooling or space.out_channels
    return (Conv(features, space.num_classes, bn=False, bias=True, init_std=SMALL_INIT_STD),)


def subnet(space: SearchSpace, architecture: Architecture) -> Specs:
    """All layers of a subnet in one flat tuple: for counting, where the wiring does not matter."""
    specs: Specs = stem(space)
    for index, choices in enumerate(zip(architecture.block_choices, architecture.channel_choices)):
        layers = space.block_layers(index, *choices)
        specs += layers.main + layers.projection
    return specs + head(space) + classifier(space)
