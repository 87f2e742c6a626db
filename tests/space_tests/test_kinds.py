"""The kinds that come with the project: each fits every place that it says it fits, at every width."""

from dataclasses import replace

import pytest

from spos.core.errors import InputError
from spos.space.blocks import KINDS, WIRINGS, ChoiceBlockGeometry
from spos.space.checks import check_layers
from spos.space.kinds import basic, identity, mbconv, shuffle, xception
from spos.space.layers import Conv, SqueezeExcite

KEEPS = ChoiceBlockGeometry(3, 1, 32, 32, 1, False, False, "relu", 14)
BEGINS = replace(KEEPS, out_channels=48, stride=2, projects=True)
WIDENS = replace(BEGINS, stride=1)
SCALES = (0.2, 0.5, 1.0, 1.3, 2.0)


def convs(layers):
    return [spec for spec in layers.main if isinstance(spec, Conv)]


@pytest.mark.parametrize("kernel_size", (3, 5, 7))
@pytest.mark.parametrize("use_se", (False, True))
@pytest.mark.parametrize("place", (KEEPS, BEGINS, WIDENS), ids=("keeps", "begins", "widens"))
@pytest.mark.parametrize("kind", ("shuffle", "xception", "mbconv", "basic"))
def test_a_kind_fits_its_place_at_every_width(kind, place, use_se, kernel_size):
    for scale in SCALES:
        for act in ("relu", "relu6", "hard_swish"):
            here = replace(place, use_se=use_se, scale=scale, act=act)
            layers = KINDS[kind].describe(here, kernel_size=kernel_size)
            check_layers(here, layers)
            assert max(spec.kernel_size for spec in convs(layers)) == kernel_size
            assert any(isinstance(spec, SqueezeExcite) for spec in layers.main) == use_se
            assert {spec.act for spec in convs(layers)} <= {act, None}


@pytest.mark.parametrize(
    "kind, middle", (("shuffle", 16), ("xception", 16), ("mbconv", 32 * 6), ("basic", 32)), ids=str
)
def test_the_middle_is_scaled(kind, middle):
    for scale in SCALES:
        layers = KINDS[kind].describe(replace(KEEPS, scale=scale))
        assert layers.middle == int(middle * scale)


@pytest.mark.parametrize("kind", ("shuffle", "xception", "mbconv", "basic"))
def test_wider_choices_have_the_same_layers_but_for_the_middle(kind):
    """So that the narrower is a corner of the wider."""
    narrow, wide = (KINDS[kind].describe(replace(BEGINS, scale=scale, use_se=True)) for scale in (0.5, 2.0))
    assert len(narrow.main) == len(wide.main) and narrow.projection == wide.projection
    for one, other in zip(narrow.main, wide.main):
        if isinstance(one, SqueezeExcite):
            assert one.convs[0].out_channels == other.convs[0].out_channels
        elif not one.selects:
            assert one.out_channels == other.out_channels


def test_a_shuffle_passes_half_by_and_projects_where_a_stage_begins():
    assert shuffle(KEEPS).shuffles and xception(KEEPS).shuffles
    begins = shuffle(BEGINS)
    assert not begins.shuffles and begins.projection[-1].out_channels == 32
    assert begins.main[-1].out_channels == 48 - 32


@pytest.mark.parametrize(
    "place, message",
    (
        (replace(KEEPS, in_channels=33, out_channels=33), "odd number of channels, 33"),
        (replace(BEGINS, out_channels=32), "more channels than the 32 that come in"),
    ),
)
def test_a_shuffle_that_cannot_be_is_refused(place, message):
    for kind in (shuffle, xception):
        with pytest.raises(InputError, match=message):
            kind(place)


def test_an_inverted_bottleneck_adds_where_it_can():
    assert mbconv(KEEPS).wiring == "residual" and mbconv(BEGINS).wiring == mbconv(WIDENS).wiring == "chain"
    assert WIRINGS[mbconv(KEEPS).wiring].adds and mbconv(KEEPS).act is None
    last = convs(mbconv(KEEPS))[-1]
    assert last.act is None and last.out_channels == 32


def test_an_inverted_bottleneck_that_does_not_expand_has_no_middle():
    layers = mbconv(KEEPS, expand=1)
    assert layers.middle == 0 and len(convs(layers)) == 2
    assert mbconv(replace(KEEPS, scale=0.5), expand=1) == layers


@pytest.mark.parametrize("stage, own, expected", ((True, None, True), (True, False, False), (False, True, True)))
def test_squeeze_and_excite_of_a_block_comes_before_that_of_its_stage(stage, own, expected):
    layers = mbconv(replace(KEEPS, use_se=stage), se=own)
    assert any(isinstance(spec, SqueezeExcite) for spec in layers.main) == expected


def test_identity_is_nothing_where_the_shape_stays():
    assert identity(KEEPS).main == () and identity(KEEPS).middle == 0
    for place in (BEGINS, WIDENS):
        (conv,) = identity(place).main
        assert (conv.kernel_size, conv.stride, conv.bn, conv.act) == (1, place.stride, True, None)
        check_layers(place, identity(place))


def test_a_basic_block_has_its_activation_behind_the_sum():
    assert basic(KEEPS).act == "relu" and basic(KEEPS).projection == ()
    (projection,) = basic(BEGINS).projection
    assert (projection.stride, projection.kernel_size) == (2, 1)


def test_the_projects_kinds_are_not_of_a_user():
    assert list(KINDS)[:5] == ["shuffle", "xception", "mbconv", "identity", "basic"]
    assert not any(KINDS[name].is_own or KINDS[name].file for name in list(KINDS)[:5])
