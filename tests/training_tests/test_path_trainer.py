"""Updates of a path: on several devices as on one, only of the path, in half precision too; states and decay."""

from dataclasses import replace

import numpy as np
import pytest
from cluster_worker import PATHS, make_trainer, run_steps, snapshot, train_path

from spos.core.errors import InputError
from spos.engine.batch_norm import BatchNorm
from spos.engine.compat import mx
from spos.native.build import SWITCH, are_ready
from spos.training.optimizers import make_adamw, make_nag
from spos.training.path_trainer import PathTrainer

NUM_IMAGES = 10  # 4, 3 and 3 on three devices; 2, 2, 3 and 3 on four


def devices(number):
    return tuple(mx.cpu(i) for i in range(number))


def images_and_labels(step, num_images=NUM_IMAGES):
    rng = np.random.default_rng(step)
    return mx.nd.array(rng.normal(0, 1, (num_images, 3, 16, 16))), mx.nd.array(rng.integers(0, 5, num_images))


def use_running_statistics(block):
    """BatchNorm that does not depend on the batch, so that a batch may be cut anywhere."""
    if isinstance(block, BatchNorm):
        block._kwargs["use_global_stats"] = True


def weights_of(trainer, device):
    """Everything trained and its momentum, by name."""
    arrays = {n: v for n, v in snapshot(trainer).items() if n.startswith((f"{device}/", "momentum/"))}
    return {n.rpartition(f"{device}/")[2]: v for n, v in arrays.items() if "running" not in n}


def assert_close(got, expected, tolerance):
    assert set(got) == set(expected)
    for name, value in expected.items():
        scale = np.abs(value).max() + 1e-6
        assert np.abs(got[name] - value).max() <= tolerance * scale, name


@pytest.mark.skipif(not are_ready(), reason="the native library is not built")
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("rule", [lambda: make_nag(0.1, 0.9, 1e-2, "float32"), lambda: make_adamw(0.1, 1e-2)])
def test_native_steps_have_the_bits_of_mxnets_optimizer(rule, number, monkeypatch):
    """Of corners too, whose gradients are given: they are random, at every step and on every device."""
    results, was_fused = [], []
    for switch in ("1", "0"):
        monkeypatch.setenv(SWITCH, switch)
        trainer, rng = make_trainer(devices(number), seed=1, filled=True), np.random.default_rng(3)
        trainer = replace(trainer, optimizer=PathTrainer(trainer.net, rule(), no_wd=True))
        was_fused.append(trainer.optimizer._is_fused)
        for step, path in enumerate(PATHS):
            for parameter in trainer.net.collect_params().values():
                for gradient in parameter.list_grad() if parameter.grad_req != "null" else ():
                    gradient[:] = rng.normal(0, 1, gradient.shape)
            trainer.optimizer.set_learning_rate(0.1 / (step + 1))
            trainer.optimizer.step(NUM_IMAGES, trainer.net.selected_parameters(path))
        states = {name: array.asnumpy() for name, array in trainer.optimizer.states().items()}
        results.append({**snapshot(trainer), **states})
    assert was_fused == [True, False]
    assert set(results[0]) == set(results[1])
    for name, value in results[1].items():
        np.testing.assert_array_equal(results[0][name], value, err_msg=name)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_devices_together_give_the_update_of_one_with_the_whole_batch(number):
    results = []
    for ctx in (devices(1), devices(number)):
        trainer = make_trainer(ctx, seed=1, filled=True)
        trainer.net.apply(use_running_statistics)
        for step, path in enumerate(PATHS):
            train_path(trainer, *images_and_labels(step), path)
        results.append([weights_of(trainer, device) for device in ctx])
    (whole,), shared = results
    for of_device in shared:
        assert_close(of_device, whole, 1e-4)
    for name, value in shared[0].items():
        assert all(np.array_equal(of_device[name], value) for of_device in shared), f"devices differ in {name}"


@pytest.mark.parametrize("number", [2, 3, 4])
def test_gradient_is_the_sum_over_devices_with_their_own_batch_norm(number):
    """In training mode each device normalises by its own images: the sum is done by hand, on one device."""
    ctx, path = devices(number), PATHS[0]
    images, labels = images_and_labels(0)
    trainer = make_trainer(ctx, seed=1, filled=True)
    train_path(trainer, images, labels, path)

    alone = make_trainer(devices(1), seed=1, filled=True)
    selected = alone.net.selected_parameters(path)
    totals = [0.0] * len(selected)
    for x, y in zip(*(mx.gluon.utils.split_data(part, number, even_split=False) for part in (images, labels))):
        with mx.autograd.record():
            loss = alone.recipe.objective(alone.net(x, path), alone.recipe.objective.example(x, y))
        loss.backward()
        totals = [total + parameter.grad().asnumpy() for total, (parameter, _) in zip(totals, selected)]
    for total, (parameter, _) in zip(totals, selected):
        parameter.grad()[:] = mx.nd.array(total)
    alone.optimizer.step(NUM_IMAGES, selected)
    assert_close(weights_of(trainer, ctx[0]), weights_of(alone, mx.cpu(0)), 1e-5)


@pytest.mark.parametrize("number", [2, 3])
def test_what_was_not_sampled_does_not_move_on_any_device(number):
    """Stale gradients and momentum of earlier paths are there; a trainer that updates on the KVStore applies them."""
    trainer = make_trainer(devices(number), seed=1, filled=True)
    before, after = run_steps(trainer)
    assert_only_path_moved(trainer.net, PATHS[-1], before, after)


def assert_only_path_moved(net, path, before, after):
    """Compare two snapshots of one step of `path`."""
    names = {id(p): n for n, p in net._collect_params_with_prefix().items()}
    selected = {names[id(p)]: tuple(slice(0, n) for n in shape) for p, shape in net.selected_parameters(path)}
    moved = set()
    for key, old in before.items():
        place, _, name = key.partition("/")
        name = name.rpartition(":")[0] or name  # momentum is `momentum/name:part`
        if "running" in name:
            continue
        new, corner = after[key].copy(), selected.get(name, (slice(0, 0),))
        if place != "momentum" and not np.array_equal(new[corner], old[corner]):
            moved.add(name)
        new[corner] = old[corner]
        assert np.array_equal(new, old), f"{key} moved outside the path"
    assert len(moved) > 0.9 * len(selected)


def test_settling_averages_running_statistics_over_devices():
    trainer = make_trainer(devices(2), seed=1, filled=True)
    run_steps(trainer)
    before = snapshot(trainer)
    name = "features.1.running_mean"
    first, second = before[f"cpu(0)/{name}"], before[f"cpu(1)/{name}"]
    assert not np.array_equal(first, second)
    trainer.settle()
    after = snapshot(trainer)
    for device in ("cpu(0)", "cpu(1)"):
        assert np.allclose(after[f"{device}/{name}"], (first + second) / 2, rtol=1e-6)
    assert all(np.array_equal(after[n], before[n]) for n in before if "running" not in n)


def test_states_of_another_network_are_refused():
    trainer = make_trainer(devices(1), seed=1, filled=False)
    with pytest.raises(InputError, match="unknown parameter"):
        trainer.optimizer.set_states({"features.99.weight:0": mx.nd.zeros(3)})
    name = trainer.optimizer.names[0]
    with pytest.raises(InputError, match="another form"):
        trainer.optimizer.set_states({f"{name}:0": mx.nd.zeros((1, 1))})


def test_no_weight_decay_on_biases_and_batch_norm():
    trainer = make_trainer(devices(1), seed=1, filled=False)
    for name, parameter in zip(trainer.optimizer.names, trainer.optimizer._params):
        assert parameter.wd_mult == (1.0 if name.endswith("weight") else 0.0), name


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
    trainer = PathTrainer(net, make_nag(1e-4, momentum, 0.0, "float16"))
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
    again = PathTrainer(net, make_nag(1e-4, momentum, 0.0, "float16"))
    again.set_states(saved)
    assert {n: a.asnumpy().tolist() for n, a in again.states().items()} == {
        n: a.asnumpy().tolist() for n, a in saved.items()
    }
