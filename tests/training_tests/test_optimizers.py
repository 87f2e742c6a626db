"""AdamW: against its formula, on corners, by each parameter's own number of updates, and in states."""

import numpy as np
import pytest

from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.training.optimizers import BETAS, EPSILON, make_adamw, make_nag
from spos.training.path_trainer import PathTrainer

CPU = (mx.cpu(),)
LR, WD, NUM_IMAGES = 0.01, 0.1, 4


class Weights(mx.gluon.Block):
    """Two weights without a network around them."""

    def __init__(self, ctx=CPU):
        super().__init__()
        for name, shape in (("weight", (4, 6)), ("gamma", (5,))):
            setattr(self, name, self.params.get(name, shape=shape, init=mx.init.Normal(1)))
        mx.random.seed(3)
        self.initialize(ctx=list(ctx))


def gradients(net, rng):
    """New random ones, the same on every device; returns them."""
    values = {name: rng.normal(size=getattr(net, name).shape) for name in ("weight", "gamma")}
    for name, value in values.items():
        for array in getattr(net, name).list_grad():
            array[:] = mx.nd.array(value)
    return values


class Closed:
    """The published formula, in float64."""

    def __init__(self, value):
        self.value, self.mean, self.square = (np.array(v, np.float64) for v in (value, 0 * value, 0 * value))
        self.count = 0

    def step(self, gradient, cut=(), wd=WD):
        self.count += 1
        gradient = gradient[cut] / NUM_IMAGES
        for kept, beta, new in zip((self.mean, self.square), BETAS, (gradient, gradient**2)):
            kept[cut] = beta * kept[cut] + (1 - beta) * new
        mean, square = (kept[cut] / (1 - b**self.count) for kept, b in zip((self.mean, self.square), BETAS))
        self.value[cut] -= LR * (mean / (np.sqrt(square) + EPSILON) + wd * self.value[cut])


@pytest.mark.parametrize("ctx", [CPU, (mx.cpu(0), mx.cpu(1))], ids=["one", "two"])
def test_updates_are_those_of_the_formula(ctx, rng):
    """Of the corner of a step alone, by the number of updates that each parameter had; gamma does not decay."""
    net = Weights(ctx=ctx)
    trainer = PathTrainer(net, make_adamw(LR, WD), no_wd=True)
    closed = {name: Closed(getattr(net, name).list_data()[0].asnumpy()) for name in ("weight", "gamma")}
    for step in range(6):
        values = gradients(net, rng)
        corner = ((4, 6), (2, 6), (3, 4))[step % 3]
        selected = [(net.weight, corner)] + ([(net.gamma, (5,))] if step % 2 else [])
        trainer.step(NUM_IMAGES, selected)
        closed["weight"].step(values["weight"] * len(ctx), tuple(slice(n) for n in corner))
        if step % 2:
            closed["gamma"].step(values["gamma"] * len(ctx), wd=0.0)
    assert (closed["weight"].count, closed["gamma"].count) == (6, 3)
    for name, expected in closed.items():
        for array in getattr(net, name).list_data():
            np.testing.assert_allclose(array.asnumpy(), expected.value, rtol=2e-5, atol=1e-6)


def test_states_hold_the_number_of_updates(rng):
    net = Weights()
    trainer = PathTrainer(net, make_adamw(LR, WD))
    for _ in range(3):
        gradients(net, rng)
        trainer.step(NUM_IMAGES, [(net.weight, (4, 6))])
    saved = {name: array.copy() for name, array in trainer.states().items()}
    assert saved["weight:count"].asscalar() == 3 and set(saved) == {"weight:0", "weight:1", "weight:count"}
    values = {name: getattr(net, name).data().copy() for name in ("weight", "gamma")}
    results = []
    for again in (trainer, PathTrainer(net, make_adamw(LR, WD))):
        for name, value in values.items():
            getattr(net, name).set_data(value)
        if again is not trainer:
            again.set_states(saved)
        gradients(net, np.random.default_rng(5))
        again.step(NUM_IMAGES, [(net.weight, (4, 6)), (net.gamma, (5,))])
        results.append([getattr(net, name).data().asnumpy() for name in values])
    for one, other in zip(*results):
        np.testing.assert_array_equal(one, other)


def test_states_of_another_optimizer_are_refused(rng):
    net = Weights()
    trainers = [PathTrainer(net, make_nag(LR, 0.9, WD, "float32")), PathTrainer(net, make_adamw(LR, WD))]
    for trainer in trainers:
        gradients(net, rng)
        trainer.step(NUM_IMAGES)
    nag, adamw = (trainer.states() for trainer in trainers)
    without = {name: array for name, array in adamw.items() if not name.endswith("count")}
    for trainer, states in zip((trainers[1], trainers[0], trainers[1]), (nag, adamw, without)):
        with pytest.raises(InputError, match="has another form: of another network or optimizer"):
            trainer.set_states(states)
