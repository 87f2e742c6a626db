"""Trained supernets: which files and runs are refused, and what their jobs are."""

import json
import shutil
from dataclasses import replace

import pytest
from conftest import TINY

from scoring_tests.test_job import make_supernet
from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.engine.flags import DeviceOptions
from spos.runs.run import LISTS_FOLDER
from spos.scoring.trained import TrainedSupernet, open_supernets, open_together
from spos.space.flags import SpaceOptions
from spos.space.space_file import search_space

FITTING = search_space(use_se=True, num_classes=10, input_size=16, strides=(1, 1, 2, 2, 2))  # what the flags may name


def describe(folder, **changes):
    """Let the config of a run say something else."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.fixture(scope="module")
def alone(work, tmp_path_factory):
    """A supernet that lies in no run."""
    return make_supernet(work, tmp_path_factory.mktemp("alone"))


@pytest.fixture
def run(alone, tmp_path):
    """The same one as the result of a run."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(alone.params, folder / "model.params")
    config = {
        "program": "train_imagenet.py",
        "options": {"model": "ShuffleNas", **vars(alone.data)},
        "space": alone.space.to_json(),
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_finished_run_is_opened_with_its_images(run, alone):
    own = TrainedSupernet.of_run(run)
    assert (own.space, own.data, own.name, own.run) == (alone.space, alone.data, "run", run)
    assert own.lists == run / LISTS_FOLDER and not own.lists.exists()
    assert TrainedSupernet.of_run(run, batch_size=7).data == replace(alone.data, batch_size=7)
    own.check()


def test_a_file_of_a_run_has_its_space_and_lists(run, alone, tmp_path):
    describe(run, space=FITTING.to_json())
    own = TrainedSupernet.open(run / "model.params", alone.data, folder=tmp_path / "search")
    assert own.space == FITTING and own.lists.resolve() == (run / LISTS_FOLDER).resolve()
    with pytest.raises(InputError, match="--channels-layout: .* was trained in another space"):
        TrainedSupernet.open(run / "model.params", alone.data, SpaceOptions(channels_layout="Small"))


def test_a_file_alone_gets_new_lists_where_the_search_lies_and_a_warning(alone, tmp_path, capsys):
    own = TrainedSupernet.open(alone.params, alone.data, folder=tmp_path)
    assert own.run is None and own.lists == tmp_path / LISTS_FOLDER and not own.lists.exists()
    with pytest.raises(InputError, match="belongs to another network"):  # flags say the default space
        own.check()
    replace(own, data=replace(own.data, batch_size=50)).warn_of_lists("holdout")
    warned = capsys.readouterr().err
    assert "does not lie in a run directory" in warned
    assert "bn and search_val have 32 and 32 images, fewer than --batch-size 50" in warned
    assert own.lists.is_dir()


def test_a_job_says_all_that_a_score_depends_on(alone, tmp_path):
    job = alone.job(tmp_path, "val", DeviceOptions(num_gpus=1, dtype="float16"), shared=True)
    assert (job.space, job.search_on, job.on_gpu, job.dtype, job.shared) == (alone.space, "val", True, "float16", True)
    assert [name for name, _ in job.images] == ["bn", "test"] and job.run == str(tmp_path)
    plain = alone.job(tmp_path)
    assert (plain.search_on, plain.on_gpu, plain.dtype, plain.shared) == ("holdout", False, "float32", False)


def test_what_is_missing_is_named(run, alone, tmp_path):
    with pytest.raises(InputError, match="gone.params does not exist; train a supernet first"):
        TrainedSupernet.open(tmp_path / "gone.params", alone.data)
    (run / "model.params").unlink()
    with pytest.raises(InputError, match="is not finished: it has no model.params"):
        TrainedSupernet.of_run(run)


def test_supernets_of_two_spaces_or_one_name_do_not_go_together(run, tmp_path):
    with pytest.raises(InputError, match="two of the supernets are named run"):
        open_supernets([run, run], 32)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    config = json.loads((other / "config.json").read_text())
    config["space"] = replace(TINY, num_classes=10, min_channel_choice=2).to_json()
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="was trained in another search space than"):
        open_supernets([run, other], 32)
    assert [one.name for one in open_supernets([run], 32)] == ["run"]


def another(run, folder, **changes):
    """A run like `run` with other weights, whose config differs as `changes` say."""
    shutil.copytree(run, folder)
    arrays = mx.nd.load(str(folder / "model.params"))
    arrays["output.0.bias"] += 1
    mx.nd.save(str(folder / "model.params"), arrays)
    describe(folder, **changes)
    return folder / "model.params"


def test_supernets_that_score_together_have_one_job(run, alone, tmp_path):
    describe(run, space=FITTING.to_json())
    other = another(run, tmp_path / "other")
    job = open_together([run / "model.params", other], alone.data).job(tmp_path)
    assert [file for file, _ in job.supernets] == [str(run / "model.params"), str(other)]
    assert (job.space, job.lists) == (FITTING, str(run / LISTS_FOLDER))
    (single,) = open_together([other], alone.data).job(tmp_path).supernets
    assert single == job.supernets[1]


def test_supernets_that_cannot_score_together_are_refused(run, alone, tmp_path):
    describe(run, space=FITTING.to_json())
    params, narrow = run / "model.params", replace(FITTING, min_channel_choice=2)
    shutil.copy(params, run / "copy.params")
    for same in (params, run / "copy.params"):
        with pytest.raises(InputError, match=f"{same.name}: the same parameters stand there twice"):
            open_together([params, same], alone.data)
    with pytest.raises(InputError, match="narrow/model.params was trained in another search space than"):
        open_together([params, another(run, tmp_path / "narrow", space=narrow.to_json())], alone.data)
    other = another(run, tmp_path / "unlike")
    assert open_together([params, other], alone.data).job(tmp_path)  # lists of both are written
    file = tmp_path / "unlike" / LISTS_FOLDER / "search_val.idx"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match="unlike/lists/search_val.idx: holds another list"):
        open_together([params, other], alone.data).job(tmp_path)


def test_a_file_of_a_run_is_a_supernet_of_its_own(run):
    shutil.copy(run / "model.params", run / "model-ema.params")
    own, averaged = open_supernets([run, run / "model-ema.params"], 32)
    assert (own.name, averaged.name) == ("run", "run/model-ema")
    assert averaged.params == str(run / "model-ema.params") and averaged.space == own.space
