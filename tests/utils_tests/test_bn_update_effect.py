"""What the BatchNorm update is worth: counts, what is drawn, and scores that are those of the network itself."""

import json

import pytest
from conftest import data_flags, fails

import train_imagenet
from spos.core.errors import InputError
from spos.core.flags import run_program
from spos.engine.batch_norm import recalibrate_batch_norm
from spos.engine.compat import mx
from spos.engine.flags import DeviceOptions
from spos.scoring.accuracy import evaluate
from spos.scoring.trained import TrainedSupernet
from spos.space.architecture import architecture_of
from spos.space.space_file import search_space
from utils import bn_update_effect
from utils.bn_update_effect import chosen_architectures, chosen_counts, open_effect


@pytest.fixture(scope="module")
def supernet(work):
    """A supernet of one epoch on a few digits."""
    folder = work / "bn-effect-supernet"
    flags = ["--num-epochs", "1", "--channels-layout", "Small", "--val-architectures", "1", "--save-dir", str(folder)]
    assert run_program(train_imagenet.main, [*data_flags(work), *flags]) == 0
    return folder


def rows_of(folder):
    return [json.loads(line) for line in (folder / "bn_update.jsonl").read_text().splitlines()]


def test_rows_are_scores_of_the_subnet_and_are_not_measured_twice(supernet, capsys):
    flags = ["--supernet", str(supernet), "--architectures", "2", "--counts", "0,32"]
    assert run_program(bn_update_effect.main, flags) == 0
    rows = rows_of(supernet)
    assert [row["num_bn_images"] for row in rows] == [0, 32, 0, 32]
    effect = open_effect(TrainedSupernet.of_run(supernet), DeviceOptions())
    own = effect.evaluator
    for row in rows[:2]:
        subnet = effect.net.extract(architecture_of(row))
        if row["num_bn_images"]:
            batches = (batch[0] for batch in own.bn_images.batches(own.batch_size, own.ctx, 0, 32))
            recalibrate_batch_norm(subnet, batches, 32, [mx.cpu()])
        accuracy = evaluate(subnet, own.images.batches(own.batch_size, own.ctx))
        assert abs(row["top1_hits"] - accuracy.top1_hits) <= 1  # equal up to rounding
        assert row["num_images"] == 32
    capsys.readouterr()
    assert run_program(bn_update_effect.main, [*flags[:3], "3", *flags[4:]]) == 0
    assert rows_of(supernet)[:4] == rows and len(rows_of(supernet)) == 6
    assert "(3 architectures)" in capsys.readouterr().out


def test_scores_of_another_supernet_are_refused(supernet, capsys):
    file = supernet / "bn_update.jsonl"
    before = file.read_text() if file.is_file() else ""
    row = {"block_choices": [0], "channel_choices": [0], "num_bn_images": 0, "top1": 0.5, "fingerprint": "0"}
    file.write_text(json.dumps(row) + "\n")
    fails(bn_update_effect.main, ["--supernet", supernet], capsys, "in another search space")
    file.write_text(before)


def test_counts_go_up_to_the_list():
    assert chosen_counts("", 180) == (0, 16, 64, 180)
    assert chosen_counts("", 1000) == (0, 16, 64, 256, 1000)
    assert chosen_counts("64, 0,64", 100) == (0, 64)


@pytest.mark.parametrize("text", ("0,181", "-1", "0,x", ","))
def test_counts_that_cannot_be_are_refused(text):
    with pytest.raises(InputError):
        chosen_counts(text, 180)


def test_more_architectures_begin_with_the_same():
    def draw(count, seed):
        return chosen_architectures(None, count, search_space(), seed)

    assert draw(5, 0)[:3] == draw(3, 0) != draw(3, 1)


def test_architectures_can_be_those_of_a_file(tmp_path):
    space, file = search_space("Small"), tmp_path / "alone.jsonl"
    drawn = chosen_architectures(None, 3, space, 0)
    rows = [{"block_choices": one.block_choices, "channel_choices": one.channel_choices} for one in (*drawn, drawn[0])]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert chosen_architectures(file, 16, space, 0) == drawn
    with pytest.raises(InputError, match="8 block choices, space 'OneShot' has 20"):
        chosen_architectures(file, 16, search_space(), 0)
    file.write_text('{"top1": 1}\n')
    with pytest.raises(InputError, match="holds no rows with block_choices"):
        chosen_architectures(file, 16, space, 0)


def test_a_supernet_that_has_not_ended_is_one_line(tmp_path, capsys):
    config = {"program": "train_imagenet.py", "options": {"model": "ShuffleNas"}, "space": search_space().to_json()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    fails(bn_update_effect.main, ["--supernet", tmp_path], capsys, "is not finished")


def test_a_search_is_no_supernet(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"program": "search_supernet.py", "options": {}}')
    fails(bn_update_effect.main, ["--supernet", tmp_path], capsys, "is the run of a search")
