"""Updates of a path on several devices of one process: the same as on one, and only of the path."""

import numpy as np
import pytest
from cluster_worker import PATHS, make_job, run_steps, snapshot, train_path

from spos.engine.batch_norm import BatchNorm
from spos.engine.compat import mx

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


def weights_of(job, device):
    """Everything trained and its momentum, by name."""
    arrays = {n: v for n, v in snapshot(job).items() if n.startswith((f"{device}/", "momentum/"))}
    return {n.rpartition(f"{device}/")[2]: v for n, v in arrays.items() if "running" not in n}


def assert_close(got, expected, tolerance):
    assert set(got) == set(expected)
    for name, value in expected.items():
        scale = np.abs(value).max() + 1e-6
        assert np.abs(got[name] - value).max() <= tolerance * scale, name


@pytest.mark.parametrize("number", [2, 3, 4])
def test_devices_together_give_the_update_of_one_with_the_whole_batch(number):
    results = []
    for ctx in (devices(1), devices(number)):
        job = make_job(ctx, seed=1, filled=True)
        job.net.apply(use_running_statistics)
        for step, path in enumerate(PATHS):
            train_path(job, *images_and_labels(step), path)
        results.append([weights_of(job, device) for device in ctx])
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
    job = make_job(ctx, seed=1, filled=True)
    train_path(job, images, labels, path)

    alone = make_job(devices(1), seed=1, filled=True)
    selected = alone.net.selected_parameters(path)
    totals = [0.0] * len(selected)
    for x, y in zip(*(mx.gluon.utils.split_data(part, number, even_split=False) for part in (images, labels))):
        with mx.autograd.record():
            loss = alone.objective(alone.net(x, path), alone.objective.example(x, y))
        loss.backward()
        totals = [total + parameter.grad().asnumpy() for total, (parameter, _) in zip(totals, selected)]
    for total, (parameter, _) in zip(totals, selected):
        parameter.grad()[:] = mx.nd.array(total)
    alone.trainer.step(NUM_IMAGES, selected)
    assert_close(weights_of(job, ctx[0]), weights_of(alone, mx.cpu(0)), 1e-5)


@pytest.mark.parametrize("number", [2, 3])
def test_what_was_not_sampled_does_not_move_on_any_device(number):
    """Stale gradients and momentum of earlier paths are there; a trainer that updates on the KVStore applies them."""
    job = make_job(devices(number), seed=1, filled=True)
    before, after = run_steps(job)
    assert_only_path_moved(job.net, PATHS[-1], before, after)


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
    job = make_job(devices(2), seed=1, filled=True)
    run_steps(job)
    before = snapshot(job)
    name = "features.1.running_mean"
    first, second = before[f"cpu(0)/{name}"], before[f"cpu(1)/{name}"]
    assert not np.array_equal(first, second)
    job.settle()
    after = snapshot(job)
    for device in ("cpu(0)", "cpu(1)"):
        assert np.allclose(after[f"{device}/{name}"], (first + second) / 2, rtol=1e-6)
    assert all(np.array_equal(after[n], before[n]) for n in before if "running" not in n)
