"""Assembly: each flag of the recipe reaches the object that it is about."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import TINY, fill_parameters

from oneshot_nas_network import Subnet, Supernet
from spos.core.flags import OneLineParser
from spos.engine.cluster import LOCAL, Cluster
from spos.engine.compat import mx
from spos.sampling.strips import CheckedPolicy, ConstrainedPolicy
from spos.sampling.warm_up import SamplingPolicy
from spos.scoring.accuracy import Accuracy
from spos.space.architecture import Architecture
from spos.space.cost import cost_table
from spos.training import assembly
from spos.training.flags import TrainingFlags
from spos.training.losses import Objective
from spos.training.optimizers import AdamW
from spos.training.strategies import FairStrategy, SandwichStrategy, UniformStrategy

CPU = (mx.cpu(),)
FOLDER = Path("unused")  # no teacher needs it
DATA = SimpleNamespace(
    num_classes=5, input_size=16, splits={"bn": range(20), "search_val": range(30), "test": range(50)}
)
ARCHITECTURE = Architecture((0, 3, 1, 2), (9, 0, 4, 2))


def test_the_optimizer_is_that_of_the_flags():
    for line, kind in (("", mx.optimizer.NAG), ("--optimizer adamw --lr 0.002 --wd 0.05", AdamW)):
        flags, net = flags_of(line), Supernet(TINY)
        fill_parameters(net)
        recipe = assembly.make_recipe(flags, Objective(5), policy_of(line, net), 10)
        optimizer = assembly.make_trainer(flags, net, recipe, CPU, LOCAL).optimizer._optimizer
        assert type(optimizer) is kind and (optimizer.lr, optimizer.wd) == (flags.train.lr, flags.train.wd)


def flags_of(line):
    return TrainingFlags.of(OneLineParser("", tuple(TrainingFlags.groups().values())).parse_args(line.split()))


def policy_of(line, net=None):
    return assembly.sampling_policy(flags_of(line).train, net or Supernet(TINY), 10)


def test_the_objective_is_that_of_the_flags():
    plain = assembly.make_objective(flags_of(""), DATA, FOLDER, CPU)
    assert (plain.num_classes, plain.smoothing, plain.mixup, plain.teacher) == (5, 0.0, None, None)
    line = "--label-smoothing --mixup --mixup-alpha 0.4 --num-epochs 9 --mixup-off-epoch 2"
    asked = assembly.make_objective(flags_of(line), DATA, FOLDER, CPU)
    assert (asked.smoothing, asked.mixup.alpha, asked.mixup.end_epoch) == (0.1, 0.4, 7)


LIMITED = f"--train-upper-constraints flops-{max(cost_table(TINY).cost(ARCHITECTURE).macs, 1) / 1e6}"


@pytest.mark.parametrize(
    "line, kind",
    [
        ("", SamplingPolicy),
        (LIMITED, ConstrainedPolicy),
        (f"{LIMITED} --flop-param-method symbol", CheckedPolicy),
    ],
    ids=["uniform", "limited", "counted"],
)
def test_the_policy_is_that_of_the_flags(line, kind):
    assert type(policy_of(line)) is kind


def test_a_network_without_paths_samples_nothing():
    assert policy_of("", Subnet(TINY, ARCHITECTURE)) is None


@pytest.mark.parametrize(
    "sampling, kind", [("uniform", UniformStrategy), ("fair", FairStrategy), ("sandwich", SandwichStrategy)]
)
def test_the_recipe_has_the_strategy_of_the_flags(sampling, kind):
    flags = flags_of(f"--sampling {sampling} --seed 7 --num-epochs 3 --lr 0.4 --lr-mode constant --warmup-epochs 1")
    objective = Objective(5)
    recipe = assembly.make_recipe(flags, objective, policy_of(f"--sampling {sampling}"), 10)
    assert type(recipe.strategy) is kind
    assert (recipe.objective, recipe.num_epochs, recipe.seed) == (objective, 3, 7)
    assert [recipe.schedule(step) for step in (0, 9, 10, 29)] == [0, 0.4, 0.4, 0.4]
    assert not recipe.averages_passes


def test_the_chief_alone_averages_weights_if_the_flags_say_so():
    def averages(line, cluster=LOCAL):
        net = Supernet(TINY)
        net.initialize()
        recipe = assembly.make_recipe(flags_of(line), Objective(5), policy_of(line, net), 10)
        return assembly.make_trainer(flags_of(line), net, recipe, CPU, cluster).average

    assert averages("") is None and averages("--ema-decay 0.99", Cluster(1, 2)) is None
    assert averages("--ema-decay 0.99").decay == 0.99


def test_the_recipe_has_the_gradients_of_the_flags():
    line = "--sampling fair --pass-gradients mean"
    assert assembly.make_recipe(flags_of(line), Objective(5), policy_of(line), 10).averages_passes


def test_a_recipe_without_a_policy_trains_the_network_whole():
    assert assembly.make_recipe(flags_of(""), Objective(5), None, 10).strategy is None


def test_the_trainer_updates_by_the_flags():
    net = Supernet(TINY)
    fill_parameters(net)
    flags = flags_of("--lr 0.3 --momentum 0.8 --wd 0.01 --no-wd --execution slice")
    recipe = assembly.make_recipe(flags, Objective(5), policy_of(""), 10)
    trainer = assembly.make_trainer(flags, net, recipe, CPU, LOCAL)
    optimizer = trainer.optimizer._optimizer
    assert (trainer.optimizer.learning_rate, optimizer.momentum, optimizer.wd) == (0.3, 0.8, 0.01)
    assert net.output[0].bias.wd_mult == 0 and net.output[0].weight.wd_mult == 1
    assert trainer.net is net and trainer.forward.net is net and trainer.cluster is LOCAL


def test_validation_of_a_supernet_makes_its_evaluator_once(monkeypatch, tmp_path):
    made, scored = [], []

    def evaluator(*arguments):
        made.append(arguments)
        return lambda architecture: scored.append(architecture) or Accuracy(1, 2, 4)

    monkeypatch.setattr(assembly, "candidate_evaluator", evaluator)
    net = Supernet(TINY)
    fill_parameters(net)
    flags = flags_of("--num-epochs 4 --val-frequency 2 --val-architectures 3")
    policy = policy_of("")
    recipe = assembly.make_recipe(flags, Objective(5), policy, 10)
    trainer = assembly.make_trainer(flags, net, recipe, CPU, LOCAL)
    validate = assembly.make_validation(flags, DATA, trainer, policy, 10, tmp_path, lambda: -1.0)
    assert made == [] and [bool(validate(epoch)) for epoch in range(4)] == [False, True, False, True]
    assert len(made) == 1 and made[0][0] is net and len(scored) == 6
    assert (tmp_path / "best.params").is_file()


@pytest.mark.parametrize(
    "line, steps, validated",
    (
        ("--batch-size 10", 50, 1),  # 5 times 50 images, each a third of the work of training one: 83 of 500
        ("--batch-size 10 --val-architectures 3", 50, 4),  # exactly a tenth
        ("--batch-size 10 --val-architectures 3", 49, 1),
        ("--batch-size 10 --val-architectures 3 --val-frequency 0", 50, 1),
        ("--batch-size 10 --val-frequency 2", 1, 2),
    ),
)
def test_validation_is_as_frequent_as_it_is_cheap(line, steps, validated, monkeypatch, tmp_path):
    monkeypatch.setattr(assembly, "candidate_evaluator", lambda *_: lambda architecture: Accuracy(1, 2, 4))
    net = Supernet(TINY)
    fill_parameters(net)
    flags, policy = flags_of(f"--num-epochs 4 {line}"), policy_of("")
    trainer = assembly.make_trainer(flags, net, assembly.make_recipe(flags, Objective(5), policy, steps), CPU, LOCAL)
    validate = assembly.make_validation(flags, DATA, trainer, policy, steps, tmp_path, lambda: -1.0)
    assert sum(bool(validate(epoch)) for epoch in range(4)) == validated
    assert (tmp_path / "best.params").is_file() == (validated > 1)


def test_the_symbol_graph_counts_what_the_table_counts():
    assert tuple(assembly.count_by_symbol(TINY, ARCHITECTURE)) == tuple(cost_table(TINY).cost(ARCHITECTURE))
