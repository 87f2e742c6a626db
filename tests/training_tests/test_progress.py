"""Progress that is kept: checkpoints as often as asked, in plain JSON, and none of what is not finite."""

import json

import pytest
from tiny_training import ListLoader, make_trainer

from spos.core.errors import InputError
from spos.training.checkpoint import newest_checkpoint
from spos.training.progress import Progress, Run


def test_checkpoints_inside_an_epoch_come_as_often_as_asked(tmp_path):
    make_trainer(num_epochs=2).train(ListLoader(num_batches=5), Run(tmp_path, save_steps=2, keep_checkpoints=9))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [
        "epoch-0000-step-000002",
        "epoch-0000-step-000004",
        "epoch-0001",
        "epoch-0001-step-000002",
        "epoch-0001-step-000004",
        "epoch-0002",
    ]
    assert newest_checkpoint(tmp_path).epoch == 2


def test_parameters_that_are_not_finite_are_never_a_checkpoint(tmp_path):
    """ReLU turns a NaN into 0, so the loss may stay finite while statistics are lost."""
    trainer = make_trainer(num_epochs=2)
    name = "features.1.running_mean"
    parameter = trainer.net._collect_params_with_prefix()[name]
    parameter.set_data(parameter.data() * float("inf"))
    with pytest.raises(InputError, match=f"{name}.*not finite"):
        trainer.save(Run(tmp_path), Progress(1))
    assert newest_checkpoint(tmp_path) is None


def test_state_of_a_checkpoint_is_plain_json(tmp_path):
    make_trainer(num_epochs=2).train(ListLoader(), Run(tmp_path))
    state = json.loads((newest_checkpoint(tmp_path).folder / "state.json").read_text())
    assert state["epoch"] == 2 and state["step"] == 0
