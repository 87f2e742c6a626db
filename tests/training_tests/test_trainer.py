"""The trainer: only the sampled paths move, devices agree, stopped and resumed training ends with the same bits."""

import os
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from conftest import WAYS, fill_parameters
from tiny_training import (
    CPU,
    STRATEGIES,
    TWO,
    ListLoader,
    batch,
    make_executed,
    make_net,
    make_trainer,
    on_path,
    several_passes,
    values,
)

from spos.core.errors import InputError, Stopped
from spos.core.seeds import derive_rng
from spos.engine.cluster import Cluster
from spos.engine.compat import mx
from spos.engine.parameters import load_arrays
from spos.native.build import SWITCH
from spos.runs.journal import Journal
from spos.space.architecture import Architecture
from spos.training.checkpoint import newest_checkpoint
from spos.training.log import EpochDisplay, RunLog, describe_epoch
from spos.training.progress import Progress, Run


def test_a_training_ends_by_itself_and_stays_ended(tmp_path):
    """Also when checkpoints are rarer than epochs."""
    accuracies = [0.3, 0.5, 0.4, 0.5, 0.9, 0.9, 0.9, 0.9]
    for _ in range(2):
        log = RunLog(Journal(tmp_path / "log.jsonl"))
        run = Run(tmp_path, log.epoch, lambda epoch: {"val_top1": accuracies[epoch]}, save_frequency=5)
        run = replace(run, is_over=partial(log.is_over, 2))
        trainer, checkpoint = make_trainer(num_epochs=8), newest_checkpoint(tmp_path)
        trainer.train(ListLoader(), run, trainer.resume(checkpoint) if checkpoint else None)
        assert [row["epoch"] for row in log.journal.rows] == [0, 1, 2, 3]
        assert newest_checkpoint(tmp_path).epoch == 4


def weights(net):
    return {n: v for n, v in values(net).items() if "running" not in n}


def step(trainer, architecture, seed=0):
    on_path(trainer, architecture).step(*batch(seed), 0, seed)
    mx.nd.waitall()


@pytest.mark.parametrize("execution", ["slice", "mask", "graphs"])
@pytest.mark.parametrize("ctx", [CPU, TWO], ids=["one-device", "two-devices"])
def test_only_the_sampled_path_moves(execution, ctx):
    """With two devices this fails if the update happens on the KVStore, which re-applies stale gradients."""
    trainer = make_executed(execution, ctx)
    first = Architecture((0, 3, 1, 2), (9, 9, 9, 9))
    step(trainer, first)  # leaves gradients and momentum in the branches of `first`
    before, momentum = weights(trainer.net), {n: a.asnumpy() for n, a in trainer.optimizer.states().items()}
    second = Architecture((1, 3, 2, 3), (4, 0, 6, 2))
    selected = {id(p): shape for p, shape in trainer.net.selected_parameters(second)}
    step(trainer, second, seed=1)
    moved = 0
    for name, parameter in trainer.net._collect_params_with_prefix().items():
        if "running" in name:
            continue
        for device in parameter.list_ctx():
            now, corner = (
                parameter.data(device).asnumpy(),
                tuple(slice(0, n) for n in selected.get(id(parameter), (0,))),
            )
            moved += not np.array_equal(now[corner], before[name][corner])
            now[corner] = before[name][corner]
            assert np.array_equal(now, before[name]), f"{name} moved outside the path"
    assert moved > 0.9 * len(selected) * len(ctx)
    for key, array in trainer.optimizer.states().items():
        name = key.rpartition(":")[0]
        corner = tuple(slice(0, n) for n in selected.get(id(trainer.net._collect_params_with_prefix()[name]), (0,)))
        rest = array.asnumpy()
        if key in momentum:
            rest[corner] = momentum[key][corner]
            assert np.array_equal(rest, momentum[key]), f"momentum of {name} moved outside the path"


def test_steps_of_one_path_equal_training_the_subnet():
    """The corner updates are those of a plain Gluon trainer on the extracted subnet, momentum and decay included."""
    architecture = Architecture((0, 3, 1, 3), (3, 0, 6, 2))
    net = make_net()
    subnet = net.extract(architecture, grad_req="write")
    for head in (net.features, subnet.features):
        head[len(head) - 1]._rate = 0  # dropout
    trainer = make_trainer(net)
    plain = mx.gluon.Trainer(
        subnet._collect_params_with_prefix(), "nag", {"learning_rate": 0.05, "momentum": 0.9, "wd": 1e-2}
    )
    for name, parameter in subnet._collect_params_with_prefix().items():
        parameter.wd_mult = 0.0 if name.endswith(("gamma", "beta", "bias")) else 1.0
        if name in ("features.1.gamma", "features.1.beta"):
            parameter.lr_mult = parameter.wd_mult = 0.0  # not trained in a supernet
    for seed in range(3):
        step(trainer, architecture, seed)
        images, labels = batch(seed)
        objective = trainer.recipe.objective
        with mx.autograd.record():
            loss = objective(subnet(images), objective.example(images, labels))
        loss.backward()
        plain.step(8)
    trained = values(subnet)
    for own, theirs, shape in net._path(architecture, use_all_blocks=False):
        got = net._parameters_by_name[own].data().asnumpy()[tuple(slice(0, n) for n in shape)]
        scale = np.abs(trained[theirs]).max() + 1e-3
        assert np.abs(got - trained[theirs]).max() < 2e-3 * scale, own


class DenseNet(mx.gluon.HybridBlock):
    def __init__(self):
        super().__init__()
        self.dense = mx.gluon.nn.Dense(5, in_units=12)

    def hybrid_forward(self, F, x):
        return self.dense(F.flatten(x))


def test_two_devices_give_the_update_of_one(rng):
    images, labels = mx.nd.array(rng.normal(0, 1, (7, 3, 2, 2))), mx.nd.array([0, 1, 2, 3, 4, 0, 1])
    results = []
    for ctx in (CPU, TWO):
        net = DenseNet()
        net.initialize(ctx=list(ctx))
        fill_parameters(net)
        trainer = make_trainer(net, ctx, strategy=None)
        for _ in range(3):
            trainer.step(images, labels, 0, 0)
        results.append(values(net))
    for name in results[0]:
        assert np.allclose(results[0][name], results[1][name], rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("execution", ["slice", *WAYS])
def test_resumed_training_is_bit_identical(tmp_path, execution, monkeypatch):
    if execution == "graphs":
        monkeypatch.setenv(SWITCH, "0")
    whole = make_executed(execution)
    whole.train(ListLoader(), Run(tmp_path / "whole"))

    class Killed(Exception):
        pass

    def kill_after_second(row):
        if row["epoch"] == 2:  # the checkpoint of epoch 2 is not written yet
            raise Killed

    with pytest.raises(Killed):
        make_executed(execution).train(ListLoader(), Run(tmp_path / "stopped", log=kill_after_second))
    again = make_executed(execution)
    first = again.resume(newest_checkpoint(tmp_path / "stopped"))
    assert (first.epoch, first.step) == (2, 0)
    again.train(ListLoader(), Run(tmp_path / "stopped"), first)
    ended = values(again.net)
    for name, value in values(whole.net).items():
        assert np.array_equal(ended[name], value), name
    states = {n: a.asnumpy() for n, a in again.optimizer.states().items()}
    for name, array in whole.optimizer.states().items():
        assert np.array_equal(states[name], array.asnumpy()), name


def test_same_seed_same_parameters_and_another_seed_others(tmp_path):
    results = []
    for i, seed in enumerate((0, 0, 1)):
        trainer = make_trainer(num_epochs=2, seed=seed)
        trainer.train(ListLoader(), Run(tmp_path / str(i)))
        results.append(values(trainer.net))
    assert all(np.array_equal(results[0][n], results[1][n]) for n in results[0])
    assert not all(np.array_equal(results[0][n], results[2][n]) for n in results[0])


def test_workers_sample_the_same_paths_and_draw_their_own_dropout(tmp_path, monkeypatch):
    seeds, paths = [], []
    for rank in range(2):
        trainer, drawn = make_trainer(cluster=Cluster(rank, 2)), []
        strategy = trainer.recipe.strategy
        noted = lambda *arguments, s=strategy, d=drawn: d.append(s(*arguments)) or d[-1]  # noqa: E731
        monkeypatch.setattr(mx.random, "seed", seeds.append)
        noting = replace(trainer, recipe=replace(trainer.recipe, strategy=noted))
        noting.epoch(ListLoader(), Run(tmp_path), Progress(2))
        monkeypatch.undo()
        paths.append(drawn)
    assert paths[0] == paths[1] and len(paths[0]) == 2
    assert len(set(seeds)) == 4


def test_training_lowers_the_loss(tmp_path):
    rows = []
    path = Architecture((0, 3, 1, 2), (9, 9, 9, 9))
    on_path(make_trainer(num_epochs=10), path).train(ListLoader(), Run(tmp_path, log=rows.append))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert set(rows[0]) == {"epoch", "loss", "top1", "top5", "lr", "images_per_second"}


def gradients(net):
    return {n: p.grad().asnumpy() for n, p in net._collect_params_with_prefix().items() if p.grad_req != "null"}


@pytest.mark.parametrize("strategy", ["fair", "sandwich"])
def test_passes_of_a_step_add_up_to_one_update(strategy, monkeypatch):
    trainer = several_passes(strategy)
    images, labels = batch()
    seen = {}
    update = trainer.optimizer.step

    def look(batch_size, selected):
        seen.update(gradients(trainer.net))
        update(batch_size, selected)

    monkeypatch.setattr(trainer.optimizer, "step", look)
    trainer.step(images, labels, 0, 3)
    assert not any(g.any() for g in gradients(trainer.net).values()), "gradients are left for the next step"

    alone = make_trainer(make_net())  # the same weights; gradients are written, not added
    alone.net.features[len(alone.net.features) - 1]._rate = 0
    examples = [alone.recipe.objective.example(images, labels)]
    total, first = {}, []
    for one in trainer.recipe.strategy(0, 3, derive_rng(0, "sampling", 0, 3)):
        for parameter in alone.net.collect_params().values():
            parameter.zero_grad()
        logits, _ = alone.run_pass(examples, one, first, "")
        first = first or logits
        for name, grad in gradients(alone.net).items():
            total[name] = total.get(name, 0) + grad
    for name, grad in total.items():
        assert np.abs(seen[name] - grad).max() <= 1e-4 * np.abs(grad).max() + 1e-6, name
    assert sum(g.any() for g in total.values()) > 20


@pytest.mark.parametrize("strategy", ["fair", "sandwich"])
def test_several_passes_leave_alone_what_none_of_them_uses(strategy):
    trainer = several_passes(strategy)
    trainer.step(*batch(), 0, 0)
    before = values(trainer.net)
    passes = trainer.recipe.strategy(0, 1, derive_rng(0, "sampling", 0, 1))
    used = {}
    for one in passes:
        for parameter, shape in trainer.net.selected_parameters(one.architecture):
            used.setdefault(parameter.name, []).append(shape)
    trainer.step(*batch(1), 0, 1)
    after, moved = values(trainer.net), 0
    for name, parameter in trainer.net._collect_params_with_prefix().items():
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
    several_passes(strategy, num_epochs=4).train(ListLoader(), Run(tmp_path, log=rows.append))
    assert all(np.isfinite(row["loss"]) for row in rows) and len(rows) == 4


class StopAfter:
    """A loader that sends a signal to this process while it deals one batch."""

    bad_images = ()

    def __init__(self, epoch, step, signum=signal.SIGTERM):
        self.when, self.signum, self.inner = (epoch, step), signum, ListLoader(num_batches=3)
        self.num_batches = self.inner.num_batches

    def epoch(self, epoch, start=0):
        for step, pair in enumerate(self.inner.epoch(epoch, start), start):
            if (epoch, step) == self.when:
                os.kill(os.getpid(), self.signum)
            yield pair


@pytest.mark.parametrize("ctx, strategy", [(CPU, "fair"), (TWO, "uniform")], ids=["one-device", "two-devices"])
def test_a_run_stopped_inside_an_epoch_ends_with_the_same_bits(tmp_path, ctx, strategy, capsys):
    rows, whole_rows = [], []
    whole = several_passes(strategy, ctx, num_epochs=3)
    whole.train(ListLoader(num_batches=3), Run(tmp_path / "whole", log=whole_rows.append))
    for stop in ((1, 0), (1, 1), (2, 2)):  # three sessions end early, the last inside the last batch of all
        trainer = several_passes(strategy, ctx, num_epochs=3)
        fill_parameters(trainer.net)
        checkpoint = newest_checkpoint(tmp_path / "stopped")
        start = trainer.resume(checkpoint) if checkpoint else None
        with pytest.raises(Stopped):
            trainer.train(StopAfter(*stop), Run(tmp_path / "stopped", log=rows.append), start)
        reached = newest_checkpoint(tmp_path / "stopped")
        assert (reached.epoch, reached.step) == (stop[0], stop[1] + 1)
    assert "stopping after this batch" in capsys.readouterr().err
    trainer = several_passes(strategy, ctx, num_epochs=3)
    start = trainer.resume(newest_checkpoint(tmp_path / "stopped"))
    trainer.train(ListLoader(num_batches=3), Run(tmp_path / "stopped", log=rows.append), start)
    ended = values(trainer.net)
    for name, value in values(whole.net).items():
        assert np.array_equal(ended[name], value), name
    ends = [newest_checkpoint(tmp_path / run) for run in ("whole", "stopped")]
    for file in ("model_file", "states_file"):
        one, other = (load_arrays(getattr(end, file)) for end in ends)
        assert all(np.array_equal(one[name].asnumpy(), other[name].asnumpy()) for name in one), file
        assert list(one) == list(other), file  # in the order in which paths first touched them
    metrics = ("epoch", "loss", "top1", "top5", "lr")
    assert [[row[key] for key in metrics] for row in rows] == [[row[key] for key in metrics] for row in whole_rows]


def test_a_stop_during_validation_loses_no_step(tmp_path):
    def stop(epoch):
        os.kill(os.getpid(), signal.SIGINT)
        return {"val_top1": 0.5}

    with pytest.raises(Stopped):
        make_trainer(num_epochs=2).train(ListLoader(), Run(tmp_path, validate=stop))
    reached = newest_checkpoint(tmp_path)
    assert (reached.epoch, reached.step) == (0, ListLoader().num_batches)
    rows = []
    again = make_trainer(num_epochs=2)
    again.train(ListLoader(), Run(tmp_path, log=rows.append), again.resume(reached))
    assert [row["epoch"] for row in rows] == [0, 1] and rows[0]["loss"] > 0


@pytest.mark.parametrize(
    "error, frequency", ((BrokenPipeError(32, "Broken pipe"), 1), (OSError(28, "No space left on device"), 10))
)
def test_a_log_that_cannot_be_written_costs_no_epoch(tmp_path, error, frequency):
    """Also where no checkpoint was due; and the run goes on to the bits of an undisturbed one."""

    def fail(row):
        raise error

    whole, trainer = make_trainer(num_epochs=3), make_trainer(num_epochs=3)
    whole.train(ListLoader(), Run(tmp_path / "whole"))
    with pytest.raises(type(error)):
        trainer.train(ListLoader(), Run(tmp_path / "run", log=fail, save_frequency=frequency))
    reached = newest_checkpoint(tmp_path / "run")
    assert (reached.epoch, reached.step) == (1, 0)
    again = make_trainer(num_epochs=3)
    again.train(ListLoader(), Run(tmp_path / "run"), again.resume(reached))
    for name, value in values(whole.net).items():
        np.testing.assert_array_equal(values(again.net)[name], value, err_msg=name)


def test_a_reader_that_goes_away_inside_an_epoch_costs_no_step(tmp_path, monkeypatch):
    def fail(*_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(EpochDisplay, "update", fail)
    with pytest.raises(BrokenPipeError):
        make_trainer(num_epochs=2).train(ListLoader(), Run(tmp_path))
    reached = newest_checkpoint(tmp_path)
    assert (reached.epoch, reached.step) == (0, 1)


def test_signals_belong_to_others_again_after_training(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    make_trainer(num_epochs=2).train(ListLoader(), Run(tmp_path))
    assert signal.getsignal(signal.SIGTERM) is before


def test_undecodable_images_are_named_in_the_log(tmp_path):
    rows, loader = [], ListLoader()
    loader.bad_images = ["train.rec: image with key 7"]
    make_trainer(num_epochs=2).train(loader, Run(tmp_path, log=rows.append))
    assert [row["undecodable_images"] for row in rows] == [loader.bad_images] * 2
    assert describe_epoch(rows[0]).endswith("1 undecodable images")


def test_a_loss_that_is_not_finite_names_step_architecture_and_checkpoint(tmp_path):
    path = Architecture((0, 3, 1, 2), (9, 8, 7, 6))
    trainer = on_path(make_trainer(num_epochs=3), path)

    class Poisoned(ListLoader):
        def epoch(self, epoch, start=0):
            for step, pair in enumerate(super().epoch(epoch, start)):
                if (epoch, step) == (1, 1):
                    trainer.net.output[0].bias.set_data(trainer.net.output[0].bias.data() * float("nan"))
                yield pair

    with pytest.raises(InputError) as error:
        trainer.train(Poisoned(), Run(tmp_path))
    for words in ("the loss became nan", "epoch 2, step 2", str(path), "checkpoints/epoch-0001", "--lr"):
        assert words in str(error.value)
    assert newest_checkpoint(tmp_path).epoch == 1
    assert all(np.isfinite(a.asnumpy()).all() for a in load_arrays(newest_checkpoint(tmp_path).model_file).values())


def test_running_statistics_of_every_device_survive_inside_an_epoch(tmp_path):
    """Each device follows its own images until the epoch ends; the parameter file holds their mean."""
    trainer = make_trainer(ctx=TWO, num_epochs=2)
    trainer.step(*batch(), 0, 0)
    trainer.save(Run(tmp_path), Progress(0, 1))
    name = "features.1.running_mean"
    parameter = trainer.net._collect_params_with_prefix()[name]
    each = [data.asnumpy() for data in parameter.list_data()]
    assert not np.array_equal(*each)
    assert np.allclose(load_arrays(newest_checkpoint(tmp_path).model_file)[name].asnumpy(), np.mean(each, axis=0))
    again = make_trainer(ctx=TWO, num_epochs=2)
    again.resume(newest_checkpoint(tmp_path))
    restored = again.net._collect_params_with_prefix()[name].list_data()
    assert all(np.array_equal(one.asnumpy(), other) for one, other in zip(restored, each))
