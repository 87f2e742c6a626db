"""Teachers: of runs of subnets and supernets and of several, against what these networks say themselves; refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import train_imagenet
from oneshot_nas_network import Subnet
from spos.core.errors import InputError
from spos.core.flags import fill
from spos.data.arrays import pack_arrays
from spos.data.flags import DataOptions
from spos.data.pixels import load_images
from spos.data.registry import open_data
from spos.engine.batch_norm import recalibrate_batch_norm
from spos.engine.compat import mx
from spos.engine.parameters import load_parameters
from spos.runs.files import file_digest, write_json
from spos.runs.run import PREPROCESSING
from spos.scoring.supernet import load_supernet
from spos.scoring.trained import TrainedSupernet
from spos.space.architecture_file import ArchitectureRecord
from spos.space.cost import cost_table
from spos.space.space_file import search_space
from spos.training.flags import TeacherOptions, ZooOptions
from spos.training.losses import Teacher
from spos.training.session import train_subnet, train_supernet
from spos.training.teachers import _check_preparation, load_teachers, teachers_digest
from spos.training.zoo import zoo_model

CPU = (mx.cpu(),)
RECIPE = {"num_epochs": 1, "lr": 0.1, "val_frequency": 0}


def packed(folder, size=16, num_classes=10):
    images = np.random.default_rng(0).integers(0, 256, (100, size, size, 3), dtype=np.uint8)
    labels = np.arange(100) % num_classes
    options = DataOptions(batch_size=16, holdout=24, update_bn_images=16, num_workers=1)
    return pack_arrays(folder, images[:80], labels[:80], images[80:], labels[80:], options)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def space():
    return search_space("Small", use_se=True, input_size=16, num_classes=10, strides=(2, 1, 2, 2, 1))


@pytest.fixture(scope="module")
def subnet(data, space, tmp_path_factory):
    folder = tmp_path_factory.mktemp("subnet")
    record = ArchitectureRecord(space, space.sample(np.random.default_rng(1)), {})
    write_json(folder / "best.json", record.to_json())
    return train_subnet(data, folder / "run", folder / "best.json", **RECIPE)


@pytest.fixture(scope="module")
def supernet(data, space, tmp_path_factory):
    return train_supernet(data, tmp_path_factory.mktemp("supernet") / "run", space, val_architectures=1, **RECIPE)


def images_of(data):
    ((images, _),) = next(iter(load_images(open_data(data), "test", data, Path("unused")).batches(20, CPU)))
    return images


def flags_of(data):
    flags = {"data-dir": data.data_dir, "input-size": data.input_size, "batch-size": data.batch_size}
    lists = {"holdout": data.holdout, "update-bn-images": data.update_bn_images, "num-workers": 1}
    words = [
        (f"--{name}", str(value)) for name, value in {"dataset": "record", "crop-ratio": 1, **flags, **lists}.items()
    ]
    return [word for pair in words for word in pair]


def load(names, data, folder):
    options = fill(TeacherOptions, teacher=",".join(map(str, names)))
    return load_teachers(options, open_data(data), folder, CPU, "float32")


def test_a_subnet_teaches_what_it_says(data, space, subnet, tmp_path):
    (logits,) = load([subnet.parent], data, tmp_path)
    net = Subnet(space, space.sample(np.random.default_rng(1)))
    net.initialize()
    load_parameters(subnet, net)
    images = images_of(data)
    expected = net(images).asnumpy()
    np.testing.assert_allclose(logits(images).asnumpy(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_supernet_teaches_by_its_most_expensive_path_after_a_batch_norm_update(data, space, supernet, tmp_path):
    (logits,) = load([supernet], data, tmp_path)
    table = cost_table(space)
    path = table.most_expensive()
    assert table.cost(path).macs == table.range()[1].macs
    net = load_supernet(str(supernet), space, CPU).extract(path)
    trained = TrainedSupernet.of_run(supernet.parent)
    updating = load_images(trained.images, "bn", trained.data, tmp_path).batches(16, CPU)
    recalibrate_batch_norm(net, (pair for batch in updating for pair in batch), ctx=CPU)
    images = images_of(data)
    expected = net(images).asnumpy()
    np.testing.assert_allclose(logits(images).asnumpy(), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_several_teach_by_the_mean_of_their_predictions(data, subnet, supernet, tmp_path):
    images, names = images_of(data), (subnet, supernet.parent)
    together = Teacher(load(names, data, tmp_path), 3.0, 0.5).probabilities(images).asnumpy()
    each = [Teacher(load([name], data, tmp_path), 3.0, 0.5).probabilities(images).asnumpy() for name in names]
    np.testing.assert_allclose(together, np.mean(each, 0), rtol=1e-5)
    np.testing.assert_allclose(together.sum(1), 1, rtol=1e-5)


def test_a_larger_image_is_shown_at_the_teachers_size(data, subnet, tmp_path):
    larger = packed(tmp_path / "data", size=32)
    (logits,) = load([subnet], larger, tmp_path)
    images = images_of(larger)
    assert images.shape[2] == 32 and logits(images).shape == (20, 10)


def test_the_files_of_teachers_are_a_part_of_the_run(subnet, supernet):
    digest = teachers_digest(fill(TeacherOptions, teacher=f"{subnet.parent},{supernet}"))
    assert digest == {"teacher_sha256": f"{file_digest(subnet)},{file_digest(supernet)}"}
    mixed = teachers_digest(fill(TeacherOptions, teacher=f"resnet18_v1,{subnet}"))
    assert mixed == {"teacher_sha256": f"resnet18_v1,{file_digest(subnet)}"}
    assert teachers_digest(fill(TeacherOptions, teacher="resnet18_v1")) == teachers_digest(TeacherOptions()) == {}


def test_a_training_learns_from_runs_and_goes_on(data, subnet, supernet, tmp_path):
    """Another loss than alone; the same call goes on to the same bits; another teacher is another run."""
    best = subnet.parent.parent / "best.json"
    asked = {**RECIPE, "teacher": f"{subnet},{supernet}", "temperature": 4.0, "hard_weight": 0.3}
    taught = train_subnet(data, tmp_path / "taught", best, **asked)
    alone = train_subnet(data, tmp_path / "alone", best, **RECIPE)
    assert taught.read_bytes() != alone.read_bytes()
    again = train_subnet(data, tmp_path / "again", best, **asked)
    assert again.read_bytes() == taught.read_bytes()
    assert train_subnet(data, tmp_path / "taught", best, **asked) == taught
    with pytest.raises(InputError, match="taught holds another run: the content of --teacher has changed"):
        train_subnet(data, tmp_path / "taught", best, **{**asked, "teacher": str(subnet)})


def test_a_checkpoint_and_a_network_of_the_zoo_teach_what_they_say(data, subnet, tmp_path):
    """The last checkpoint is what the run has left; a network of the zoo is made as its run made it."""
    images = images_of(data)
    (checkpoint,) = subnet.parent.glob("checkpoints/*/model.params")
    ((own,), (last,)) = (load([file], data, tmp_path) for file in (subnet, checkpoint))
    assert np.array_equal(own(images).asnumpy(), last(images).asnumpy())

    run = tmp_path / "zoo"
    argv = ["--model", "resnet18_v1b", "--last-gamma", "--num-epochs", "1", "--val-frequency", "0", "--lr", "0.1"]
    assert train_imagenet.main([*argv, *flags_of(data), "--save-dir", str(run)]) == 0
    (logits,) = load([run], data, tmp_path)
    net = zoo_model("resnet18_v1b", 10, ZooOptions(last_gamma=True))
    net.load_parameters(str(run / "model.params"))
    np.testing.assert_allclose(logits(images).asnumpy(), net(images).asnumpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="--teacher-params is for a teacher of the zoo"):
        load_teachers(
            fill(TeacherOptions, teacher=str(run), teacher_params="x"), open_data(data), tmp_path, CPU, "float32"
        )


def test_what_cannot_teach_is_refused(data, subnet, supernet, tmp_path):
    small, few = packed(tmp_path / "small", size=8), packed(tmp_path / "few", num_classes=5)
    (tmp_path / "unfinished").mkdir()
    for name, images, message in (
        ("gone/model.params", data, "--teacher gone/model.params does not exist"),
        ("runs/gone", data, "--teacher runs/gone does not exist"),
        ("no_such_network", data, "no model 'no_such_network'"),
        (tmp_path / "unfinished", data, "is not finished"),
        (subnet, small, "sees images of 16 px, these have 8"),
        (supernet, few, "knows 10 classes, .* has 5"),
        (subnet, few, "knows 10 classes, .* has 5"),
    ):
        with pytest.raises(InputError, match=message):
            load([name], images, tmp_path)
    birds, cars = (
        replace(open_data(data), class_names=tuple(f"{kind}{i}" for i in range(10))) for kind in ("bird", "car")
    )
    _check_preparation("a", {PREPROCESSING: birds.preprocessing.to_json()}, birds)
    with pytest.raises(InputError, match="--teacher a knows other classes: 0 is 'bird0' to it, 'car0' in"):
        _check_preparation("a", {PREPROCESSING: birds.preprocessing.to_json()}, cars)
    other = replace(open_data(data), mean=(1.0, 2.0, 3.0))
    with pytest.raises(InputError, match="another mean and deviation"):
        load_teachers(fill(TeacherOptions, teacher=str(subnet)), other, tmp_path, CPU, "float32")
