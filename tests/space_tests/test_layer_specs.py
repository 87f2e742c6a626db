"""Descriptions of layers: what they say without squeeze-and-excite."""

import pytest

from spos.space.layers import SqueezeExcite
from spos.space.space_file import search_space


def test_without_se_everything_is_relu_and_nothing_squeezes():
    space = search_space()
    assert {block.act for block in space.choice_blocks} | {space.act} == {"relu"}
    assert not any(block.use_se for block in space.choice_blocks)


@pytest.mark.parametrize("channels, squeezed", ((160, 40), (72, 24), (20, 8)))
def test_squeeze_width_is_a_quarter_rounded_up_to_8(channels, squeezed):
    assert [conv.out_channels for conv in SqueezeExcite(channels).convs] == [squeezed, channels]
