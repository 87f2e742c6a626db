"""The network that flags ask for, and what runs it in training."""

import numpy as np
import pytest
from conftest import TINY, fill_parameters

from oneshot_nas_network import Subnet, Supernet
from spos.core.errors import InputError
from spos.core.flags import OneLineParser
from spos.data.flags import DataOptions
from spos.data.registry import open_data
from spos.engine.compat import mx
from spos.execution.trained import TrainingGraphs
from spos.runs.files import write_json
from spos.space.architecture import Architecture
from spos.space.architecture_file import ArchitectureRecord
from spos.space.cost import count_architecture
from spos.space.space_file import load_space, search_space
from spos.training.flags import TrainingFlags
from spos.training.network import add_gradients, make_forward, make_network, space_and_architecture

CPU = (mx.cpu(),)
ARCHITECTURE = Architecture((0, 3, 1, 2), (9, 0, 4, 2))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return open_data(DataOptions(dataset="digits", data_dir=str(tmp_path_factory.mktemp("digits"))))


def made(line, data):
    parser = OneLineParser("", tuple(TrainingFlags.groups().values()))
    flags = TrainingFlags.of(parser.parse_args(line.split()))
    space, record = space_and_architecture(flags, data)
    return make_network(flags, data, space, record, CPU), space, record


@pytest.mark.parametrize("sampling, grad_req", [("uniform", "write"), ("fair", "add"), ("sandwich", "add")])
def test_gradients_of_several_passes_add_up_in_a_supernet(digits, sampling, grad_req):
    net, space, record = made(f"--use-se --execution mask --sampling {sampling}", digits)
    assert isinstance(net, Supernet) and net.execution == "mask" and record is None
    assert (space.use_se, space.num_classes, space.input_size) == (True, 10, digits.input_size)
    assert {p.grad_req for p in net.collect_params().values()} == {grad_req, "null"}


def test_a_subnet_is_its_architecture_in_the_space_of_the_data(digits):
    net, space, record = made("--model ShuffleNas_fixArch --architecture oneshot-s+", digits)
    assert isinstance(net, Subnet) and net.architecture == record.architecture and net.space == space == record.space
    assert space.use_se and (space.num_classes, space.input_size) == (10, digits.input_size)


def test_stochastic_depth_is_for_networks_that_add(digits, tmp_path):
    space = load_space("mobilenetv2")
    searched = ArchitectureRecord(space, space.sample(np.random.default_rng(0)), {})
    write_json(tmp_path / "best.json", searched.to_json())
    line = f"--model ShuffleNas_fixArch --stochastic-depth 0.2 --architecture {tmp_path / 'best.json'}"
    net, *_ = made(line, digits)
    assert net.stochastic_depth == 0.2
    with pytest.raises(InputError, match="--stochastic-depth: no choice block of this network adds"):
        made("--model ShuffleNas_fixArch --architecture oneshot-s+ --stochastic-depth 0.2", digits)


@pytest.mark.parametrize(
    "size, flags, strides",
    ((32, "", (2, 1, 2, 2, 2)), (32, "--strides 1,1,2,2,2", (1, 1, 2, 2, 2)), (64, "", (2, 2, 2, 2, 2))),
    ids=("its own images", "flags", "other images"),
)
def test_an_architecture_keeps_the_stride_plan_that_it_was_searched_with(digits, tmp_path, size, flags, strides):
    """Which is a part of what it costs; for images of another size the plan is that of the images."""
    space = search_space("Small", use_se=True, num_classes=10, input_size=size, strides=(2, 1, 2, 2, 2))
    searched = ArchitectureRecord(space, space.sample(np.random.default_rng(0)), {})
    write_json(tmp_path / "best.json", searched.to_json())
    _, trained, record = made(f"--model ShuffleNas_fixArch --architecture {tmp_path / 'best.json'} {flags}", digits)
    assert digits.strides == (2, 2, 2, 2, 2) and trained.strides == strides
    if not flags and size == digits.input_size:
        assert count_architecture(trained, record.architecture) == count_architecture(space, searched.architecture)


@pytest.mark.parametrize(
    "size, flags, is_said",
    ((64, "", True), (64, "--input-size 32", False), (32, "", False)),
)
def test_that_a_file_is_for_images_of_another_size_is_said(digits, tmp_path, capsys, size, flags, is_said):
    """A layout is for images of any size, so the size of a search is lost without a word."""
    space = search_space("Small", num_classes=10, input_size=size)
    searched = ArchitectureRecord(space, space.sample(np.random.default_rng(0)), {})
    write_json(tmp_path / "best.json", searched.to_json())
    run = tmp_path / "run"
    run.mkdir()
    write_json(run / "config.json", {"options": {}, "space": None, "architecture": searched.to_json()})
    (run / "model.params").write_bytes(b"")
    for file in (f"--architecture {tmp_path}/best.json", f"--init-params {tmp_path}/run/model.params"):
        made(f"--model ShuffleNas_fixArch {file} {flags}", digits)
        warning = "is for images of 64 px, and these are 32 px; --input-size 64 keeps it"
        assert (warning in capsys.readouterr().err) == is_said
    made("--model ShuffleNas_fixArch --architecture oneshot-s+", digits)
    assert not capsys.readouterr().err  # published for ImageNet, trained on whatever one has


def test_a_classifier_of_the_zoo_has_no_space(digits):
    net, space, record = made("--model cifar_resnet20_v1", digits)
    assert space is record is None
    assert net(mx.nd.zeros((2, 3, digits.input_size, digits.input_size))).shape == (2, 10)


def test_initial_values_are_a_function_of_the_seed(digits):
    line = "--model ShuffleNas_fixArch --architecture oneshot --seed"
    first, again, other = (made(f"{line} {seed}", digits)[0].features[0].weight.data().asnumpy() for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def supernet(**arguments):
    net = Supernet(TINY, **arguments)
    fill_parameters(net)
    return net


def subnet():
    net = Subnet(TINY, ARCHITECTURE)
    fill_parameters(net)
    return net


@pytest.mark.parametrize(
    "mode, make, kind",
    [
        ("hybrid", supernet, TrainingGraphs),
        ("hybrid", subnet, TrainingGraphs),
        ("hybrid", lambda: supernet(execution="mask"), None),
        ("hybrid", lambda: supernet(use_all_blocks=True), None),
        ("imperative", supernet, None),
        ("imperative", subnet, None),
        ("symbolic", subnet, mx.gluon.SymbolBlock),
    ],
    ids=["supernet", "subnet", "mask", "all-blocks", "imperative-supernet", "imperative", "symbolic"],
)
def test_what_runs_a_network_in_training(mode, make, kind):
    forward = make_forward(mode, make(), CPU, "float32")
    assert forward is None if kind is None else isinstance(forward, kind)


def test_a_symbol_shares_the_parameters_of_its_network(rng):
    net, images = subnet(), mx.nd.array(rng.normal(0, 1, (2, 3, 16, 16)))
    symbol = make_forward("symbolic", net, CPU, "float32")
    assert np.allclose(symbol(images).asnumpy(), net(images).asnumpy(), rtol=1e-4, atol=1e-5)
    bias = net.output[0].bias
    bias.set_data(bias.data() + 3)
    assert np.allclose(symbol(images).asnumpy(), net(images).asnumpy(), rtol=1e-4, atol=1e-5)


def test_what_has_no_gradient_gets_none_by_adding():
    net = supernet()
    before = {name for name, p in net.collect_params().items() if p.grad_req == "null"}
    add_gradients(net)
    assert {name for name, p in net.collect_params().items() if p.grad_req == "null"} == before
