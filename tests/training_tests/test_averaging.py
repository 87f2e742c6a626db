"""The average of a supernet's weights: as if every parameter moved in every step, at the cost of the sampled path."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from tiny_training import CPU, TWO, ListLoader, batch, make_trainer, several_passes, values

from spos.core.errors import InputError, Stopped
from spos.engine.compat import mx
from spos.engine.parameters import load_arrays
from spos.native.build import are_ready
from spos.training.averaging import WeightAverage
from spos.training.checkpoint import AVERAGE_FILE, newest_checkpoint
from spos.training.progress import Run

DECAY = 0.8


def averaging(trainer, decay=DECAY):
    return replace(trainer, average=WeightAverage(trainer.net, decay))


def trained(net):
    names = [name for name, p in net._collect_params_with_prefix().items() if p.grad_req != "null"]
    return {name: value for name, value in values(net).items() if name in names}


def as_numpy(arrays):
    return {name: array.asnumpy() for name, array in arrays.items()}


@pytest.mark.parametrize("ctx, strategy", [(CPU, "uniform"), (TWO, "uniform"), (CPU, "fair"), (TWO, "sandwich")])
def test_the_average_is_that_of_all_parameters_in_all_steps(strategy, ctx):
    trainer = averaging(several_passes(strategy, ctx))
    weights, total = [], 12
    for step in range(total):
        trainer.step(*batch(step), 0, step)
        weights.append(trained(trainer.net))
    shares = np.array([(1 - DECAY) * DECAY ** (total - 1 - step) for step in range(total)])
    shares /= shares.sum()
    moved, found = 0, as_numpy(trainer.average.values())
    assert set(found) == set(weights[0])
    for name, value in found.items():
        expected = np.tensordot(shares, np.array([own[name] for own in weights], dtype=np.float64), 1)
        scale = np.abs(expected).max()
        assert np.abs(value - expected).max() < 1e-6 * scale, name
        moved += np.abs(value - weights[-1][name]).max() > 1e-3 * scale
    assert moved > 0.3 * len(found), "averages that are nothing but the last values"


def test_what_stood_still_for_a_thousand_steps_takes_one_move():
    """A step of another path costs the average of a parameter nothing, and the power is exact."""
    net = several_passes("uniform").net
    average = WeightAverage(net, 0.999)
    name = "features.3.block_sn_3x3.main_branch.0.weight"
    parameter = net._collect_params_with_prefix()[name]
    before = parameter.data().asnumpy()
    selected = [(parameter, parameter.shape)]
    average.before_update(selected)
    sums = average.arrays()[name]
    for _ in range(999):
        average.before_update([])
    assert average.arrays()[name] is sums and not sums.asnumpy().any()
    average.before_update(selected)
    parameter.set_data(2 * parameter.data())
    weight = 1 - 0.999**1001
    expected = (0.999 * (1 - 0.999**1000) * before + 0.001 * 2 * before) / weight
    assert np.allclose(average.values()[name].asnumpy(), expected, rtol=1e-6, atol=0)


def test_values_that_never_change_are_their_average_and_reading_changes_nothing():
    net = several_passes("uniform").net
    average, weights = WeightAverage(net, 0.99), trained(net)
    assert all(np.array_equal(value, weights[name]) for name, value in as_numpy(average.values()).items())
    for step in range(50):
        average.before_update(None if step % 3 else [])
        before = {name: array.asnumpy() for name, array in average.arrays().items()}, average.state()
        read = as_numpy(average.values())
        assert all(np.allclose(value, weights[name], rtol=1e-6, atol=0) for name, value in read.items())
        assert average.state() == before[1]
        assert all(np.array_equal(array.asnumpy(), before[0][name]) for name, array in average.arrays().items())


def test_a_network_without_paths_is_averaged_whole():
    trainer = averaging(make_trainer(strategy=None))
    for _ in range(2):
        before = trained(trainer.net)
        trainer.average.before_update()
        for parameter in trainer.net.collect_params().values():
            parameter.set_data(parameter.data() + 1)
    found = as_numpy(trainer.average.values())
    expected = {name: (DECAY * before[name] + trained(trainer.net)[name]) / (1 + DECAY) for name in found}
    assert all(np.allclose(found[name], expected[name], rtol=1e-5) for name in found)


class StopAfter(ListLoader):
    """Sends a signal to this process while it deals one batch."""

    def __init__(self, epoch, step):
        super().__init__(num_batches=3)
        self.when = (epoch, step)

    def epoch(self, epoch, start=0):
        for step, pair in enumerate(super().epoch(epoch, start), start):
            if (epoch, step) == self.when:
                os.kill(os.getpid(), signal.SIGTERM)
            yield pair


@pytest.mark.parametrize("ctx, strategy", [(CPU, "uniform"), (CPU, "sandwich"), (TWO, "fair")])
def test_a_stopped_run_ends_with_the_same_bits_of_the_average(tmp_path, ctx, strategy):
    whole = averaging(several_passes(strategy, ctx, num_epochs=3))
    whole.train(ListLoader(num_batches=3), Run(tmp_path / "whole"))
    for stop in ((0, 1), (1, 2)):  # checkpoints that the undisturbed run does not write
        trainer = averaging(several_passes(strategy, ctx, num_epochs=3))
        checkpoint = newest_checkpoint(tmp_path / "stopped")
        start = trainer.resume(checkpoint) if checkpoint else None
        with pytest.raises(Stopped):
            trainer.train(StopAfter(*stop), Run(tmp_path / "stopped"), start)
    trainer = averaging(several_passes(strategy, ctx, num_epochs=3))
    start = trainer.resume(newest_checkpoint(tmp_path / "stopped"))
    assert trainer.average.num_steps == 6
    trainer.train(ListLoader(num_batches=3), Run(tmp_path / "stopped"), start)
    own, undisturbed = as_numpy(trainer.average.values()), as_numpy(whole.average.values())
    assert all(np.array_equal(own[name], undisturbed[name]) for name in undisturbed)
    ends = [newest_checkpoint(tmp_path / run) for run in ("whole", "stopped")]
    one, other = (as_numpy(load_arrays(end.folder / AVERAGE_FILE)) for end in ends)
    assert list(one) == list(other) and all(np.array_equal(one[name], other[name]) for name in one)
    assert ends[0].state["average"] == ends[1].state["average"] == trainer.average.state()


def test_training_does_not_depend_on_the_average(tmp_path):
    results = []
    for trainer in (several_passes("uniform", num_epochs=2), averaging(several_passes("uniform", num_epochs=2))):
        trainer.train(ListLoader(), Run(tmp_path / str(len(results))))
        results.append(values(trainer.net))
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])


def test_a_checkpoint_without_an_average_is_refused(tmp_path):
    several_passes("uniform", num_epochs=2).train(ListLoader(), Run(tmp_path))
    with pytest.raises(InputError, match="no average of weights.*--ema-decay"):
        averaging(several_passes("uniform", num_epochs=2)).resume(newest_checkpoint(tmp_path))


def test_averages_of_another_network_are_refused():
    net = several_passes("uniform").net
    average, fresh = WeightAverage(net, DECAY), WeightAverage(net, DECAY)
    average.before_update()
    average.before_update()
    arrays, state = dict(average.arrays()), average.state()
    fresh.restore(arrays, state, "a file")
    assert fresh.state() == state
    name = next(iter(arrays))
    for broken, numbers, words in (
        ({**arrays, "other": arrays[name]}, state, "other differs"),
        ({**arrays, name: mx.nd.zeros((1, 2))}, state, f"{name} differs"),
        (arrays, {**state, "num_seen": {}}, "differs"),
        (arrays, {**state, "num_steps": 0}, "more steps than the 0"),
    ):
        with pytest.raises(InputError, match=f"a file.*{words}"):
            fresh.restore(broken, numbers, "a file")


@pytest.mark.parametrize("decay", (0.0, 1.0, -0.1))
def test_a_decay_that_averages_nothing_is_refused(decay):
    with pytest.raises(ValueError, match="0 < decay < 1"):
        WeightAverage(several_passes("uniform").net, decay)


@pytest.mark.skipif(not are_ready(), reason="the native library is not built")
@pytest.mark.parametrize("strategy", ("uniform", "sandwich"))
def test_one_native_call_has_the_bits_of_mxnets_operators(strategy):
    found = []
    for is_fused in (True, False):
        trainer = averaging(several_passes(strategy))
        assert trainer.average._is_fused
        trainer.average._is_fused = is_fused
        for step in range(8):
            trainer.step(*batch(step), 0, step)
        found.append((as_numpy(trainer.average.arrays()), as_numpy(trainer.average.values())))
    for one, other in zip(*found):
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
