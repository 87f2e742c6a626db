"""One step of training in several ways: the same weights, images and labels, the same update, in turns."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from benchmarks.measure import OTHER, OURS, PLAIN, PYTORCH, Row, Way, check_close, rows_of, take_turns
from benchmarks.plain import PlainTraining
from benchmarks.torch_process import WITHOUT, TorchOptions, TorchProcess
from oneshot_nas_network import Subnet, Supernet
from spos.core.errors import InputError
from spos.core.flags import flag, not_negative, positive
from spos.deploy.parity import random_images
from spos.engine.batch_norm import BETA_INIT
from spos.engine.compat import mx
from spos.engine.parameters import STATISTICS, set_parameters
from spos.execution.trained import TrainingGraphs
from spos.native.build import SWITCH
from spos.sampling.warm_up import Policy
from spos.space.architecture import Architecture
from spos.space.flags import SpaceOptions
from spos.space.space import SearchSpace
from spos.training.flags import TrainOptions
from spos.training.losses import SMOOTHING, Objective
from spos.training.optimizers import make_nag
from spos.training.path_trainer import PathTrainer
from spos.training.strategies import UniformStrategy
from spos.training.trainer import Recipe, Trainer

MOMENTUM, WD = 0.9, 3e-5
LR, CHECK_LR = 0.01, 1.0  # the larger one, so that the change of a weight is not lost in its rounding
LOSS_TOLERANCE = 1e-4
# A rounding that carries a value over the kink of a ReLU switches its whole gradient. So what a step of mobilenet's
# supernet changes (224 px, batch 16) is 2.4e-2 (plain, ours) and 3.1e-2 (PyTorch) away from the same step in float64;
# of nas-bench-macro's (32 px, batch 64) 3e-4. Such noise has no direction, so along plain's changes they agree better.
CHANGE_TOLERANCE, ALONG_TOLERANCE = 1e-1, 2e-2


@dataclass(frozen=True)
class TrainingOptions:
    """What to measure."""

    input_size: Optional[int] = flag(None, "height and width of the images (default: the space's)", type=positive)
    batch_size: int = flag(16, "images in a step", type=positive)
    classes: Optional[int] = flag(None, "number of classes (default: the space's)", type=positive)
    rounds: int = flag(11, "counted steps of every way", type=positive)
    warm_up: int = flag(2, "steps of every way that are not counted", type=not_negative)
    seed: int = flag(0, "seed of weights, images and architectures", type=not_negative)


@dataclass(frozen=True)
class Problem:
    """What every way is given.

    Args:
        arrays: initial parameters by name.    images: (N, 3, S, S).    labels: (N,).
        architecture: of a subnet; a supernet is given one in every step.
    """

    space: SearchSpace
    arrays: Mapping[str, np.ndarray]
    images: np.ndarray
    labels: np.ndarray
    architecture: Optional[Architecture] = None

    def network(self, execution: str = "slice") -> mx.gluon.Block:
        """Made anew, with the initial parameters."""
        net = make_network(self.space, self.architecture, execution)
        set_parameters(net, {name: mx.nd.array(value) for name, value in self.arrays.items()}, [mx.cpu()])
        return net


def make_network(space: SearchSpace, architecture: Optional[Architecture], execution: str = "slice") -> mx.gluon.Block:
    """A supernet, or the subnet of an architecture, without values."""
    return Supernet(space, execution) if architecture is None else Subnet(space, architecture)


def make_problem(space: SearchSpace, options: TrainingOptions, architecture: Optional[Architecture] = None) -> Problem:
    """Random images, labels and weights."""
    rng = np.random.default_rng(options.seed)
    images = random_images(space.input_size, options.batch_size, options.seed)
    labels = rng.integers(0, space.num_classes, options.batch_size).astype(np.float32)
    shapes = {
        name: parameter.shape
        for name, parameter in make_network(space, architecture)._collect_params_with_prefix().items()
    }
    return Problem(space, random_arrays(shapes, rng), images, labels, architecture)


def random_arrays(shapes: Mapping[str, Tuple[int, ...]], rng: np.random.Generator) -> Dict[str, np.ndarray]:
    """Weights under which signals neither vanish nor explode; everything else as training begins."""
    constants = {"gamma": 1.0, "running_var": 1.0, "beta": BETA_INIT, "bias": 0.0, "running_mean": 0.0}
    arrays = {}
    for name, shape in shapes.items():
        kind = name.rpartition(".")[2]
        if kind == "weight":
            value = rng.standard_normal(shape, dtype=np.float32) * np.float32((2 / np.prod(shape[1:])) ** 0.5)
        else:
            value = np.full(shape, constants[kind], np.float32)
        arrays[name] = value
    return arrays


Step = Callable[[Optional[Architecture]], float]  # trains on the problem's batch; mean loss


def make_trainer(net: mx.gluon.Block, ctx: Sequence[mx.Context], lr: float) -> Trainer:
    """As the program trains. By masks the supernet itself runs, the rest by graphs."""
    by_masks = isinstance(net, Supernet) and net.execution == "mask"
    optimizer = PathTrainer(net, make_nag(lr, MOMENTUM, WD, "float32"), no_wd=True)
    recipe = Recipe(Objective(net.space.num_classes, SMOOTHING), lambda step: lr, num_epochs=1)
    return Trainer(net, optimizer, recipe, tuple(ctx), forward=None if by_masks else TrainingGraphs(net))


def on_paths(trainer: Trainer, policy: Policy) -> Trainer:
    """The same trainer, one path a step, which `policy` draws."""
    return replace(trainer, recipe=replace(trainer.recipe, strategy=UniformStrategy(policy)))


def our_step(net: mx.gluon.Block, problem: Problem, lr: float) -> Step:
    """As the program trains, by `Trainer.step`; nothing of a step is under way when it returns."""
    trainer = make_trainer(net, (mx.cpu(),), lr)
    images, labels = mx.nd.array(problem.images), mx.nd.array(problem.labels)
    numbers = count()

    def step(architecture: Optional[Architecture]) -> float:
        own = trainer if problem.architecture else on_paths(trainer, lambda *_: architecture)
        (part,) = own.step(images, labels, 0, next(numbers))
        mx.nd.waitall()
        return float(part.loss.asscalar()) / part.num_images

    return step


def plain_step(net: mx.gluon.Block, problem: Problem, lr: float) -> Step:
    training = PlainTraining(net, problem.space.num_classes, lr, MOMENTUM, WD)
    images = mx.nd.array(problem.images)

    def step(architecture: Optional[Architecture]) -> float:
        loss = training.step(images, problem.labels, None if problem.architecture else architecture)
        mx.nd.waitall()
        return loss

    return step


@dataclass(frozen=True)
class MXNetWay:
    """A way to train in this process.

    Args:
        execution: of a supernet; as `train_imagenet.py` runs it if nothing is said.
        hybridize: arguments for a subnet, None for imperative execution.
        native: whether the native kernels run it, if they are built; the optimizer's step is theirs in any case.
    """

    name: str
    role: str
    make_step: Callable[[mx.gluon.Block, Problem, float], Step]
    execution: str = TrainOptions().execution
    hybridize: Optional[Mapping[str, bool]] = None
    native: bool = True

    def start(self, problem: Problem, lr: float) -> Tuple[mx.gluon.Block, Step]:
        net = problem.network(self.execution)
        if self.hybridize is not None:
            net.hybridize(**self.hybridize)
        if self.native:
            return net, self.make_step(net, problem, lr)
        before = os.environ.get(SWITCH, "1")
        os.environ[SWITCH] = "0"
        try:
            return net, self.make_step(net, problem, lr)
        finally:
            os.environ[SWITCH] = before


def check_first_steps(
    ways: Sequence[MXNetWay], executions: Sequence[str], problem: Problem, architecture: Architecture, torch: Any
) -> List[str]:
    """Let every way train one step without dropout; loss and change of everything selected must be those of the first.

    Args:
        ways: in this process.    executions: of PyTorch.    torch: a `TorchProcess` or None.
    Returns: sentences that say what was found.    Raises: InputError if a way computes something else.
    """
    notes: List[str] = []
    with without_dropout():
        net, step = ways[0].start(problem, CHECK_LR)
        expected = _first_step(net, step, problem, architecture)
        for way in ways[1:]:
            found = _first_step(*way.start(problem, CHECK_LR), problem, architecture)
            notes.append(_compare(expected, found, expected[1], way.name))
    trained = [name for name in expected[1] if not name.endswith(STATISTICS)]
    for execution in executions if torch else ():
        load_torch(torch, problem, CHECK_LR, dropout=False)
        loss, changes = torch.first_step(architecture, execution)
        corners = {name: changes[name][_corner(expected[1][name].shape)] for name in trained}
        notes.append(_compare(expected, (loss, corners), trained, f"PyTorch, {execution}"))
    return notes


def _first_step(
    net: mx.gluon.Block, step: Step, problem: Problem, architecture: Architecture
) -> Tuple[float, Dict[str, np.ndarray]]:
    """Loss, and by name the change of the part of each parameter and statistic that the architecture selects."""
    parameters = net._collect_params_with_prefix()
    shapes = _selected_shapes(net, architecture)
    before = {name: parameters[name].data().asnumpy() for name in shapes}
    loss = step(architecture)
    changes = {name: parameters[name].data().asnumpy() - value for name, value in before.items()}
    return loss, {name: change[_corner(shapes[name])] for name, change in changes.items()}


def _selected_shapes(net: mx.gluon.Block, architecture: Architecture) -> Dict[str, Tuple[int, ...]]:
    parameters = net._collect_params_with_prefix()
    if isinstance(net, Subnet):
        return {name: parameter.shape for name, parameter in parameters.items()}
    names = {parameter.name: name for name, parameter in parameters.items()}
    shapes = {names[parameter.name]: shape for parameter, shape in net.selected_parameters(architecture)}
    for name in [name for name in shapes if name.endswith("gamma")]:
        shapes.update({name[: -len("gamma")] + statistic: shapes[name] for statistic in STATISTICS})
    return shapes


def _corner(shape: Tuple[int, ...]) -> Tuple[slice, ...]:
    return tuple(slice(0, length) for length in shape)


def _compare(
    expected: Tuple[float, Mapping[str, np.ndarray]],
    found: Tuple[float, Mapping[str, np.ndarray]],
    names: Sequence[str],
    what: str,
) -> str:
    check_close(np.array([expected[0]]), np.array([found[0]]), LOSS_TOLERANCE, f"losses of plain and {what}")
    worst = 0.0
    for kinds in (("weight",), ("gamma", "beta", "bias"), *((one,) for one in STATISTICS)):
        chosen = [name for name in names if name.endswith(kinds)]
        if chosen:
            own, other = (np.concatenate([side[1][name].ravel() for name in chosen]) for side in (expected, found))
            about = f"changes of {', '.join(kinds)} of plain and {what}"
            worst = max(worst, check_close(own, other, CHANGE_TOLERANCE, about))
            along = (np.array([np.dot(own.astype(np.float64), changes)]) for changes in (own, other))
            check_close(*along, ALONG_TOLERANCE, f"sizes of {about}")
    return f"{what}: first loss {found[0]:.5f} (plain {expected[0]:.5f}), changes within {worst:.0e} of plain's."


@contextmanager
def without_dropout() -> Iterator[None]:
    """Dropout layers pass everything, so that ways with different random numbers can be compared."""
    own = mx.gluon.nn.Dropout.hybrid_forward
    mx.gluon.nn.Dropout.hybrid_forward = lambda self, F, x: F.identity(x)
    try:
        yield
    finally:
        mx.gluon.nn.Dropout.hybrid_forward = own


def load_torch(torch: TorchProcess, problem: Problem, lr: float, dropout: bool = True) -> None:
    training = {"lr": lr, "momentum": MOMENTUM, "wd": WD, "smoothing": SMOOTHING}
    torch.load(problem.space, problem.arrays, problem.architecture is None, dropout=dropout, training=training)
    torch.give_data(problem.images[None], problem.labels)


def measure(
    ways: Sequence[MXNetWay],
    executions: Sequence[str],
    problem: Problem,
    architectures: Sequence[Architecture],
    options: TrainingOptions,
    torch_options: TorchOptions,
) -> Tuple[List[Row], List[str], Dict[str, Any]]:
    """Check the ways, then time them: `architectures` are those of the rounds, the ones that warm up first.

    Returns: rows, notes, and versions.
    """
    if not torch_options.torch_python:
        notes = check_first_steps(ways, (), problem, architectures[0], None)
        return _time(ways, (), problem, architectures, options, None), [*notes, WITHOUT], {}
    with TorchProcess(torch_options.torch_python) as torch:
        notes = check_first_steps(ways, executions, problem, architectures[0], torch)
        rows = _time(ways, executions, problem, architectures, options, torch)
        torch.check_idle()
        return rows, notes, {"torch": torch.version, "idle_cpu": torch.idle_shares()}


def _time(
    ways: Sequence[MXNetWay],
    executions: Sequence[str],
    problem: Problem,
    architectures: Sequence[Architecture],
    options: TrainingOptions,
    torch: Optional[TorchProcess],
) -> List[Row]:
    timed: List[Way] = []
    for way in ways:
        _, step = way.start(problem, LR)
        if way.role == OURS:  # its graphs are compiled once in a training of many thousand steps
            for architecture in dict.fromkeys(architectures):
                step(architecture)
        timed.append(Way(way.name, way.role, partial(_run_finite, step, way.name)))
    if torch:
        load_torch(torch, problem, LR)
        for execution in executions:
            name = "PyTorch" + (f", {execution}" if len(executions) > 1 else "")
            timed.append(Way(name, PYTORCH, partial(torch.seconds, "train_step", execution=execution), True))
    rng = np.random.default_rng(options.seed)
    return rows_of(timed, take_turns(timed, architectures, options.warm_up, rng))


def _run_finite(step: Step, name: str, architecture: Architecture) -> None:
    if not np.isfinite(step(architecture)):
        raise InputError(f"the loss of {name} is not finite: its times are of another computation")


def options_json(*groups: Any) -> Dict[str, Any]:
    """Options for the record, without the paths of this machine."""
    return {name: value for group in groups for name, value in asdict(group).items() if name != "torch_python"}


def described(options: Any, flags: SpaceOptions, space: SearchSpace) -> Dict[str, Any]:
    """Options for the record: also the flags of the space that were given, and the sizes that it has decided."""
    given = {name: value for name, value in asdict(flags).items() if value != getattr(SpaceOptions(), name)}
    return {**given, **options_json(options), "input_size": space.input_size, "classes": space.num_classes}


PLAIN_SUPERNET = MXNetWay("plain: masks, imperative, whole parameters", PLAIN, plain_step, execution="mask")
OUR_SUPERNET = MXNetWay("ours", OURS, our_step)
BY_GRAPHS = MXNetWay("ours, by MXNet's graphs", OTHER, our_step, native=False)
