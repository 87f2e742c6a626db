"""Inference of a deployed subnet, in turns: plain, by MXNet and ONNX Runtime as it is exported, and by PyTorch.

OMP_NUM_THREADS=2 python -m benchmarks.inference --architecture oneshot-s+ --torch-python PATH/TO/python
OMP_NUM_THREADS=1 python -m benchmarks.inference --architecture oneshot-s+ --clock cpu

Plain is the network with BatchNorm, hybridized, hard-swish by clip and divide. Exported float32 and INT8 networks have
BatchNorm merged, and widths as trained or padded. Weights and images, also those that calibrate INT8, are random
numbers: only the times are meant. Before, all float32 networks must give the same logits.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from benchmarks.measure import (
    ONNX_RUNTIME,
    OTHER,
    OURS,
    PLAIN,
    PYTORCH,
    OutputOptions,
    Result,
    Way,
    check_close,
    rows_of,
    take_turns,
)
from benchmarks.plain import clip_and_divide
from benchmarks.torch_process import WITHOUT, TorchOptions, TorchProcess
from benchmarks.training import random_arrays
from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, not_negative, pick, positive, run_program
from spos.core.progress import progress_bar
from spos.core.timing import CLOCKS
from spos.data.preprocessing import Preprocessing
from spos.deploy.calibration import NAIVE
from spos.deploy.flags import FORMATS
from spos.deploy.formats import FORMAT_CLASSES
from spos.deploy.model_info import ModelInfo
from spos.deploy.onnx import import_library
from spos.deploy.parity import Logits, random_images
from spos.deploy.subnet import DeployedSubnet, as_function, merge_batch_norm, pad_widths
from spos.execution.inferred import Inference
from spos.space.flags import ArchitectureOptions, SpaceOptions, fit, named_architecture

RUNTIME = {"onnx": "ONNX Runtime", "mxnet": "MXNet"}
ROLE = {("onnx", "float32"): ONNX_RUNTIME, ("mxnet", "float32"): OTHER}  # others stand beside
TOLERANCE = 1e-3  # of the logits
TORCH_NETWORKS = {"PyTorch": True, "PyTorch, BatchNorm merged": False}  # whether they have BatchNorm


def positive_list(text: str) -> Tuple[int, ...]:
    """Integers of at least 1."""
    return tuple(positive(part) for part in text.split(","))


def known_formats(text: str) -> Tuple[str, ...]:
    """Names of FORMATS."""
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise ValueError(f"unknown formats {', '.join(unknown)}; known: {', '.join(FORMATS)}")
    return names


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure."""

    batch_sizes: Tuple[int, ...] = flag((1, 16), "images in a call, separated by commas", type=positive_list)
    input_size: Optional[int] = flag(
        None, "height and width of the images (default: the architecture's)", type=positive
    )
    pad_to: int = flag(8, "multiple that widths are padded to", type=positive)
    formats: Tuple[str, ...] = flag(
        tuple(FORMATS), f"exported forms, separated by commas, of {', '.join(FORMATS)}", type=known_formats
    )
    clock: str = flag("wall", "cpu: processor time, with OMP_NUM_THREADS=1", choices=tuple(CLOCKS))
    rounds: int = flag(15, "counted turns of each", type=positive)
    seed: int = flag(0, "seed of weights and images", type=not_negative)


GROUPS = (BenchmarkOptions, ArchitectureOptions, SpaceOptions, TorchOptions, OutputOptions)


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    options, named, space_options, torch_options, output = (pick(group, args) for group in GROUPS)
    output.check()
    record = named_architecture(named, space_options)
    if record is None:
        raise InputError("name the network by --architecture, or by --block-choices and --channel-choices")
    if torch_options.torch_python and options.clock != "wall":
        raise InputError("--torch-python needs --clock wall: PyTorch computes in another process")
    space = fit(record.space, space_options, options.input_size)
    subnet = DeployedSubnet(space, record.architecture, {})
    subnet = DeployedSubnet(
        space, record.architecture, random_arrays(subnet.shapes(), np.random.default_rng(options.seed))
    )
    notes: List[str] = []
    ways, extra = make_ways(subnet, options, notes)
    with ExitStack() as stack:
        torch = None
        if torch_options.torch_python:
            torch = stack.enter_context(TorchProcess(torch_options.torch_python))
            for name, bn in TORCH_NETWORKS.items():
                torch.load(space, (subnet if bn else merge_batch_norm(subnet)).arrays, False, bn, key=name)
            extra["torch"] = torch.version
        else:
            notes.append(WITHOUT)
        for batch_size in options.batch_sizes:
            own_notes = list(notes)
            rows = measure(subnet, ways, torch, batch_size, options, own_notes)
            described = {**asdict(options), "batch_size": batch_size, "architecture": str(record.architecture)}
            described.update(input_size=space.input_size)
            described.pop("batch_sizes")
            Result("inference", f"a call with a batch of {batch_size}", described, rows, own_notes, extra).report(
                output
            )
    return 0


@dataclass(frozen=True)
class Network:
    """A way to compute logits.    is_exact: in float32, so that its logits can be compared."""

    name: str
    role: str
    logits: Logits
    is_exact: bool = True


def make_ways(
    subnet: DeployedSubnet, options: BenchmarkOptions, notes: List[str]
) -> Tuple[List[Network], Dict[str, Any]]:
    """The networks of this process, plain ones first, and versions. What is left out stands in the notes."""
    networks = [
        Network("plain: hybridized", PLAIN, plain_network(subnet, hybridize=True)),
        Network("plain, imperative", OTHER, plain_network(subnet, hybridize=False)),
    ]
    hybridized = subnet.network()
    hybridized.hybridize(static_alloc=True, static_shape=True)
    networks.append(Network("MXNet, not exported", OTHER, as_function(hybridized)))
    networks.append(Network("native kernels", OURS, as_function(Inference(subnet.network()))))
    forms, extra = list(options.formats), {}
    if "onnx" in forms:
        try:
            import_library("onnx")
            extra["onnxruntime"] = import_library("onnxruntime").__version__
        except InputError as error:
            forms.remove("onnx")
            notes.append(f"ONNX Runtime was left out: {error}.")
    return networks + exported_networks(subnet, forms, options.pad_to), extra


def plain_network(subnet: DeployedSubnet, hybridize: bool) -> Logits:
    net = subnet.network()
    if hybridize:
        net.hybridize()
    function = as_function(net)

    def logits(images: np.ndarray) -> np.ndarray:
        with clip_and_divide():
            return function(images)

    return logits


def exported_networks(subnet: DeployedSubnet, forms: Sequence[str], pad_to: int) -> List[Network]:
    """BatchNorm merged, in float32 and INT8, with widths as trained and padded."""
    size = subnet.space.input_size
    calibration = [random_images(size, 4, seed) for seed in (1, 2)]
    preprocessing = Preprocessing(size, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    networks = []
    kinds = [(form, multiple) for form in forms for multiple in (1, pad_to)]
    for form, multiple in progress_bar(kinds, desc="exporting", unit="network", leave=True):
        maker = FORMAT_CLASSES[form](
            pad_widths(merge_batch_norm(subnet), multiple), ModelInfo(preprocessing, {}, pad_to=multiple)
        )
        widths = "as trained" if multiple == 1 else f"multiples of {multiple}"
        for dtype, model in (("float32", maker.float32()), ("int8", maker.int8(calibration, NAIVE, ()))):
            name = f"{RUNTIME[form]}, {dtype}, widths {widths}"
            role = ROLE.get((form, dtype), OTHER)
            networks.append(Network(name, role, model.logits, is_exact=dtype == "float32"))
    return networks


def measure(
    subnet: DeployedSubnet,
    networks: Sequence[Network],
    torch: Optional[TorchProcess],
    batch_size: int,
    options: BenchmarkOptions,
    notes: List[str],
) -> List[Any]:
    """Rows of all ways with this batch size, after their logits were compared."""
    images = random_images(subnet.space.input_size, batch_size, options.seed)
    ways = [Way(network.name, network.role, partial(_call, network.logits, images)) for network in networks]
    expected = networks[0].logits(images)
    found = {network.name: network.logits(images) for network in networks[1:] if network.is_exact}
    if torch:
        torch.give_data(images[None], np.zeros(batch_size, np.float32))
        for name in TORCH_NETWORKS:
            found[name] = torch.logits(subnet.architecture, key=name)
            ways.append(Way(name, PYTORCH, partial(_ask, torch, name), True))
    differences = [check_close(expected, logits, TOLERANCE, f"logits of {name}") for name, logits in found.items()]
    notes.append(f"Logits in float32 are within {max(differences):.0e} of plain's.")
    rounds = [subnet.architecture] * (options.rounds + 1)
    rng = np.random.default_rng(options.seed)
    seconds = take_turns(ways, rounds, 1, rng, options.clock, twice=True)
    if torch:
        torch.check_idle()
    return rows_of(ways, seconds)


def _call(logits: Callable, images: np.ndarray, architecture: Any) -> None:
    logits(images)


def _ask(torch: TorchProcess, key: str, architecture: Any) -> float:
    return torch.seconds("infer", architecture, key=key)


if __name__ == "__main__":
    sys.exit(run_program(main))
