"""A tiny supernet and what trains it, on images that are a function of the epoch."""

from dataclasses import replace

import numpy as np
from conftest import TINY, WAYS, fill_parameters

from oneshot_nas_network import Supernet
from spos.data.loader import Batch
from spos.engine.cluster import LOCAL
from spos.engine.compat import mx
from spos.execution.trained import TrainingGraphs
from spos.sampling.warm_up import SamplingPolicy
from spos.training.losses import Objective
from spos.training.network import add_gradients
from spos.training.optimizers import make_nag
from spos.training.path_trainer import PathTrainer
from spos.training.schedule import make_schedule
from spos.training.strategies import FairStrategy, SandwichStrategy, UniformStrategy
from spos.training.trainer import Recipe, Trainer

CPU = (mx.cpu(),)
TWO = (mx.cpu(0), mx.cpu(1))
POLICY = SamplingPolicy(TINY, epoch_start_cs=0)
STRATEGIES = {
    kind: strategy(POLICY)
    for kind, strategy in (("uniform", UniformStrategy), ("fair", FairStrategy), ("sandwich", SandwichStrategy))
}


class ListLoader:
    """Random images that are a function of the epoch, like a loader with augmentation."""

    def __init__(self, num_batches=2, batch_size=8):
        self.num_batches, self.batch_size = num_batches, batch_size
        self.bad_images = []

    def epoch(self, epoch, start=0):
        for batch in range(start, self.num_batches):
            rng = np.random.default_rng((epoch, batch))
            labels = rng.integers(0, 5, self.batch_size)
            images = rng.normal(0, 1, (self.batch_size, 3, 16, 16)) + labels[:, None, None, None]
            yield Batch(mx.nd.array(images), mx.nd.array(labels), np.arange(self.batch_size))


def make_net(execution="slice", ctx=CPU):
    """`graphs` and `native` are for `make_executed`."""
    net = Supernet(TINY, "mask" if execution == "mask" else "slice")
    fill_parameters(net, ctx=list(ctx))
    return net


def make_trainer(net=None, ctx=CPU, lr=0.05, num_epochs=4, cluster=LOCAL, **recipe):
    """Of a supernet that begins with the same random values every time, unless a network is given."""
    mx.random.seed(1)
    if net is None:
        net = Supernet(TINY)
        net.initialize(ctx=list(ctx))
    schedule = make_schedule("cosine", lr, num_epochs, ListLoader().num_batches, warmup_epochs=1)
    recipe.setdefault("strategy", UniformStrategy(SamplingPolicy(TINY, epoch_start_cs=1, cs_warm_up=True)))
    optimizer = PathTrainer(net, make_nag(lr, 0.9, 1e-2, "float32"), True, cluster)
    return Trainer(net, optimizer, Recipe(Objective(5, 0.1), schedule, num_epochs, **recipe), ctx)


def make_executed(execution, ctx=CPU, net=None, **changes):
    """A trainer that runs its paths in one of four ways; `native` and `graphs` are told apart by the environment."""
    trainer = make_trainer(net or make_net(execution, ctx), ctx, **changes)
    return replace(trainer, forward=TrainingGraphs(trainer.net)) if execution in WAYS else trainer


def several_passes(strategy, ctx=CPU, **changes):
    """A trainer without dropout by a strategy of that name."""
    net = make_net(ctx=ctx)
    net.features[len(net.features) - 1]._rate = 0  # dropout
    if strategy != "uniform":
        add_gradients(net)
    return make_trainer(net, ctx, strategy=STRATEGIES[strategy], **changes)


def batch(seed=0, size=8):
    rng = np.random.default_rng(seed)
    return mx.nd.array(rng.normal(0, 1, (size, 3, 16, 16))), mx.nd.array(rng.integers(0, 5, size))


def on_path(trainer, architecture):
    """The same trainer, always on one path."""
    strategy = UniformStrategy(lambda epoch, step, rng: architecture)
    return replace(trainer, recipe=replace(trainer.recipe, strategy=strategy))


def values(net):
    return {n: p.data(p.list_ctx()[0]).asnumpy() for n, p in net._collect_params_with_prefix().items()}
