"""Steps of several passes, stops inside an epoch, several devices, half precision: each gives what it should."""

import json
import os
import signal

import numpy as np
import pytest
from conftest import TINY, fill_parameters

from spos.core.errors import InputError, Stopped
from spos.core.seeds import derive_rng
from spos.engine.compat import mx
from spos.engine.parameters import load_arrays
from spos.sampling.warm_up import SamplingPolicy
from spos.space.space import Architecture
from spos.training.checkpoint import newest_checkpoint
from spos.training.log import describe_epoch
from spos.training.path_trainer import PathTrainer, make_optimizer
from spos.training.strategies import FairStrategy, SandwichStrategy, UniformStrategy
from spos.training.trainer import resume, run_pass, train, train_step
from training_tests.test_trainer import CPU, ListLoader, make_job, make_net, values

TWO = (mx.cpu(0), mx.cpu(1))
POLICY = SamplingPolicy(TINY, epoch_start_cs=0)
STRATEGIES = {
    "uniform": UniformStrategy(POLICY),
    "fair": FairStrategy(TINY, POLICY.lowest_channel_choice),
    "sandwich": SandwichStrategy(TINY, POLICY.lowest_channel_choice),
}


def several_passes_job(tmp_path, strategy, ctx=CPU, **changes):
    net = make_net(ctx=ctx)
    net.features[len(net.features) - 1]._rate = 0  # dropout
    if strategy != "uniform":
        for parameter in net.collect_params().values():
            parameter.grad_req = "add" if parameter.grad_req == "write" else parameter.grad_req
    return make_job(tmp_path, net, ctx=ctx, strategy=STRATEGIES[strategy], **changes)


def batch(seed=0, size=8):
    rng = np.random.default_rng(seed)
    return mx.nd.array(rng.normal(0, 1, (size, 3, 16, 16))), mx.nd.array(rng.integers(0, 5, size))


def gradients(net):
    return {n: p.grad().asnumpy() for n, p in net._collect_params_with_prefix().items() if p.grad_req != "null"}


@pytest.mark.parametrize("strategy", ["fair", "sandwich"])
def test_passes_of_a_step_add_up_to_one_update(tmp_path, strategy, monkeypatch):
    job = several_passes_job(tmp_path, strategy)
    images, labels = batch()
    seen = {}
    update = job.trainer.step

    def look(batch_size, selected):
        seen.update(gradients(job.net))
        update(batch_size, selected)

    monkeypatch.setattr(job.trainer, "step", look)
    train_step(job, images, labels, 0, 3)
    assert not any(g.any() for g in gradients(job.net).values()), "gradients are left for the next step"

    alone = make_job(tmp_path, make_net())  # the same weights; gradients are written, not added
    alone.net.features[len(alone.net.features) - 1]._rate = 0
    examples = [alone.objective.example(images, labels)]
    total, first = {}, None
    for one in job.strategy(0, 3, derive_rng(0, "sampling", 0, 3)):
        for parameter in alone.net.collect_params().values():
            parameter.zero_grad()
        logits, _ = run_pass(alone, examples, one, first, "")
        first = first or logits
        for name, grad in gradients(alone.net).items():
            total[name] = total.get(name, 0) + grad
    for name, grad in total.items():
        assert np.abs(seen[name] - grad).max() <= 1e-4 * np.abs(grad).max() + 1e-6, name
    assert sum(g.any() for g in total.values()) > 20


@pytest.mark.parametrize("strategy", ["fair", "sandwich"])
def test_several_passes_leave_alone_what_none_of_them_uses(tmp_path, strategy):
    job = several_passes_job(tmp_path, strategy)
    train_step(job, *batch(), 0, 0)
    before = values(job.net)
    passes = job.strategy(0, 1, derive_rng(0, "sampling", 0, 1))
    used = {}
    for one in passes:
        for parameter, shape in job.net.selected_parameters(one.architecture):
            used.setdefault(parameter.name, []).append(shape)
    train_step(job, *batch(1), 0, 1)
    after, moved = values(job.net), 0
    for name, parameter in job.net._collect_params_with_prefix().items():
        if "running" in name:
            continue
        if parameter.name in used:
            corner = tuple(slice(0, n) for n in np.max(used[parameter.name], axis=0))
            moved += not np.array_equal(after[name][corner], before[name][corner])
            after[name][corner] = before[name][corner]
        assert np.array_equal(after[name], before[name]), f"{name} moved outside the paths"
    assert moved > 0.9 * len(used)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_strategies_train(tmp_path, strategy):
    rows = []
    job = several_passes_job(tmp_path, strategy, num_epochs=4, log=rows.append)
    train(job)
    assert all(np.isfinite(row["loss"]) for row in rows) and len(rows) == 4


class StopAfter:
    """A loader that sends a signal to this process while it deals one batch."""

    bad_images = ()

    def __init__(self, epoch, step, signum=signal.SIGTERM):
        self.when, self.signum, self.inner = (epoch, step), signum, ListLoader(num_batches=3)
        self.num_batches, self.num_images = self.inner.num_batches, self.inner.num_images

    def epoch(self, epoch, start=0):
        for step, pair in enumerate(self.inner.epoch(epoch, start), start):
            if (epoch, step) == self.when:
                os.kill(os.getpid(), self.signum)
            yield pair


@pytest.mark.parametrize("ctx, strategy", [(CPU, "fair"), (TWO, "uniform")], ids=["one-device", "two-devices"])
def test_a_run_stopped_inside_an_epoch_ends_with_the_same_bits(tmp_path, ctx, strategy, capsys):
    rows, whole_rows = [], []
    whole = several_passes_job(tmp_path / "whole", strategy, ctx, num_epochs=3, log=whole_rows.append)
    whole.loader = ListLoader(num_batches=3)
    train(whole)
    for stop in ((1, 0), (1, 1), (2, 2)):  # three sessions end early, the last inside the last batch of all
        job = several_passes_job(tmp_path / "stopped", strategy, ctx, num_epochs=3, log=rows.append)
        fill_parameters(job.net)
        checkpoint = newest_checkpoint(tmp_path / "stopped")
        start = resume(job, checkpoint) if checkpoint else None
        job.loader = StopAfter(*stop)
        with pytest.raises(Stopped):
            train(job, *([start] if start else []))
        reached = newest_checkpoint(tmp_path / "stopped")
        assert (reached.epoch, reached.step) == (stop[0], stop[1] + 1)
    assert "stopping after this batch" in capsys.readouterr().err
    job = several_passes_job(tmp_path / "stopped", strategy, ctx, num_epochs=3, log=rows.append)
    job.loader = ListLoader(num_batches=3)
    train(job, resume(job, newest_checkpoint(tmp_path / "stopped")))
    ended = values(job.net)
    for name, value in values(whole.net).items():
        assert np.array_equal(ended[name], value), name
    ends = [newest_checkpoint(tmp_path / run) for run in ("whole", "stopped")]
    for file in ("model_file", "states_file"):
        one, other = (load_arrays(getattr(end, file)) for end in ends)
        assert all(np.array_equal(one[name].asnumpy(), other[name].asnumpy()) for name in one), file
    metrics = ("epoch", "loss", "top1", "top5", "lr")
    assert [[row[key] for key in metrics] for row in rows] == [[row[key] for key in metrics] for row in whole_rows]


def test_a_stop_during_validation_loses_no_step(tmp_path):
    def stop(epoch):
        os.kill(os.getpid(), signal.SIGINT)
        return {"val_top1": 0.5}

    job = make_job(tmp_path, num_epochs=2, validate=stop)
    with pytest.raises(Stopped):
        train(job)
    reached = newest_checkpoint(tmp_path)
    assert (reached.epoch, reached.step) == (0, job.loader.num_batches)
    rows = []
    again = make_job(tmp_path, num_epochs=2, log=rows.append)
    train(again, resume(again, reached))
    assert [row["epoch"] for row in rows] == [0, 1] and rows[0]["loss"] > 0


def test_signals_belong_to_others_again_after_training(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    train(make_job(tmp_path, num_epochs=2))
    assert signal.getsignal(signal.SIGTERM) is before


def test_checkpoints_inside_an_epoch_come_as_often_as_asked(tmp_path):
    job = make_job(tmp_path, num_epochs=2, save_steps=2, keep_checkpoints=9)
    job.loader = ListLoader(num_batches=5)
    train(job)
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


def test_undecodable_images_are_named_in_the_log(tmp_path):
    rows = []
    job = make_job(tmp_path, num_epochs=2, log=rows.append)
    job.loader.bad_images = ["train.rec: image with key 7"]
    train(job)
    assert [row["undecodable_images"] for row in rows] == [job.loader.bad_images] * 2
    assert describe_epoch(rows[0]).endswith("1 undecodable images")


def test_a_loss_that_is_not_finite_names_step_architecture_and_checkpoint(tmp_path):
    path = Architecture((0, 3, 1, 2), (9, 8, 7, 6))
    job = make_job(tmp_path, num_epochs=3, strategy=UniformStrategy(lambda epoch, step, rng: path))

    class Poisoned(ListLoader):
        def epoch(self, epoch, start=0):
            for step, batch in enumerate(super().epoch(epoch, start)):
                if (epoch, step) == (1, 1):
                    job.net.output[0].bias.set_data(job.net.output[0].bias.data() * float("nan"))
                yield batch

    job.loader = Poisoned()
    with pytest.raises(InputError) as error:
        train(job)
    for words in ("the loss became nan", "epoch 2, step 2", str(path), "checkpoints/epoch-0001", "--lr"):
        assert words in str(error.value)
    assert newest_checkpoint(tmp_path).epoch == 1
    assert all(np.isfinite(a.asnumpy()).all() for a in load_arrays(newest_checkpoint(tmp_path).model_file).values())


def test_parameters_that_are_not_finite_are_never_a_checkpoint(tmp_path):
    """ReLU turns a NaN into 0, so the loss may stay finite while statistics are lost."""
    job = make_job(tmp_path, num_epochs=2)
    name = "features.1.running_mean"
    parameter = job.net._collect_params_with_prefix()[name]
    parameter.set_data(parameter.data() * float("inf"))
    with pytest.raises(InputError, match=f"{name}.*not finite"):
        job.save(1)
    assert newest_checkpoint(tmp_path) is None


def test_running_statistics_of_every_device_survive_inside_an_epoch(tmp_path):
    """Each device follows its own images until the epoch ends; the parameter file holds their mean."""
    job = make_job(tmp_path, ctx=TWO, num_epochs=2)
    train_step(job, *batch(), 0, 0)
    job.save(0, 1)
    name = "features.1.running_mean"
    parameter = job.net._collect_params_with_prefix()[name]
    each = [data.asnumpy() for data in parameter.list_data()]
    assert not np.array_equal(*each)
    assert np.allclose(load_arrays(newest_checkpoint(tmp_path).model_file)[name].asnumpy(), np.mean(each, axis=0))
    again = make_job(tmp_path, ctx=TWO, num_epochs=2)
    resume(again, newest_checkpoint(tmp_path))
    restored = again.net._collect_params_with_prefix()[name].list_data()
    assert all(np.array_equal(one.asnumpy(), other) for one, other in zip(restored, each))


class HalfPrecision(mx.gluon.Block):
    """One float16 weight: MXNet has optimizer operators for it on CPU, though no layers."""

    def __init__(self, value):
        super().__init__()
        self.weight = self.params.get("weight", shape=value.shape, dtype="float16", init=mx.init.Zero())
        self.initialize()
        self.weight.set_data(mx.nd.array(value, dtype="float16"))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("corner", [(4, 6), (2, 6), (3, 4)], ids=["whole", "rows", "corner"])
def test_float16_weights_have_float32_masters(momentum, corner, rng):
    """Updates far below float16's resolution add up, in the selected corner and nowhere else."""
    value = rng.uniform(1, 2, (4, 6)).astype(np.float16)
    net = HalfPrecision(value)
    trainer = PathTrainer(net, make_optimizer(1e-4, momentum, 0.0, "float16"))
    for _ in range(40):
        net.weight.grad()[:] = 1
        trainer.step(1, [(net.weight, corner)])
    cut = tuple(slice(0, n) for n in corner)
    expected, velocity = value.astype(np.float32), np.zeros((4, 6), np.float32)
    for _ in range(40):
        velocity[cut] = momentum * velocity[cut] + 1
        expected[cut] -= 1e-4 * (1 + momentum * velocity[cut])
    assert np.abs(net.weight.data().asnumpy() - expected).max() < 1e-3
    assert not np.array_equal(net.weight.data().asnumpy()[cut], value[cut])
    masters = [a.asnumpy() for a in trainer.states().values() if a.dtype == np.float32]
    assert any(np.abs(master - expected).max() < 1e-5 for master in masters)
    saved = {name: array.copy() for name, array in trainer.states().items()}
    again = PathTrainer(net, make_optimizer(1e-4, momentum, 0.0, "float16"))
    again.set_states(saved)
    assert {n: a.asnumpy().tolist() for n, a in again.states().items()} == {
        n: a.asnumpy().tolist() for n, a in saved.items()
    }


def test_state_of_a_checkpoint_is_plain_json(tmp_path):
    train(make_job(tmp_path, num_epochs=2))
    state = json.loads((newest_checkpoint(tmp_path).folder / "state.json").read_text())
    assert state["epoch"] == 2 and state["step"] == 0
