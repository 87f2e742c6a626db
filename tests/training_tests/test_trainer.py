"""The training loop: only the sampled path moves, devices agree, states and resume are exact."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY, fill_parameters

from oneshot_nas_network import Supernet
from spos.core.errors import InputError
from spos.data.loader import Batch
from spos.engine.cluster import Cluster
from spos.engine.compat import mx
from spos.execution.trained import TrainingGraphs
from spos.sampling.warm_up import SamplingPolicy
from spos.space.space import Architecture
from spos.training.checkpoint import newest_checkpoint
from spos.training.losses import Objective
from spos.training.meter import LossNotFinite, Meter, Part
from spos.training.path_trainer import PathTrainer, make_optimizer
from spos.training.schedule import make_schedule
from spos.training.strategies import UniformStrategy
from spos.training.trainer import TrainingJob, resume, train, train_epoch, train_step

CPU = (mx.cpu(),)


class ListLoader:
    """Random images that are a function of the epoch, like a loader with augmentation."""

    bad_images = ()

    def __init__(self, num_batches=2, batch_size=8):
        self.num_batches, self.batch_size = num_batches, batch_size
        self.num_images = num_batches * batch_size

    def epoch(self, epoch, start=0):
        for batch in range(start, self.num_batches):
            rng = np.random.default_rng((epoch, batch))
            labels = rng.integers(0, 5, self.batch_size)
            images = rng.normal(0, 1, (self.batch_size, 3, 16, 16)) + labels[:, None, None, None]
            yield Batch(mx.nd.array(images), mx.nd.array(labels), np.arange(self.batch_size))


def make_net(execution="slice", ctx=CPU):
    """`graphs` is for `make_run`."""
    net = Supernet(TINY, "mask" if execution == "mask" else "slice")
    fill_parameters(net, ctx=list(ctx))
    return net


def make_job(tmp_path, net=None, num_epochs=4, ctx=CPU, lr=0.05, **changes):
    mx.random.seed(1)
    if net is None:
        net = Supernet(TINY)
        net.initialize(ctx=list(ctx))
    loader = ListLoader()
    job = TrainingJob(
        net=net,
        trainer=PathTrainer(net, make_optimizer(lr, 0.9, 1e-2, "float32"), no_wd=True),
        loader=loader,
        objective=Objective(5, 0.1),
        schedule=make_schedule("cosine", lr, num_epochs, loader.num_batches, warmup_epochs=1),
        num_epochs=num_epochs,
        ctx=ctx,
        run=str(tmp_path),
        strategy=UniformStrategy(SamplingPolicy(TINY, epoch_start_cs=1, cs_warm_up=True)),
    )
    return replace(job, **changes)


def make_run(tmp_path, execution, ctx=CPU, net=None, **changes):
    """A job that runs its paths in one of three ways."""
    job = make_job(tmp_path, net or make_net(execution, ctx), ctx=ctx, **changes)
    return replace(job, forward=TrainingGraphs(job.net)) if execution == "graphs" else job


def values(net):
    return {n: p.data(p.list_ctx()[0]).asnumpy() for n, p in net._collect_params_with_prefix().items()}


def weights(net):
    return {n: v for n, v in values(net).items() if "running" not in n}


def step(job, architecture, seed=0):
    rng = np.random.default_rng(seed)
    images = mx.nd.array(rng.normal(0, 1, (8, 3, 16, 16)))
    job.strategy = UniformStrategy(lambda epoch, step, rng: architecture)
    parts = train_step(job, images, mx.nd.array(rng.integers(0, 5, 8)), 0, seed)
    mx.nd.waitall()
    return parts


@pytest.mark.parametrize("execution", ["slice", "mask", "graphs"])
@pytest.mark.parametrize("ctx", [CPU, (mx.cpu(0), mx.cpu(1))], ids=["one-device", "two-devices"])
def test_only_the_sampled_path_moves(tmp_path, execution, ctx, rng):
    """With two devices this fails if the update happens on the KVStore, which re-applies stale gradients."""
    job = make_run(tmp_path, execution, ctx)
    first = Architecture((0, 3, 1, 2), (9, 9, 9, 9))
    step(job, first)  # leaves gradients and momentum in the branches of `first`
    before, momentum = weights(job.net), {n: a.asnumpy() for n, a in job.trainer.states().items()}
    second = Architecture((1, 3, 2, 3), (4, 0, 6, 2))
    selected = {id(p): shape for p, shape in job.net.selected_parameters(second)}
    step(job, second, seed=1)
    moved = 0
    for name, parameter in job.net._collect_params_with_prefix().items():
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
    for key, array in job.trainer.states().items():
        name = key.rpartition(":")[0]
        corner = tuple(slice(0, n) for n in selected.get(id(job.net._collect_params_with_prefix()[name]), (0,)))
        rest = array.asnumpy()
        if key in momentum:
            rest[corner] = momentum[key][corner]
            assert np.array_equal(rest, momentum[key]), f"momentum of {name} moved outside the path"


def test_steps_of_one_path_equal_training_the_subnet(tmp_path, rng):
    """The corner updates are those of a plain Gluon trainer on the extracted subnet, momentum and decay included."""
    architecture = Architecture((0, 3, 1, 3), (3, 0, 6, 2))
    net = make_net()
    subnet = net.extract(architecture, grad_req="write")
    for head in (net.features, subnet.features):
        head[len(head) - 1]._rate = 0  # dropout
    job = make_job(tmp_path, net)
    plain = mx.gluon.Trainer(
        subnet._collect_params_with_prefix(), "nag", {"learning_rate": 0.05, "momentum": 0.9, "wd": 1e-2}
    )
    for name, parameter in subnet._collect_params_with_prefix().items():
        parameter.wd_mult = 0.0 if name.endswith(("gamma", "beta", "bias")) else 1.0
        if name in ("features.1.gamma", "features.1.beta"):
            parameter.lr_mult = parameter.wd_mult = 0.0  # not trained in a supernet
    for seed in range(3):
        step(job, architecture, seed)
        data = np.random.default_rng(seed)
        images = mx.nd.array(data.normal(0, 1, (8, 3, 16, 16)))
        with mx.autograd.record():
            loss = job.objective(subnet(images), job.objective.example(images, mx.nd.array(data.integers(0, 5, 8))))
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


def test_two_devices_give_the_update_of_one(tmp_path, rng):
    images, labels = mx.nd.array(rng.normal(0, 1, (7, 3, 2, 2))), mx.nd.array([0, 1, 2, 3, 4, 0, 1])
    results = []
    for ctx in (CPU, (mx.cpu(0), mx.cpu(1))):
        net = DenseNet()
        net.initialize(ctx=list(ctx))
        fill_parameters(net)
        job = make_job(tmp_path, net, ctx=ctx, strategy=None)
        for _ in range(3):
            train_step(job, images, labels, 0, 0)
        results.append(values(net))
    for name in results[0]:
        assert np.allclose(results[0][name], results[1][name], rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("execution", ["slice", "graphs"])
def test_resumed_training_is_bit_identical(tmp_path, execution):
    whole = make_run(tmp_path / "whole", execution)
    train(whole)
    stopped = make_run(tmp_path / "stopped", execution)

    class Killed(Exception):
        pass

    def kill_after_second(row):
        if row["epoch"] == 2:  # the checkpoint of epoch 2 is not written yet
            raise Killed

    with pytest.raises(Killed):
        train(replace(stopped, log=kill_after_second))
    again = make_run(tmp_path / "stopped", execution)
    first = resume(again, newest_checkpoint(tmp_path / "stopped"))
    assert (first.epoch, first.step) == (2, 0)
    train(again, first)
    ended = values(again.net)
    for name, value in values(whole.net).items():
        assert np.array_equal(ended[name], value), name
    states = {n: a.asnumpy() for n, a in again.trainer.states().items()}
    for name, array in whole.trainer.states().items():
        assert np.array_equal(states[name], array.asnumpy()), name


def test_same_seed_same_parameters_and_another_seed_others(tmp_path):
    results = []
    for i, seed in enumerate((0, 0, 1)):
        job = make_job(tmp_path / str(i), num_epochs=2, seed=seed)
        train(job)
        results.append(values(job.net))
    assert all(np.array_equal(results[0][n], results[1][n]) for n in results[0])
    assert not all(np.array_equal(results[0][n], results[2][n]) for n in results[0])


def test_workers_sample_the_same_paths_and_draw_their_own_dropout(tmp_path, monkeypatch):
    seeds, paths = [], []
    for rank in range(2):
        job = make_job(tmp_path, cluster=Cluster(rank, 2))
        strategy, drawn = job.strategy, []
        job.strategy = lambda *arguments, s=strategy, d=drawn: d.append(s(*arguments)) or d[-1]
        monkeypatch.setattr(mx.random, "seed", seeds.append)
        train_epoch(job, 2, 0, Meter())
        monkeypatch.undo()
        paths.append(drawn)
    assert paths[0] == paths[1] and len(paths[0]) == 2
    assert len(set(seeds)) == 4


def test_training_lowers_the_loss(tmp_path):
    rows = []
    path = Architecture((0, 3, 1, 2), (9, 9, 9, 9))
    always = UniformStrategy(lambda epoch, step, rng: path)
    train(make_job(tmp_path, num_epochs=10, log=rows.append, strategy=always))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert set(rows[0]) == {"epoch", "loss", "top1", "top5", "lr", "images_per_second"}


def test_states_of_another_network_are_refused(tmp_path):
    job = make_job(tmp_path)
    with pytest.raises(InputError, match="unknown parameter"):
        job.trainer.set_states({"features.99.weight:0": mx.nd.zeros(3)})
    name = job.trainer.names[0]
    with pytest.raises(InputError, match="another form"):
        job.trainer.set_states({f"{name}:0": mx.nd.zeros((1, 1))})


def test_loss_that_is_not_a_number_stops_training(tmp_path):
    with pytest.raises(LossNotFinite, match="the loss became nan at epoch 3, step 7"):
        meter = Meter()
        meter.add([Part(mx.nd.array([float("nan")]), mx.nd.zeros(2), 4, "epoch 3, step 7")])
        meter.result()


def test_no_weight_decay_on_biases_and_batch_norm(tmp_path):
    job = make_job(tmp_path)
    for name, parameter in zip(job.trainer.names, job.trainer._params):
        assert parameter.wd_mult == (1.0 if name.endswith("weight") else 0.0), name


def test_schedule_warms_up_then_decays():
    schedule = make_schedule("cosine", 1.0, 10, 5, warmup_epochs=2)
    rates = [schedule(t) for t in range(50)]
    assert rates[0] == 0 and max(rates) == 1.0 and rates[10] == 1.0
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01
    assert rates == [schedule(t) for t in range(50)]  # a function of the step alone


def test_step_schedule_decays_at_its_epochs():
    schedule = make_schedule("step", 1.0, 10, 5, warmup_epochs=2, decay_factor=0.5, decay_epochs=(4, 8))
    assert [round(schedule(5 * epoch + 2), 6) for epoch in range(2, 10)] == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="leaves nothing"):
        make_schedule("cosine", 1.0, 5, 5, warmup_epochs=5)
