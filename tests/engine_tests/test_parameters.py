"""Parameter files: what is read back, and what is refused before anything is loaded."""

import pickle

import numpy as np
import pytest
from conftest import TINY, fill_parameters

from oneshot_nas_network import Subnet
from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.engine.parameters import (
    load_arrays,
    load_parameters,
    load_symbol,
    parameters_of,
    save_arrays,
    save_parameters,
    structural_names,
)


def subnet(rng, space=TINY):
    net = Subnet(space, space.sample(rng))
    fill_parameters(net)
    return net


def test_a_network_comes_back_from_its_file(rng, tmp_path):
    net = subnet(rng)
    save_parameters(tmp_path / "net.params", net)
    other = Subnet(TINY, net.architecture)
    load_parameters(tmp_path / "net.params", other, [mx.cpu()])
    for name, value in parameters_of(net).items():
        np.testing.assert_array_equal(parameters_of(other)[name].asnumpy(), value.asnumpy(), err_msg=name)


def test_prefixes_of_exported_files_are_dropped(tmp_path):
    save_arrays(tmp_path / "net.params", {"arg:weight": mx.nd.ones((2,)), "aux:running_mean": mx.nd.zeros((2,))})
    assert set(load_arrays(tmp_path / "net.params")) == {"weight", "running_mean"}


def test_names_in_graphs_have_one_name_in_files_each(rng):
    net = subnet(rng)
    names = structural_names(net)
    assert set(names.values()) == set(parameters_of(net))
    assert set(names) == set(net(mx.sym.var("data")).list_inputs()) - {"data"}


def write_pickle(path):
    path.write_bytes(pickle.dumps({"weight": 1}))


def write_half(path):
    save_arrays(path, {"weight": mx.nd.ones((64,))})
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    "write, words",
    (
        (lambda path: None, "does not exist"),
        (write_pickle, "is a pickle .* which could run any code"),
        (write_half, "is damaged or no MXNet parameter file"),
        (lambda path: mx.nd.save(str(path), [mx.nd.ones((2,))]), "holds arrays without names"),
    ),
)
def test_what_is_no_parameter_file_is_refused(write, words, tmp_path):
    write(tmp_path / "net.params")
    with pytest.raises(InputError, match=words):
        load_arrays(tmp_path / "net.params")


def test_the_file_of_another_network_is_refused_and_changes_nothing(rng, tmp_path):
    net = subnet(rng)
    before = {name: value.asnumpy() for name, value in parameters_of(net).items()}
    arrays = parameters_of(net)
    save_arrays(tmp_path / "classes.params", {**arrays, "output.0.weight": mx.nd.zeros((7, 1024, 1, 1))})
    with pytest.raises(InputError, match="has 7 classes, the network has 5"):
        load_parameters(tmp_path / "classes.params", net)
    save_arrays(tmp_path / "more.params", {**arrays, "features.99.weight": mx.nd.zeros((2,))})
    with pytest.raises(InputError, match="1 parameters differ, the first is features.99.weight"):
        load_parameters(tmp_path / "more.params", net)
    for name, value in parameters_of(net).items():
        np.testing.assert_array_equal(value.asnumpy(), before[name])


@pytest.mark.parametrize(
    "text, words",
    (("[1]", "it has no list of nodes"), ('{"nodes": [{"op": "nonsense"}]}', "is damaged, or not of this")),
)
def test_what_is_no_symbol_is_refused(text, words, tmp_path):
    (tmp_path / "net-symbol.json").write_text(text)
    with pytest.raises(InputError, match=words):
        load_symbol(tmp_path / "net-symbol.json")
