"""The parts of paths: where their arrays stand in networks, and what they are at execution."""

import numpy as np
import pytest
from conftest import TINY, VARIANTS

from oneshot_nas_network import Subnet, Supernet
from spos.engine.compat import mx
from spos.engine.forms import as_described, fit_to_size
from spos.execution.parts import PathParts, cut_idle_taps


def no_padding(index, block_choice, channel_choice):
    return 1


def exact(space):
    return PathParts(space, as_described, no_padding)


@pytest.mark.parametrize("variant", VARIANTS)
def test_slots_of_a_path_are_what_the_supernet_says_it_uses(variant, rng):
    space = VARIANTS[variant]
    net, architecture = Supernet(space), space.sample(rng)
    slots = [slot for part in exact(space).of(architecture) for slot in part.slots]
    assert len({slot.source for slot in slots}) == len(slots)
    assert {(slot.source, slot.selected) for slot in slots} == {
        (own, shape) for own, _, shape in net._path(architecture, use_all_blocks=False)
    }
    assert all(slot.selected == slot.executed for slot in slots)


def test_slots_of_a_subnet_are_its_parameters(rng):
    net = Subnet(TINY, TINY.sample(rng))
    parts = PathParts(TINY, as_described, no_padding, in_supernet=False)
    slots = {slot.source: slot.selected for part in parts.of(net.architecture) for slot in part.slots}
    assert slots == {name: value.shape for name, value in net._collect_params_with_prefix().items()}


def test_layers_take_what_the_slots_say(rng):
    parts = PathParts(TINY, fit_to_size, lambda *place: 53)
    for part in parts.of(TINY.sample(rng)):
        own = part.layers()._collect_params_with_prefix()
        assert {slot.name: slot.executed for slot in part.slots} == {name: p.shape for name, p in own.items()}
        assert part.padded == (part.key[0] not in ("stem", "tail"))


def test_parts_are_described_once_and_shared_by_key(rng):
    parts, architecture = exact(TINY), TINY.sample(rng)
    first, again = list(parts.of(architecture)), list(parts.of(architecture))
    assert all(one is other for one, other in zip(first, again))
    keys = [part.key for part in first]
    assert len(keys) == TINY.num_choice_blocks + 2
    assert keys[0] == ("stem", TINY.input_size) and keys[-1] == ("tail", TINY.out_size)


def test_statistics_are_told_from_weights(rng):
    for part in exact(TINY).of(TINY.sample(rng)):
        for slot in part.slots:
            assert bool(slot.statistic) == ("running" in slot.name)


@pytest.mark.parametrize("size, kernel", ((7, 3), (5, 5), (7, 1)))
def test_idle_taps_are_cut_on_all_sides(size, kernel):
    value = mx.nd.arange(2 * size * size).reshape((2, 1, size, size))
    edge = (size - kernel) // 2
    wanted = value.asnumpy()[:, :, edge : edge + kernel, edge : edge + kernel]
    np.testing.assert_array_equal(cut_idle_taps(value, kernel).asnumpy(), wanted)
