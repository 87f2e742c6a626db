"""Merged BatchNorm, padded widths and other shuffles: the function of a subnet stays the same."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import SPACES, VARIANTS, fails
from deployed_subnets import drawn_subnet, every_subnet, published_subnet, random_subnet

from oneshot_nas_network import Subnet
from spos.deploy.parity import (
    MERGED_TOLERANCE,
    check_equal,
    random_images,
    relative_difference,
    tolerance_of,
)
from spos.deploy.subnet import DeployedSubnet, as_function, merge_batch_norm, pad_widths, read_subnet
from spos.engine.compat import mx
from spos.engine.parameters import load_parameters, save_parameters
from spos.space.architecture import Architecture
from spos.space.architecture_file import load_architecture, published_architectures
from utils import merge_bn


def difference(subnet, other, size=32, **form):
    images = random_images(size, 2)
    return relative_difference(as_function(subnet.network())(images), as_function(other.network(**form))(images))


@pytest.mark.parametrize("num_random", (2, pytest.param(20, marks=pytest.mark.slow)))
@pytest.mark.parametrize("variant", VARIANTS)
def test_merged_and_padded_networks_give_the_same_logits(variant, num_random, rng):
    for _ in range(num_random):
        subnet = random_subnet(variant, rng)
        merged = merge_batch_norm(subnet)
        assert difference(subnet, merged) < MERGED_TOLERANCE, subnet.architecture
        assert difference(subnet, pad_widths(merged, 8)) < MERGED_TOLERANCE, subnet.architecture


@pytest.mark.parametrize("name", SPACES)
def test_blocks_of_every_kind_merged_and_padded_give_the_same_logits(name, rng):
    for subnet in every_subnet(name, rng):
        merged = merge_batch_norm(subnet)
        for other in (merged, pad_widths(merged, 8), pad_widths(subnet, 16)):
            assert difference(subnet, other, 16) < MERGED_TOLERANCE, subnet.architecture


@pytest.mark.parametrize("name", published_architectures())
def test_published_networks_merged_padded_and_shuffled_otherwise_give_the_same_logits(name):
    subnet, images = published_subnet(name), random_images(64, 2)
    merged, before = merge_batch_norm(subnet), as_function(subnet.network())
    expected, tolerance = before(images), tolerance_of(before, images, MERGED_TOLERANCE)
    forms = (
        (merged, {}),
        (merged, {"shuffle": "conv"}),
        (merged, {"shuffle": "gather"}),
        (pad_widths(merged, 8), {}),
        (pad_widths(subnet, 16), {"shuffle": "gather"}),
    )
    for other, form in forms:
        check_equal(expected, as_function(other.network(**form))(images), tolerance, f"{name} {form}")


@pytest.mark.parametrize("form", ("conv", "gather"))
def test_another_shuffle_is_the_same_bit_by_bit(form, rng):
    subnet = random_subnet("se", rng)
    assert difference(subnet, subnet, shuffle=form) == 0


def test_a_merged_network_has_no_batch_norm_and_the_weights_of_float64(rng):
    subnet = random_subnet("se-last-conv", rng)
    merged = merge_batch_norm(subnet)
    assert not [name for name in merged.arrays if name.endswith(("gamma", "beta", "running_mean", "running_var"))]
    assert set(merged.arrays) == set(merged.network()._collect_params_with_prefix())
    bn = {name: subnet.arrays[f"features.1.{name}"].astype(float) for name in ("gamma", "beta")}
    mean, variance = (subnet.arrays[f"features.1.running_{name}"].astype(float) for name in ("mean", "var"))
    scale = bn["gamma"] / np.sqrt(variance + 1e-5)
    weight = subnet.arrays["features.0.weight"] * scale.reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(merged.arrays["features.0.weight"], weight.astype(np.float32))
    np.testing.assert_array_equal(merged.arrays["features.0.bias"], (bn["beta"] - mean * scale).astype(np.float32))
    assert merge_batch_norm(merged) is merged


@pytest.mark.parametrize("name", ("plain", *SPACES))
def test_padding_rounds_middle_widths_up_and_adds_zeros(name, rng):
    subnet = merge_batch_norm(random_subnet(name, rng) if name == "plain" else next(every_subnet(name, rng)))
    padded, architecture = pad_widths(subnet, 16), subnet.architecture
    for index, (block, width) in enumerate(zip(architecture.block_choices, architecture.channel_choices)):
        own, there = (one.space.mid_channels(index, width, block) for one in (subnet, padded))
        assert there % 16 == 0 and 0 <= there - own < 16
    for name, value in padded.arrays.items():
        assert np.count_nonzero(value) == np.count_nonzero(subnet.arrays[name]), name
    assert pad_widths(pad_widths(subnet, 16), 8).space == padded.space
    assert pad_widths(subnet, 1).arrays.keys() == subnet.arrays.keys()


def test_files_with_a_constant_shuffle_and_half_precision_are_read(rng, tmp_path):
    subnet = random_subnet("small-images", rng, num_classes=7)
    save_parameters(tmp_path / "conv.params", subnet.network("conv"))
    read = read_subnet(tmp_path / "conv.params", replace(subnet.space, num_classes=1000), subnet.architecture)
    assert read.space == subnet.space  # the file says the number of classes
    for name, value in subnet.arrays.items():
        np.testing.assert_array_equal(read.arrays[name], value)
    half = subnet.network()
    half.cast("float16")
    save_parameters(tmp_path / "half.params", half)
    read = read_subnet(tmp_path / "half.params", subnet.space, subnet.architecture)
    assert read.arrays["output.0.weight"].dtype == "float32"


@pytest.fixture
def parameter_file(tmp_path, rng):
    record = load_architecture("oneshot-s+")
    space = replace(record.space, num_classes=10)
    subnet = drawn_subnet(space, record.architecture, rng)
    save_parameters(tmp_path / "s+.params", subnet.network())
    return tmp_path / "s+.params", subnet


def test_the_program_merges_a_file(parameter_file, capsys):
    path, subnet = parameter_file
    assert merge_bn.main(["--params", str(path), "--architecture", "oneshot-s+"]) == 0
    assert "logits      differ by" in capsys.readouterr().out
    net = Subnet(subnet.space, subnet.architecture, bn=False)
    load_parameters(path.with_name("s+-merged.params"), net, [mx.cpu()])
    images = random_images(64)
    before = as_function(subnet.network())(images)
    assert relative_difference(before, as_function(net)(images)) < MERGED_TOLERANCE
    merged = ["--params", path.with_name("s+-merged.params"), "--architecture", "oneshot-s+"]
    fails(merge_bn.main, merged, capsys, "is merged already")


def test_the_program_writes_constant_shuffles(parameter_file, tmp_path):
    path, subnet = parameter_file
    output = tmp_path / "new" / "conv.params"
    flags = ["--params", str(path), "--architecture", "oneshot-s+", "--shuffle-by-conv", "--output", str(output)]
    assert merge_bn.main(flags) == 0
    net = Subnet(subnet.space, subnet.architecture, bn=False, shuffle="conv")
    net.load_parameters(str(output))
    assert net.features[3].shuffle.weight.data().sum().asscalar() == 64


def test_bad_input_of_the_program(parameter_file, tmp_path, capsys):
    path, subnet = parameter_file
    truncated = tmp_path / "truncated.params"
    truncated.write_bytes(path.read_bytes()[:-1000])
    broken = dict(subnet.arrays)
    broken["output.0.bias"] = np.full_like(broken["output.0.bias"], np.inf)
    save_parameters(tmp_path / "inf.params", replace(subnet, arrays=broken).network())
    own = ("--architecture", "oneshot-s+")
    for flags, words in (
        (("--params", tmp_path / "none.params", *own), "does not exist"),
        (("--params", path), "name its architecture"),
        (("--params", path, "--architecture", "oneshot"), "belongs to another network"),
        (("--params", truncated, *own), "damaged"),
        (("--params", tmp_path / "inf.params", *own), "not finite"),
        (("--params", path, *own, "--output", path / "below-a-file"), "cannot be written"),
        (("--params", path, *own, "--output", tmp_path), "is a folder"),
    ):
        fails(merge_bn.main, flags, capsys, words)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["inf.params", "s+.params", "truncated.params"]


def test_names_of_layers_follow_from_the_stem():
    space = VARIANTS["plain"]
    architecture = Architecture((0,) * 20, (4,) * 20)
    with_bn, without = (DeployedSubnet(space, architecture, {}, bn).shapes() for bn in (True, False))
    assert "features.3.main_branch.0.weight" in with_bn and "features.2.main_branch.0.bias" in without
