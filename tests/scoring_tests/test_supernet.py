"""Supernets from their files: those of another space, and those whose training diverged."""

import numpy as np
import pytest
from conftest import TINY, fill_parameters

from oneshot_nas_network import Supernet
from spos.core.errors import InputError
from spos.data.dataset import make_dataset
from spos.engine.compat import mx
from spos.engine.parameters import load_arrays, save_arrays, save_parameters
from spos.runs.run import SUPERNET
from spos.scoring.supernet import check_supernet, load_supernet, supernet_space
from spos.space.flags import SpaceOptions
from spos.space.space_file import load_space

CPU = (mx.cpu(),)


@pytest.fixture
def supernet(tmp_path):
    net = Supernet(TINY)
    fill_parameters(net)
    save_parameters(tmp_path / "model.params", net)
    return str(tmp_path / "model.params")


def test_a_whole_file_is_loaded(supernet):
    check_supernet(supernet, TINY)
    assert load_supernet(supernet, TINY, CPU).space == TINY


@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
@pytest.mark.parametrize("part", ("weight", "running_var"))
def test_one_value_that_is_no_number_is_enough_to_be_refused(supernet, value, part):
    arrays = load_arrays(supernet)
    name = next(name for name in arrays if name.endswith(part))
    broken = arrays[name].asnumpy()
    broken.flat[-1] = value
    save_arrays(supernet, {**arrays, name: mx.nd.array(broken)})
    for read in (lambda: check_supernet(supernet, TINY), lambda: load_supernet(supernet, TINY, CPU)):
        with pytest.raises(InputError, match=f"1 of {len(arrays)} parameters are NaN or infinite, the first is {name}"):
            read()


@pytest.fixture
def trained():
    """What the run of a supernet of the space `tiny` says."""
    space = load_space("tiny")
    return {"options": {"model": SUPERNET}, "space": space.to_json(), "fingerprint": space.fingerprint}


@pytest.fixture
def data(noise_file):
    return make_dataset("noise", noise_file, noise_file, 10, 96, 1.0)


@pytest.mark.parametrize("flags", ({}, {"space": "tiny"}, {"strides": "2,2,2,2,2"}))
def test_the_space_is_that_of_the_run(flags, trained, data):
    assert supernet_space(SpaceOptions(**flags), data, trained, "model.params") == load_space("tiny")


@pytest.mark.parametrize(
    "flags, message",
    (
        ({"space": "mobilenet"}, "--space: model.params was trained in another space; leave the flag out"),
        ({"channels_layout": "Small"}, "--channels-layout: model.params was trained in another space"),
        ({"width_multiple": 8}, "--width-multiple: model.params was trained in another space"),
        ({"strides": "1,2,2,2,2"}, r"was trained for \(2, 2, 2, 2, 2\) as strides, the data has \(1, 2, 2, 2, 2\)"),
    ),
)
def test_flags_that_contradict_the_run_are_refused(flags, message, trained, data):
    with pytest.raises(InputError, match=message):
        supernet_space(SpaceOptions(**flags), data, trained, "model.params")


def test_a_space_that_the_run_does_not_describe_any_more_is_refused(trained, data):
    with pytest.raises(InputError, match="model.params: fingerprint 0000 does not fit its space"):
        supernet_space(SpaceOptions(), data, {**trained, "fingerprint": "0000"}, "model.params")
