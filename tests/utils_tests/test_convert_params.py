"""Files of the original project given to programs: supernets with selectors, float16, subnets without BatchNorm."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import data_flags, fails, fill_parameters

import search_supernet
import train_imagenet
from oneshot_nas_network import Subnet, Supernet
from spos.core.flags import run_program
from spos.deploy.subnet import merge_batch_norm, read_subnet
from spos.engine.compat import mx
from spos.engine.parameters import load_arrays, load_named_arrays, load_parameters
from spos.space.architecture_file import load_architecture
from spos.space.original import with_selectors
from spos.space.space_file import search_space
from utils import convert_params

SPACE = search_space(num_classes=10, use_se=True, input_size=16, strides=(2, 2, 2, 2, 2))


@pytest.fixture(scope="module")
def supernet():
    net = Supernet(SPACE)
    net._initialize()
    return net


@pytest.fixture(scope="module")
def own(supernet):
    return {name: parameter.data() for name, parameter in supernet._collect_params_with_prefix().items()}


def write(path, arrays, dtype="float32"):
    """As the original saves it: the statistics of a float16 network stay float32."""
    half = {name: value if "running" in name else value.astype(dtype) for name, value in arrays.items()}
    mx.nd.save(str(path), {with_selectors(name): value for name, value in half.items()})
    return path


@pytest.mark.parametrize("dtype", ("float32", "float16"))
def test_a_supernet_file_of_the_original_is_read_as_it_is(own, tmp_path, dtype):
    path = write(tmp_path / "supernet.params", own, dtype)
    assert set(load_named_arrays(path)) != set(own) == set(load_arrays(path))
    net = Supernet(SPACE)
    load_parameters(path, net, (mx.cpu(),))
    for name, parameter in net._collect_params_with_prefix().items():
        assert np.array_equal(parameter.data().asnumpy(), own[name].astype(parameter.dtype).asnumpy()) or (
            dtype == "float16" and np.allclose(parameter.data().asnumpy(), own[name].asnumpy(), rtol=2e-3, atol=1e-4)
        ), name


def test_a_converted_file_is_that_of_this_project(own, tmp_path, capsys):
    path = write(tmp_path / "supernet.params", own)
    assert convert_params.main([str(path), str(tmp_path / "new.params")]) == 0
    assert set(load_named_arrays(tmp_path / "new.params")) == set(own)
    argv = [tmp_path / "new.params", tmp_path / "newer.params"]
    fails(convert_params.main, argv, capsys, "holds no supernet with channel selectors; nothing to convert")


def test_the_search_takes_it(own, work, tmp_path):
    path = write(tmp_path / "ShuffleNasOneshot-imagenet-supernet.params", own, "float16")
    flags = "--use-se --search_iters 1 --population_size 2 --retain_length 1 --topk 1 --search-mode random"
    data = data_flags(work, **{"input-size": 16})
    argv = [*data, *flags.split(), f"--supernet_params={path}", "--save-dir", str(tmp_path / "run")]
    assert run_program(search_supernet.main, argv) == 0
    converted = tmp_path / "converted.params"
    assert convert_params.main([str(path), str(converted)]) == 0
    argv[argv.index(f"--supernet_params={path}")] = f"--supernet-params={converted}"
    argv[-1] = str(tmp_path / "other")
    assert run_program(search_supernet.main, argv) == 0
    rows, others = (
        [json.loads(line) for line in (tmp_path / name / "history.jsonl").read_text().splitlines()]
        for name in ("run", "other")
    )
    assert [row["top1"] for row in rows] == [row["top1"] for row in others] and len(rows) == 2


def test_a_supernet_of_another_space_is_refused_in_one_line(own, work, tmp_path, capsys):
    path = write(tmp_path / "supernet.params", own)
    data = data_flags(work, **{"input-size": 16})
    argv = [*data, "--supernet-params", path, "--save-dir", tmp_path / "run"]
    fails(search_supernet.main, argv, capsys, "belongs to another network", "Was it trained in another space?")


def test_training_begins_with_it(own, work, tmp_path, capsys):
    path = write(tmp_path / "supernet.params", own)
    flags = "--model ShuffleNas --use-se --num-epochs 1 --val-architectures 1 --init-params"
    argv = [*data_flags(work, **{"input-size": 16}), *flags.split(), str(path), "--save-dir", str(tmp_path / "run")]
    assert run_program(train_imagenet.main, argv) == 0
    assert f"begins with parameters of {path}" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ("float32", "float16"))
@pytest.mark.parametrize("bn", (True, False))
def test_subnet_files_of_the_original_are_read_as_they_are(tmp_path, dtype, bn):
    """With the constants of its shuffle by convolution; without BatchNorm its convolutions stand where they do here."""
    record = load_architecture("oneshot-s+")
    net = Subnet(record.space, record.architecture)
    net._initialize()
    fill_parameters(net)
    net.save_parameters(str(tmp_path / "own.params"))
    subnet = read_subnet(tmp_path / "own.params", record.space, record.architecture)
    subnet = subnet if bn else merge_batch_norm(subnet)
    arrays = {name: mx.nd.array(value).astype(dtype) for name, value in subnet.arrays.items()}
    arrays["features.4.channel_shuffle_and_split.transpose_conv.weight"] = mx.nd.ones((64, 64, 1, 1))
    mx.nd.save(str(tmp_path / "file.params"), arrays)
    found = read_subnet(tmp_path / "file.params", record.space, record.architecture)
    assert found.bn is bn and set(found.arrays) == set(subnet.arrays)
    if not bn:
        positions = {name.split(".")[3] for name in found.arrays if name.startswith("features.4.main_branch.")}
        assert positions == {"0", "2", "3"}
    x = np.random.default_rng(0).normal(0, 1, (1, 3, 64, 64)).astype(np.float32)
    one, other = (item.network()(mx.nd.array(x)).asnumpy() for item in (found, subnet))
    tolerance = 0 if dtype == "float32" else 0.05 * np.abs(other).max()
    assert np.abs(one - other).max() <= tolerance


def test_selectors_move_what_is_behind_them():
    paths = Supernet(SPACE)._collect_params_with_prefix()
    moved = {name: with_selectors(name) for name in paths if "main_branch" in name}
    assert moved["features.3.block_sn_5x5.main_branch.1.gamma"] == "features.3.block_sn_5x5.main_branch.2.gamma"
    assert moved["features.3.block_sx_3x3.main_branch.2.weight"] == "features.3.block_sx_3x3.main_branch.2.weight"
    assert moved["features.3.block_sx_3x3.main_branch.8.gamma"] == "features.3.block_sx_3x3.main_branch.10.gamma"
    assert len(set(moved.values())) == len(moved)
