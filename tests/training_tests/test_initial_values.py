"""What a training begins with: a file's values, a supernet's path, a new classifier; alone and through the program."""

import hashlib
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY, data_flags, fails, fill_parameters

import train_imagenet
from oneshot_nas_network import Subnet, Supernet
from spos.core.errors import InputError
from spos.core.flags import run_program
from spos.engine.compat import mx
from spos.engine.parameters import load_arrays, save_arrays, save_parameters
from spos.runs.files import read_json, write_json
from spos.space.architecture import Architecture
from spos.space.architecture_file import ArchitectureRecord
from spos.training.initial_values import set_from_file, set_from_supernet
from spos.training.trainer import Trainer
from spos.training.zoo import complete_shapes, zoo_model

ARCHITECTURE = Architecture((0, 3, 1, 2), (2, 5, 9, 0))
OTHER = Architecture((0, 3, 1, 2), (2, 5, 9, 1))
DEVICES = [mx.cpu(0), mx.cpu(1)]


def network(kind, num_classes, **changes):
    if kind not in ("subnet", "supernet"):
        net = zoo_model(kind, num_classes)
        net.initialize()
        complete_shapes(net, 32, (mx.cpu(),))
        return net
    space = replace(TINY, num_classes=num_classes, **changes)
    net = Supernet(space) if kind == "supernet" else Subnet(space, ARCHITECTURE)
    net.initialize(ctx=DEVICES)
    return net


def values(net):
    """Of every device, by name."""
    named = net._collect_params_with_prefix().items()
    return {(name, i): data.asnumpy() for name, p in named for i, data in enumerate(p.list_data())}


def same(one, other):
    return set(one) == set(other) and all(np.array_equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of networks of 5 classes: `subnet` and `supernet`, each alone in a folder, and damaged ones."""
    folder = tmp_path_factory.mktemp("files")
    for kind, net in (("supernet", Supernet(TINY)), ("subnet", Subnet(TINY, ARCHITECTURE))):
        fill_parameters(net)
        save_parameters(folder / kind / "model.params", net)
    whole = (folder / "subnet" / "model.params").read_bytes()
    (folder / "cut.params").write_bytes(whole[: len(whole) // 2])
    (folder / "pickle.params").write_bytes(pickle.dumps({"weight": 1}))
    arrays = load_arrays(folder / "subnet" / "model.params")
    merged = {name: array for name, array in arrays.items() if "running" not in name and "gamma" not in name}
    save_arrays(folder / "merged.params", merged)
    other = Subnet(TINY, OTHER)
    fill_parameters(other)
    save_parameters(folder / "other.params", other)
    for name, space in (("run", TINY), ("plain", replace(TINY, use_se=False, input_size=64))):
        (folder / name).mkdir()
        shutil.copy(folder / "supernet" / "model.params", folder / name)
        run = {"program": "train_imagenet.py", "options": {"model": "ShuffleNas"}, "space": space.to_json()}
        write_json(folder / name / "config.json", {**run, "architecture": None})
    return folder


@pytest.mark.parametrize("kind", ["subnet", "supernet", "cifar_resnet20_v1", "resnet18_v1b", "mobilenetv2_0.25"])
def test_the_classifier_stays_if_the_class_counts_differ_and_nothing_else_does(kind, tmp_path):
    """Also at another input size and stride plan."""
    given = network(kind, 5)
    save_parameters(tmp_path / "given.params", given)
    net = network(kind, 7, input_size=32, strides=(1, 1, 2))
    before = values(net)
    said = set_from_file(net, str(tmp_path / "given.params"))
    assert said.endswith("classifier of 5 classes replaced by one of 7: new values")
    after, expected = values(net), values(given)
    kept = {key for key in after if after[key].shape != expected[key].shape}
    assert kept and all(after[key].shape[0] == 7 for key in kept)
    assert same({key: after[key] for key in kept}, {key: before[key] for key in kept})
    rest = set(after) - kept
    assert same({key: after[key] for key in rest}, {key: expected[key] for key in rest})


@pytest.mark.parametrize("kind", ["subnet", "supernet"])
def test_everything_is_the_files_if_the_class_counts_are_equal(files, kind):
    net = network(kind, 5)
    assert set_from_file(net, str(files / kind / "model.params")) == ""
    arrays = load_arrays(files / kind / "model.params")
    for device in range(len(DEVICES)):
        own = {name: value for (name, i), value in values(net).items() if i == device}
        assert same(own, {name: array.asnumpy() for name, array in arrays.items()})


@pytest.mark.parametrize("num_classes", [5, 7])
@pytest.mark.parametrize("folder", ["supernet", "run"])
def test_a_subnet_begins_with_its_path_in_the_supernet(files, folder, num_classes, monkeypatch):
    """The supernet is read without computing initial values for it first."""
    net = network("subnet", num_classes, input_size=32, strides=(1, 1, 2))
    before = values(net)
    supernet = Supernet(TINY)
    fill_parameters(supernet)
    expected = values(supernet.extract(ARCHITECTURE, DEVICES))
    monkeypatch.setattr(mx.gluon.Parameter, "initialize", lambda *_, **__: pytest.fail("initial values"))
    said = set_from_supernet(net, str(files / folder / "model.params"))
    classifier = {key: value for key, value in before.items() if key[0].startswith("output.")}
    assert len(classifier) == 4 and ("5 classes replaced by one of 7" in said) == (num_classes == 7)
    assert same(values(net), expected if num_classes == 5 else {**expected, **classifier})


def test_half_precision_is_kept(files):
    net = network("subnet", 5)
    net.cast("float16")
    set_from_file(net, str(files / "subnet" / "model.params"))
    arrays = load_arrays(files / "subnet" / "model.params")
    types = {name: parameter.dtype for name, parameter in net._collect_params_with_prefix().items()}
    assert np.dtype(types["output.0.weight"]) == np.float16
    assert same(values(net), {(n, i): arrays[n].asnumpy().astype(types[n]) for n in arrays for i in range(2)})


FILE_REFUSALS = {
    "missing": ("subnet", "gone.params", ["gone.params does not exist"]),
    "truncated": ("subnet", "cut.params", ["cut.params is damaged"]),
    "pickle": ("subnet", "pickle.params", ["is a pickle"]),
    "merged": ("subnet", "merged.params", ["no BatchNorm", "merged"]),
    "another architecture": ("subnet", "other.params", ["another network", "(file: shape"]),
    "supernet for a subnet": ("subnet", "run/model.params", ["a supernet's", "--init-from-supernet"]),
    "subnet for a supernet": ("supernet", "subnet/model.params", ["no supernet's"]),
    "other architecture and classes": ("subnet of 7", "other.params", ["another network", "(file: shape"]),
}


@pytest.mark.parametrize("case", FILE_REFUSALS)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(files, case):
    (kind, file, words) = FILE_REFUSALS[case]
    net = network(kind.split()[0], 7 if kind.endswith("7") else 5)
    refuses(lambda: set_from_file(net, str(files / file)), net, words)


SUPERNET_REFUSALS = {
    "missing": ("gone.params", ["gone.params does not exist"]),
    "truncated": ("cut.params", ["cut.params is damaged"]),
    "a subnet": ("subnet/model.params", ["no supernet's", "--init-params"]),
    "another space": ("plain/model.params", ["another space", "use_se is False, not True"]),
}


@pytest.mark.parametrize("case", SUPERNET_REFUSALS)
def test_a_supernet_that_does_not_fit_is_refused_and_changes_nothing(files, case):
    (file, words), net = SUPERNET_REFUSALS[case], network("subnet", 5)
    refuses(lambda: set_from_supernet(net, str(files / file)), net, words)


def test_without_a_run_a_supernet_of_another_space_is_known_by_its_shapes(files):
    net = Subnet(replace(TINY, use_se=False), ARCHITECTURE)
    net.initialize()
    refuses(lambda: set_from_supernet(net, str(files / "supernet" / "model.params")), net, ["another space?"])


def refuses(action, net, words):
    before = values(net)
    with pytest.raises(InputError) as error:
        action()
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words), error.value
    assert same(values(net), before)


FLAGS = "--model ShuffleNas_fixArch --strides 2,2,2 --batch-size 16 --lr 0.01 --seed 3"


@pytest.fixture
def train(work, files, tmp_path):
    """Runs the program on a tiny architecture; NAMES stand for files. Returns its exit code."""
    file = tmp_path / "tiny.json"
    write_json(file, ArchitectureRecord(TINY, ARCHITECTURE, {}).to_json())

    def call(name, line, **changes):
        line = line.replace("TINY", str(file)).replace("FILES", str(files)).replace("HERE", str(tmp_path))
        flags = [*data_flags(work, **{"input-size": 16, **changes}), *FLAGS.split(), *line.split()]
        return run_program(train_imagenet.main, [*flags, "--save-dir", str(tmp_path / name)])

    return call


def test_a_run_is_fine_tuned_on_other_classes_and_resumed(train, tmp_path, capsys):
    """The architecture is the run's. Killed before or after its first checkpoint, a run ends with the same bits."""
    assert train("first", "--architecture TINY --num-epochs 1") == 0
    assert "begins with" not in capsys.readouterr().out
    line = "--init-params HERE/first/model.params --num-epochs 2 --keep-checkpoints 9"
    tune = {"classes": 12, "input-size": 32}
    assert train("tuned", line, **tune) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"begins with parameters of {tmp_path}/first/model.params; classifier of 10 classes")
    config = read_json(tmp_path / "tuned" / "config.json")
    assert config["architecture"]["channel_choices"] == list(ARCHITECTURE.channel_choices)
    assert (config["space"]["num_classes"], config["space"]["input_size"]) == (12, 32)
    whole = (tmp_path / "tuned" / "model.params").read_bytes()
    for lost, says in (("epoch-0002", "continuing"), ("", "begins with")):
        (tmp_path / "tuned" / "model.params").unlink()
        shutil.rmtree(tmp_path / "tuned" / "checkpoints" / lost)
        assert train("tuned", line, **tune) == 0
        assert (tmp_path / "tuned" / "model.params").read_bytes() == whole
        printed = capsys.readouterr().out
        assert printed.startswith(says) and ("replaced" in printed) == (says == "begins with")

    assert train("tuned", line.replace("first", "tuned"), **tune) == 2
    assert "the content of --init-params has changed" in capsys.readouterr().err
    shutil.copy(tmp_path / "tuned" / "checkpoints" / "epoch-0001" / "model.params", tmp_path / "first")
    assert train("tuned", line, **tune) == 2
    assert "the content of --init-params has changed" in capsys.readouterr().err
    (tmp_path / "first" / "model.params").unlink()
    assert train("tuned", line, **tune) == 2
    assert "--init-params" in capsys.readouterr().err


def test_a_subnet_is_trained_from_its_path_in_a_supernet(train, files, tmp_path, monkeypatch):
    line = "--architecture TINY --init-from-supernet FILES/run/model.params --num-epochs 1"
    assert train("run", f"{line} --num-cpus-ctx 2 --mode symbolic", **{"batch-size": 8}) == 0
    trained = load_arrays(tmp_path / "run" / "model.params")
    digest = hashlib.sha256((files / "run" / "model.params").read_bytes()).hexdigest()
    assert read_json(tmp_path / "run" / "config.json")["init_from_supernet_sha256"] == digest
    monkeypatch.setattr(Trainer, "train", lambda *_: None)  # what is saved is what training begins with
    assert train("begun", line) == 0
    begun = load_arrays(tmp_path / "begun" / "model.params")
    net = network("subnet", 10)
    set_from_supernet(net, str(files / "run" / "model.params"))
    own = {name: parameter.data(DEVICES[0]) for name, parameter in net._collect_params_with_prefix().items()}
    kept = [name for name in own if name.startswith("output.")]
    assert all((begun[name] == own[name]).asnumpy().all() for name in own if name not in kept) and len(kept) == 2
    assert all(np.isfinite(array.asnumpy()).all() for array in trained.values())
    assert any((trained[name] != begun[name]).asnumpy().any() for name in begun)


PROGRAM_REFUSALS = {
    "missing": ("--init-params gone.params", ["--init-params gone.params does not exist", "to go on"]),
    "no architecture": ("--init-params FILES/subnet/model.params", ["subnet/model.params", "--architecture"]),
    "run of a supernet": ("--init-params FILES/run/model.params", ["run of a subnet", "--architecture"]),
    "space": ("--architecture oneshot --init-from-supernet FILES/plain/model.params", ["another space", "stages"]),
}


@pytest.mark.parametrize("case", PROGRAM_REFUSALS)
def test_training_refuses(work, files, tmp_path, capsys, case):
    line, words = PROGRAM_REFUSALS[case]
    model = ["--model", "ShuffleNas_fixArch", "--save-dir", tmp_path / "run"]
    fails(train_imagenet.main, [*data_flags(work), *model, *line.replace("FILES", str(files)).split()], capsys, *words)
    assert not (tmp_path / "run").exists()
