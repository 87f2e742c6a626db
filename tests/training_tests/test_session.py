"""Sessions of training: what a script starts is what the program starts, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from conftest import data_flags

import train_imagenet
from oneshot_nas_network import Subnet
from spos.core.errors import InputError
from spos.core.flags import fill
from spos.data.flags import DataOptions
from spos.data.pixels import load_images
from spos.data.registry import open_data, with_lists
from spos.engine.batch_norm import recalibrate_batch_norm
from spos.engine.compat import mx
from spos.engine.parameters import STATISTICS, load_arrays
from spos.runs.files import read_json, write_json
from spos.scoring.accuracy import evaluate
from spos.space.architecture import Architecture
from spos.space.architecture_file import ArchitectureRecord, load_architecture
from spos.space.space_file import load_space, search_space
from spos.training.flags import validated_on
from spos.training.session import train_subnet, train_supernet

CPU = (mx.cpu(),)
SPACE = search_space("Small", use_se=True, last_conv_after_pooling=True)
SPACE_FLAGS = ["--channels-layout", "Small", "--use-se", "--last-conv-after-pooling"]
RECIPE = {"num_epochs": 1, "lr": 0.2, "val_architectures": 1, "reduced_dataset_scale": 2}
RECIPE_FLAGS = ["--num-epochs", "1", "--lr", "0.2", "--val-architectures", "1", "--reduced-dataset-scale", "2"]
RECIPE_FLAGS += ["--seed", "4"]


@pytest.fixture
def flags(work):
    """Where the images are, as flags; strides are left to the images."""
    flags = data_flags(work, **{"input-size": 16})
    place = flags.index("--strides")
    return flags[:place] + flags[place + 2 :]


@pytest.fixture
def data(flags):
    """The same as options."""
    return fill(DataOptions, **{name[2:].replace("-", "_"): value for name, value in zip(flags[::2], flags[1::2])})


@pytest.fixture
def best(tmp_path, rng):
    """An architecture file of a space that was made for these images, with strides of its own."""
    space = search_space("Small", use_se=True, input_size=16, num_classes=10, strides=(2, 1, 2, 2, 1))
    write_json(tmp_path / "best.json", ArchitectureRecord(space, space.sample(rng), {}).to_json())
    return tmp_path / "best.json"


def log(folder):
    """The rows of a log without speeds."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in rows]


def len_of(data, name):
    """Images of one of the lists of the data."""
    with TemporaryDirectory() as folder:
        return len(with_lists(open_data(data), data, Path(folder)).splits[name])


def check_same_runs(script, program):
    assert (script / "model.params").read_bytes() == (program / "model.params").read_bytes()
    assert log(script) == log(program)
    configs = [read_json(folder / "config.json") for folder in (script, program)]
    for config in configs:
        del config["options"]["save_dir"]
    assert configs[0] == configs[1]


def test_a_script_trains_the_supernet_of_the_program(data, flags, tmp_path):
    file = train_supernet(data, tmp_path / "script", SPACE, seed=4, **RECIPE)
    assert file == tmp_path / "script" / "model.params"
    program = ["--model", "ShuffleNas", *SPACE_FLAGS, *flags, *RECIPE_FLAGS, "--save-dir", str(tmp_path / "program")]
    assert train_imagenet.main(program) == 0
    check_same_runs(tmp_path / "script", tmp_path / "program")


def test_a_script_trains_the_subnet_of_the_program(data, flags, best, tmp_path):
    train_subnet(data, tmp_path / "script", best, seed=4, **RECIPE)
    program = ["--model", "ShuffleNas_fixArch", "--architecture", str(best), "--strides", "2, 1, 2, 2, 1", *flags]
    assert train_imagenet.main([*program, *RECIPE_FLAGS, "--save-dir", str(tmp_path / "program")]) == 0
    assert read_json(tmp_path / "script" / "config.json")["space"]["strides"] == [2, 1, 2, 2, 1]
    check_same_runs(tmp_path / "script", tmp_path / "program")


def test_a_subnet_is_validated_on_held_out_images_if_asked_to(data, best, tmp_path):
    """On other images than the test images, and the training itself is the same."""
    recipe = {**RECIPE, "train_on": "train"}
    tested, held = (
        train_subnet(data, tmp_path / (val_on or "default"), best, val_on=val_on, **recipe)
        for val_on in ("", "holdout")
    )
    assert tested.read_bytes() == held.read_bytes()
    rows = [log(file.parent)[-1] for file in (tested, held)]
    assert [row["val_images"] for row in rows] == [len_of(data, "test"), len_of(data, "search_val")]
    options = [read_json(file.parent / "config.json")["options"] for file in (tested, held)]
    assert [validated_on(one) for one in options] == ["test images", "held-out images"]
    assert validated_on({"model": "ShuffleNas"}) == "held-out images"


def test_a_subnet_has_averaged_weights_with_statistics_of_their_own(data, best, tmp_path, capsys):
    """The training is the same, validated or not; resumed from the last checkpoint, the average has the same bits."""
    recipe = {**RECIPE, "num_epochs": 2, "reduced_dataset_scale": 1, "val_on": "holdout", "train_on": "train"}
    plain = train_subnet(data, tmp_path / "plain", best, val_frequency=0, **recipe)
    last = train_subnet(data, tmp_path / "averaged", best, ema_decay=0.8, val_frequency=1, **recipe)
    said = capsys.readouterr().out
    assert last.read_bytes() == plain.read_bytes()
    rows = log(tmp_path / "averaged")
    tops = [row.pop("ema_top1") for row in rows]
    assert rows[-1] == log(tmp_path / "plain")[-1] and len(tops) == len(rows) > 1
    file = last.with_name("model-ema.params")
    averaged, own = load_arrays(file), load_arrays(last)
    assert set(averaged) == set(own)
    assert not any(np.allclose(averaged[name].asnumpy(), own[name].asnumpy()) for name in own if "running_mean" in name)

    record = load_architecture(best)
    net = Subnet(record.space, record.architecture)
    net.load_parameters(str(file))
    with TemporaryDirectory() as folder:
        images = with_lists(open_data(data), data, last.parent / "lists")
        bn, held = (load_images(images, name, data, Path(folder)) for name in ("bn", "search_val"))
        recalibrate_batch_norm(net, [pair for batch in bn.batches(data.batch_size, CPU) for pair in batch])
        accuracy = evaluate(net, held.batches(data.batch_size, CPU))
    for name, parameter in net._collect_params_with_prefix().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), averaged[name].asnumpy(), err_msg=name)
    assert tops[-1] == accuracy.top1 and f"averaged weights top-1 {accuracy.top1:.2%}" in said
    before = file.read_bytes()
    assert (last.with_name("best.params").read_bytes() == before) == (tops[-1] > tops[0])
    file.unlink()
    train_subnet(data, tmp_path / "averaged", best, ema_decay=0.8, **recipe)
    assert file.read_bytes() == before


def test_stochastic_depth_is_a_function_of_seed_epoch_and_step(data, tmp_path):
    """A run that lost its last checkpoint ends with the same bits, and with others than one without it."""
    space = load_space("nas-bench-macro")
    file = tmp_path / "best.json"
    architecture = Architecture((1, 2) * 4, (0,) * 8)
    write_json(file, ArchitectureRecord(replace(space, input_size=16, num_classes=10), architecture, {}).to_json())
    recipe = {**RECIPE, "num_epochs": 2, "val_frequency": 0, "stochastic_depth": 0.3}
    model = train_subnet(data, tmp_path / "run", file, **recipe)
    before = model.read_bytes()
    plain = train_subnet(data, tmp_path / "plain", file, **{**recipe, "stochastic_depth": 0.0})
    assert plain.read_bytes() != before
    model.unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "epoch-0002")
    assert train_subnet(data, tmp_path / "run", file, **recipe).read_bytes() == before


def test_averaged_weights_lie_beside_the_last_and_change_nothing_else(data, tmp_path):
    recipe = {**RECIPE, "reduced_dataset_scale": 1}
    plain = train_supernet(data, tmp_path / "plain", SPACE, **recipe)
    last = train_supernet(data, tmp_path / "averaged", SPACE, ema_decay=0.9, **recipe)
    assert last.read_bytes() == plain.read_bytes() and log(tmp_path / "averaged") == log(tmp_path / "plain")
    assert not (tmp_path / "plain" / "model-ema.params").exists()
    averaged, own = (load_arrays(last.with_name(name)) for name in ("model-ema.params", "model.params"))
    assert set(averaged) == set(own)
    differing = {name for name in own if not np.allclose(averaged[name].asnumpy(), own[name].asnumpy(), rtol=1e-4)}
    assert "output.0.weight" in differing and not any(name.endswith(STATISTICS) for name in differing)
    before = last.with_name("model-ema.params").read_bytes()
    last.with_name("model-ema.params").unlink()
    train_supernet(data, tmp_path / "averaged", SPACE, ema_decay=0.9, **recipe)  # from the last checkpoint
    assert last.with_name("model-ema.params").read_bytes() == before


def test_what_has_ended_is_not_trained_again(data, tmp_path):
    file = train_supernet(data, tmp_path / "run", SPACE, **RECIPE)
    before = (file.read_bytes(), log(tmp_path / "run"))
    assert train_supernet(data, tmp_path / "run", SPACE, **RECIPE) == file
    assert (file.read_bytes(), log(tmp_path / "run")) == before
    with pytest.raises(InputError, match="holds another run: --lr was 0.2, now it is 0.3"):
        train_supernet(data, tmp_path / "run", SPACE, **{**RECIPE, "lr": 0.3})


@pytest.mark.parametrize(
    "space, recipe, message",
    (
        (replace(SPACE, stages=SPACE.stages[:2], strides=(2, 2, 2), input_size=8), {}, "needs 3 entries of 1 or 2"),
        (SPACE, {"epochs": 3}, "there is no epochs; known: .*num_epochs"),
        (SPACE, {"num_epochs": 0}, "num_epochs is 0: must be at least 1"),
        (SPACE, {"sampling": "greedy"}, "sampling is 'greedy'; it must be one of uniform, fair, sandwich"),
        (SPACE, {"num_epochs": 2, "warmup_epochs": 2}, "--warmup-epochs 2 leaves nothing of --num-epochs 2"),
    ),
)
def test_what_is_refused(space, recipe, message, data, tmp_path):
    with pytest.raises(InputError, match=message):
        train_supernet(data, tmp_path / "run", space, **recipe)
    assert not (tmp_path / "run").exists()


def test_an_unknown_architecture_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="no architecture 'oneshot-xl'"):
        train_subnet(data, tmp_path / "run", "oneshot-xl")
