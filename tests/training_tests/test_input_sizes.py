"""Training where the input size is a choice: images of a step, resumed runs, and subnets of the size."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY
from sized_spaces import SIZED
from tiny_training import CPU, TWO, ListLoader, batch, make_trainer, on_path, values

from oneshot_nas_network import Supernet
from spos.engine.compat import mx
from spos.engine.resizing import resized
from spos.execution.trained import TrainingGraphs
from spos.sampling.limits import limits_in_millions
from spos.sampling.strips import ConstrainedPolicy
from spos.sampling.warm_up import SamplingPolicy
from spos.space.cost import cost_table
from spos.training.checkpoint import newest_checkpoint
from spos.training.network import add_gradients
from spos.training.progress import Run
from spos.training.strategies import STRATEGIES, UniformStrategy


def sized_trainer(strategy="uniform", ctx=CPU, with_graphs=True, policy=None, space=SIZED):
    mx.random.seed(1)
    net = Supernet(space)
    net.initialize(ctx=list(ctx))
    if strategy != "uniform":
        add_gradients(net)
    drawn = STRATEGIES[strategy](policy or SamplingPolicy(space, epoch_start_cs=1, cs_warm_up=True))
    trainer = make_trainer(net, ctx, strategy=drawn)
    return replace(trainer, forward=TrainingGraphs(net)) if with_graphs else trainer


@pytest.mark.parametrize("ctx", (CPU, TWO), ids=("one device", "two"))
def test_a_step_is_that_of_images_resized_to_its_size(ctx):
    """The same step in a space of that size alone, which is given resized images."""
    path = replace(SIZED.sample(np.random.default_rng(4)), input_size=12)
    own = on_path(sized_trainer(ctx=ctx), path)
    plain = on_path(sized_trainer(ctx=ctx, space=SIZED.at(12)), replace(path, input_size=None))
    images, labels = batch()
    for number in range(2):
        own.step(images, labels, 0, number)
        plain.step(resized(images, 12), labels, 0, number)
    for name, value in values(plain.net).items():
        assert np.array_equal(values(own.net)[name], value), name


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("with_graphs", (True, False), ids=("graphs", "network"))
def test_resumed_training_is_bit_identical(tmp_path, strategy, with_graphs):
    whole = sized_trainer(strategy, with_graphs=with_graphs)
    whole.train(ListLoader(), Run(tmp_path / "whole"))

    class Killed(Exception):
        pass

    def kill_in_the_third(row):
        if row["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        sized_trainer(strategy, with_graphs=with_graphs).train(
            ListLoader(), Run(tmp_path / "stopped", log=kill_in_the_third)
        )
    again = sized_trainer(strategy, with_graphs=with_graphs)
    again.train(ListLoader(), Run(tmp_path / "stopped"), again.resume(newest_checkpoint(tmp_path / "stopped")))
    ended = values(again.net)
    assert all(np.array_equal(ended[name], value) for name, value in values(whole.net).items())
    states = {name: array.asnumpy() for name, array in again.optimizer.states().items()}
    assert all(np.array_equal(states[name], a.asnumpy()) for name, a in whole.optimizer.states().items())


def test_paths_within_limits_are_trained_at_their_size(tmp_path):
    low, high = (cost_table(SIZED.at(size)).range()[0].macs for size in SIZED.input_sizes)
    limits = limits_in_millions((high * 1.2 / 1e6, None), (low / 1e6, None))
    policy = ConstrainedPolicy(SamplingPolicy(SIZED), limits)
    trainer, drawn = sized_trainer(policy=policy), []
    noted = lambda *arguments: drawn.append(policy(*arguments)) or drawn[-1]  # noqa: E731
    trainer = replace(trainer, recipe=replace(trainer.recipe, strategy=UniformStrategy(noted)))
    trainer.train(ListLoader(num_batches=5), Run(tmp_path))
    assert len(drawn) == 20 and all(cost_table(SIZED).cost(one).macs <= high * 1.2 for one in drawn)


def test_spaces_of_one_size_are_given_the_images_as_they_are(monkeypatch):
    monkeypatch.setattr("spos.training.trainer.resized", None)
    trainer = sized_trainer(space=TINY)
    trainer.step(*batch(), 0, 0)
