"""Steps of several passes against an oracle in NumPy: losses, gradients and updates of a linear supernet.

The supernet of the oracle is `logits = bias + sum of W[i][b][:, :c + 1] x[:c + 1]` over choice blocks i with block
choice b and channel choice c, so everything that a step does has a closed form.
"""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY
from tiny_training import CPU, STRATEGIES, TWO, batch, make_executed, make_net, several_passes, values

from spos.core.seeds import derive_rng
from spos.engine.compat import mx
from spos.space.architecture import Architecture
from spos.space.stages import Head
from spos.training.losses import SMOOTHING, Mixup, Objective
from spos.training.network import add_gradients
from spos.training.optimizers import make_nag
from spos.training.path_trainer import PathTrainer
from spos.training.strategies import Pass
from spos.training.trainer import Recipe, Trainer

CLASSES, FEATURES = 5, TINY.num_channel_choices
LR, MOMENTUM, DECAY = 0.1, 0.9, 1e-2
BIAS = "bias"
SEVERAL = ("fair", "sandwich")
NO_DROPOUT = replace(TINY, head=Head(after_pooling=1024, act="hard_swish"))


def name_of(block, choice):
    return f"block{block}_choice{choice}"


class LinearSupernet(mx.gluon.Block):
    """Images are (N, FEATURES, 1, 1)."""

    def __init__(self):
        super().__init__()
        self.bias = self.params.get(BIAS, shape=(CLASSES,))
        for block, choices in enumerate(TINY.choices):
            for choice in range(len(choices.blocks)):
                name = name_of(block, choice)
                setattr(self, name, self.params.get(name, shape=(CLASSES, FEATURES)))

    def path(self, architecture):
        return [
            (name_of(block, choice), width + 1)
            for block, (choice, width) in enumerate(zip(architecture.block_choices, architecture.channel_choices))
        ]

    def selected_parameters(self, architecture):
        own = [(getattr(self, name), (CLASSES, width)) for name, width in self.path(architecture)]
        return [(self.bias, (CLASSES,)), *own]

    def forward(self, x, architecture):
        x = x.flatten()
        logits = self.bias.data(x.context).reshape((1, -1))
        for name, width in self.path(architecture):
            weight = getattr(self, name).data(x.context)[:, :width]
            logits = mx.nd.broadcast_add(logits, mx.nd.dot(x[:, :width], weight, transpose_b=True))
        return logits


def linear_trainer(strategy, ctx=CPU, **recipe):
    net = LinearSupernet()
    rng = np.random.default_rng(3)
    net.initialize(ctx=list(ctx))
    for parameter in net._collect_params_with_prefix().values():
        parameter.set_data(mx.nd.array(rng.normal(0, 0.5, parameter.shape)))
    add_gradients(net)
    mixup = recipe.pop("mixup", None)
    made = Recipe(Objective(CLASSES, SMOOTHING, mixup), lambda step: LR, 4, strategy, **recipe)
    optimizer = PathTrainer(net, make_nag(LR, MOMENTUM, DECAY, "float32"), no_wd=True)
    return Trainer(net, optimizer, made, ctx)


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


class Oracle:
    """The same steps in float64."""

    def __init__(self, trainer, divide_by_passes=False):
        self.net = trainer.net
        self.weights = {name: value.astype(np.float64) for name, value in values(trainer.net).items()}
        self.momenta = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.divide_by_passes = divide_by_passes

    def logits(self, x, architecture):
        path = self.net.path(architecture)
        return self.weights[BIAS] + sum(x[:, :width] @ self.weights[name][:, :width].T for name, width in path)

    def step(self, parts, passes):
        """Args: parts: (images (N, FEATURES), targets (N, CLASSES)) of every device. Returns: losses of all passes."""
        gradients = {name: np.zeros_like(value) for name, value in self.weights.items()}
        widths, losses = {}, []
        taught = [softmax(self.logits(x, passes[0].architecture)) for x, _ in parts]
        for one in passes:
            for (x, labels), teacher in zip(parts, taught):
                targets = teacher if one.imitates else labels
                predicted = softmax(self.logits(x, one.architecture))
                losses.append(-(targets * np.log(predicted)).sum())
                error = predicted - targets
                gradients[BIAS] += error.sum(axis=0)
                for name, width in self.net.path(one.architecture):
                    gradients[name][:, :width] += error.T @ x[:, :width]
                    widths[name] = max(width, widths.get(name, 0))
        divisor = sum(len(x) for x, _ in parts) * (len(passes) if self.divide_by_passes else 1)
        self._update({name: gradient / divisor for name, gradient in gradients.items()}, widths)
        return losses

    def _update(self, gradients, widths):
        """Nesterov's momentum, once, with decay of what was used; none of the bias.

        MXNet decays the momentum by the weights that the update has left, not by those before it (docs/mxnet.md).
        """
        for name, corner in ((BIAS, np.s_[:]), *((name, np.s_[:, :width]) for name, width in widths.items())):
            weight, momentum = self.weights[name][corner], self.momenta[name][corner]
            decay, gradient = 0.0 if name == BIAS else DECAY, gradients[name][corner]
            momentum *= MOMENTUM
            weight += MOMENTUM * momentum - (1 + MOMENTUM) * LR * (gradient + decay * weight)
            momentum -= LR * (gradient + decay * weight)


def targets_of(labels, images, share):
    smooth = np.full((len(labels), CLASSES), SMOOTHING / CLASSES)
    smooth[np.arange(len(labels)), labels] += 1 - SMOOTHING
    return share * images + (1 - share) * images[::-1], share * smooth + (1 - share) * smooth[::-1]


def follow(trainer, oracle, num_steps=3):
    """Steps of both on the same images; raises AssertionError where they differ. Returns the passes of the last one."""
    recipe = trainer.recipe
    for step in range(num_steps):
        rng = np.random.default_rng(step)
        images, labels = rng.normal(0, 1, (8, FEATURES)), rng.integers(0, CLASSES, 8)
        mixup, share = recipe.objective.mixup, 1.0
        if mixup:
            share = mixup.share(0, derive_rng(recipe.seed, "mixup", 0, step))
            assert 0 < share < 1
        own = [slice(0, 8)] if len(trainer.ctx) == 1 else [slice(0, 4), slice(4, 8)]
        parts = [targets_of(labels[rows], images[rows], share) for rows in own]
        passes = recipe.strategy(0, step, derive_rng(recipe.seed, "sampling", 0, step))
        expected = oracle.step(parts, passes)
        measured = trainer.step(mx.nd.array(images.reshape((8, FEATURES, 1, 1))), mx.nd.array(labels), 0, step)
        assert np.allclose([part.loss.asscalar() for part in measured], expected, rtol=1e-5)
        for name, value in values(trainer.net).items():
            assert np.allclose(value, oracle.weights[name], rtol=1e-5, atol=2e-6), name
        for key, array in trainer.optimizer.states().items():
            name = key.rpartition(":")[0]
            assert np.allclose(array.asnumpy(), oracle.momenta[name], rtol=1e-4, atol=2e-6), key
    return passes


@pytest.mark.parametrize("mixup", [None, Mixup(0.4, 2)], ids=["plain", "mixup"])
@pytest.mark.parametrize("ctx", [CPU, TWO], ids=["one-device", "two-devices"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_losses_gradients_and_updates_are_those_of_the_oracle(name, ctx, mixup):
    trainer = linear_trainer(STRATEGIES[name], ctx, mixup=mixup)
    passes = follow(trainer, Oracle(trainer))
    assert len(passes) == (1 if name == "uniform" else 4)
    assert sum(one.imitates for one in passes) == (3 if name == "sandwich" else 0)


@pytest.mark.parametrize("name", SEVERAL)
def test_the_mean_over_passes_scales_gradients_and_not_the_decay(name):
    trainer = linear_trainer(STRATEGIES[name], averages_passes=True)
    follow(trainer, Oracle(trainer, divide_by_passes=True))


def test_passes_of_one_path_are_one_step_with_as_many_times_the_gradient():
    """Gradients are summed over the passes: four of one path are its step at four times the learning rate."""
    path, moved = Architecture((0, 1, 2, 3), (9, 4, 0, 6)), []
    for count, lr in ((4, LR), (1, 4 * LR)):
        trainer = linear_trainer(lambda epoch, step, rng, n=count: (Pass(path),) * n)
        trainer.optimizer._optimizer.wd = 0.0  # of the weight, which the learning rate scales too
        trainer.optimizer.set_learning_rate(lr)
        before = values(trainer.net)
        trainer.step(mx.nd.array(np.random.default_rng(0).normal(0, 1, (8, FEATURES, 1, 1))), mx.nd.arange(8) % 5, 0, 0)
        moved.append({name: value - before[name] for name, value in values(trainer.net).items()})
    four, one = moved
    assert all(np.allclose(four[name], one[name], rtol=1e-4, atol=1e-6) for name in one)
    assert np.abs(one[name_of(0, 0)]).max() > 0.05


def test_what_is_imitated_gets_no_gradient_from_those_that_imitate():
    """The widest path moves as if it were alone, where the others do not reach."""
    widest, narrowest = Architecture((0, 0, 0, 0), (9, 9, 9, 9)), Architecture((0, 0, 0, 0), (0, 0, 0, 0))
    images, labels = mx.nd.array(np.random.default_rng(0).normal(0, 1, (8, FEATURES, 1, 1))), mx.nd.arange(8) % 5
    results = []
    for passes in ((Pass(widest),), (Pass(widest), Pass(narrowest, imitates=True))):
        trainer = linear_trainer(lambda epoch, step, rng, drawn=passes: drawn)
        trainer.step(images, labels, 0, 0)
        results.append(values(trainer.net)[name_of(2, 0)])
    alone, both = results
    assert np.array_equal(alone[:, 1:], both[:, 1:]) and not np.allclose(alone[:, 0], both[:, 0])


@pytest.mark.parametrize("strategy", SEVERAL)
@pytest.mark.parametrize("execution", ["slice", "graphs"])
def test_statistics_move_once_with_every_pass(strategy, execution, monkeypatch):
    """The stem sees the same images in all passes, so its batch moments are the same in each."""
    monkeypatch.setattr("tiny_training.TINY", NO_DROPOUT)
    names = ("features.1.running_mean", "features.1.running_var")
    one = make_executed(execution)
    before = values(one.net)
    one.run_pass([one.recipe.objective.example(*batch())], Pass(Architecture((0, 1, 2, 3), (9, 9, 9, 9))), (), "")
    trainer = several_passes(strategy)
    trainer = make_executed(execution, net=trainer.net, strategy=trainer.recipe.strategy)
    trainer.step(*batch(), 0, 0)
    for name in names:
        moments = (values(one.net)[name] - 0.9 * before[name]) / 0.1
        expected = 0.9**4 * before[name] + (1 - 0.9**4) * moments
        assert np.allclose(values(trainer.net)[name], expected, rtol=1e-4, atol=1e-5), name
        assert np.abs(expected - before[name]).max() > 0.02


@pytest.mark.parametrize("strategy", SEVERAL)
def test_compiled_graphs_add_up_the_gradients_that_the_network_does(strategy, monkeypatch):
    monkeypatch.setattr("tiny_training.TINY", NO_DROPOUT)
    gradients = []
    for execution in ("slice", "graphs"):
        net = make_net()
        add_gradients(net)
        trainer = make_executed(execution, net=net, strategy=STRATEGIES[strategy])
        monkeypatch.setattr(trainer.optimizer, "step", lambda batch_size, selected: None)
        monkeypatch.setattr("spos.training.trainer.zero_gradients", lambda selected: None)
        for step in range(2):  # the second begins with the gradients of the first
            trainer.step(*batch(step), 0, step)
        named = net._collect_params_with_prefix().items()
        gradients.append({name: p.grad().asnumpy() for name, p in named if p.grad_req != "null"})
    own, compiled = gradients
    used = [name for name, gradient in own.items() if np.abs(gradient).max() > 1e-4]
    assert len(used) > 40
    for name in used:
        assert np.abs(own[name] - compiled[name]).max() < 1e-3 * np.abs(own[name]).max(), name
