"""Parameter files: what is read back, and what is refused before anything is loaded."""

import pickle
import struct

import numpy as np
import pytest
from conftest import TINY, fill_parameters

from oneshot_nas_network import Subnet
from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.engine.parameters import (
    load_arrays,
    load_parameters,
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


WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
# Where the words of a file with one array (3, 4) named `weight` lie, in bytes, and their form.
PLACES = {
    "magic": (0, "<Q"),
    "count": (16, "<Q"),
    "array magic": (24, "<I"),
    "storage": (28, "<i"),
    "dimensions": (32, "<i"),
    "first": (36, "<q"),
    "second": (44, "<q"),
    "device": (52, "<i"),
    "place": (56, "<i"),
    "type": (60, "<i"),
    "names": (112, "<Q"),
    "length": (120, "<Q"),
}


@pytest.mark.parametrize(
    "place, value, words",
    (
        ("magic", 0x113, "begins with 0x113"),
        ("count", 2**62, "says that it holds"),
        ("count", 2, "damaged"),
        ("array magic", 0xFFFFFFFF, "dimensions"),
        ("storage", -1, "storage type -1"),
        ("storage", 2, "storage type 2"),
        ("dimensions", -1, "has -1 dimensions"),
        ("dimensions", 0, "has 0 dimensions"),
        ("dimensions", 2**31 - 1, "has 2147483647 dimensions"),
        ("first", -3, "has shape"),
        ("first", 0, "has shape"),
        ("first", 2**62, "has shape"),
        ("second", 5, "damaged"),
        ("device", 77, "lies on device"),
        ("place", -1, "lies on device"),
        ("type", 9, "has type 9"),
        ("type", 1, "damaged"),
        ("names", 7, "names 7 of its 1 arrays"),
        ("length", 2**63, "a name has"),
        ("length", 5, "1 bytes follow its end"),
    ),
)
def test_headers_are_refused_before_mxnet_reads_them(place, value, words, tmp_path, monkeypatch):
    path = tmp_path / "net.params"
    save_arrays(path, {"weight": mx.nd.array(WEIGHT)})
    content = bytearray(path.read_bytes())
    np.testing.assert_array_equal(load_arrays(path)["weight"].asnumpy(), WEIGHT)
    offset, form = PLACES[place]
    struct.pack_into(form, content, offset, value)
    path.write_bytes(content)
    monkeypatch.setattr(mx.nd, "load", None)
    with pytest.raises(InputError, match=words):
        load_arrays(path)


@pytest.mark.parametrize("name", (b"weigh\xff", b"weigh\n"))
def test_names_that_are_no_text_are_refused(name, tmp_path):
    path = tmp_path / "net.params"
    save_arrays(path, {"weight": mx.nd.array(WEIGHT)})
    path.write_bytes(path.read_bytes().replace(b"weight", name))
    with pytest.raises(InputError, match="a name "):
        load_arrays(path)


@pytest.mark.parametrize("dtype", ("float32", "float64", "float16", "uint8", "int32", "int8", "int64"))
def test_arrays_of_every_type_are_read(dtype, tmp_path):
    save_arrays(tmp_path / "net.params", {"a": mx.nd.ones((2, 3), dtype=dtype), "b": mx.nd.zeros((1,), dtype=dtype)})
    assert [array.dtype for array in load_arrays(tmp_path / "net.params").values()] == [np.dtype(dtype)] * 2
