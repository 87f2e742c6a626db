"""Inference of a deployed subnet: float32 and INT8, by MXNet and ONNX Runtime, with padded widths or not, in turns.

OMP_NUM_THREADS=1 python -m benchmarks.inference --architecture oneshot-s+ --clock cpu
python -m benchmarks.inference --architecture oneshot-s+ --json >> inference.jsonl

Everything is relative to the plain network, hybridized, with BatchNorm, in the same run (spos/timing.py). Weights,
images and the images that calibrate INT8 are random numbers: only the times are meant.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from functools import partial
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from oneshot_nas_network import Subnet
from spos.architectures import fit, named_architecture
from spos.assembly import versions
from spos.calibration import NAIVE
from spos.command_line import OneLineParser, flag, not_negative, pick, positive, run_program
from spos.compat import mx, num_threads
from spos.deployment import DeployedSubnet, as_function, merge_batch_norm, pad_widths
from spos.deployment_options import FORMATS
from spos.errors import InputError
from spos.formats import FORMAT_CLASSES
from spos.model_info import ModelInfo, Preprocessing
from spos.onnx_session import import_library
from spos.options import ArchitectureOptions, JsonOptions, SpaceOptions
from spos.parity import Logits, random_images
from spos.tables import Column, Table, as_text
from spos.timing import CLOCKS, Rounds, Run, time_in_turns

RUNTIME = {"onnx": "ONNX Runtime", "mxnet": "MXNet"}
DTYPES = ("float32", "int8")


def positive_list(text: str) -> Tuple[int, ...]:
    """Integers of at least 1."""
    return tuple(positive(part) for part in text.split(","))


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure."""

    batch_sizes: Tuple[int, ...] = flag((1, 32), "images in a call, separated by commas", type=positive_list)
    input_size: Optional[int] = flag(
        None, "height and width of the images (default: the architecture's)", type=positive
    )
    pad_to: int = flag(8, "multiple that widths are padded to", type=positive)
    clock: str = flag("wall", "cpu: processor time, with OMP_NUM_THREADS=1", choices=tuple(CLOCKS))
    max_rounds: int = flag(30, "timings of each at most", type=positive)
    seed: int = flag(0, "seed of weights and images", type=not_negative)


@dataclass(frozen=True)
class Row:
    """One way to run the network, relative to the plain one."""

    batch_size: int
    runtime: str
    dtype: str
    pad_to: int
    milliseconds: float
    speedup: float
    error: float


GROUPS = (BenchmarkOptions, ArchitectureOptions, SpaceOptions, JsonOptions)


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    options, named, space_options, output = (pick(group, args) for group in GROUPS)
    record = named_architecture(named, space_options)
    if record is None:
        raise InputError("name the network by --architecture, or by --block-choices and --channel-choices")
    space = fit(record.space, space_options, options.input_size)
    subnet = random_subnet(DeployedSubnet(space, record.architecture, {}), options.seed)
    networks = make_networks(subnet, options.pad_to)
    rows = [row for batch in options.batch_sizes for row in measure(subnet, networks, batch, options)]
    if output.json:
        installed = {**versions(), "onnxruntime": import_library("onnxruntime").__version__}
        result = {"rows": [asdict(row) for row in rows], "threads": num_threads(), **installed}
        print(json.dumps({"options": {**asdict(options), **asdict(named)}, **result}))
    else:
        print(as_text(as_table(rows)))
    return 0


def random_subnet(subnet: DeployedSubnet, seed: int) -> DeployedSubnet:
    """With the values that training begins with."""
    net = Subnet(subnet.space, subnet.architecture)
    mx.random.seed(seed)
    net.initialize()
    arrays = {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}
    return DeployedSubnet(subnet.space, subnet.architecture, arrays)


def make_networks(subnet: DeployedSubnet, pad_to: int) -> Dict[Tuple[str, str, int], Logits]:
    """Logits by (format, precision, multiple of widths), as they are exported."""
    size = subnet.space.input_size
    calibration = [random_images(size, 4, seed) for seed in (1, 2)]
    preprocessing = Preprocessing(size, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    networks = {}
    ways = [(form, multiple) for form in FORMATS for multiple in (1, pad_to)]
    for form, multiple in tqdm(ways, "exporting", unit="network", disable=not sys.stderr.isatty()):
        maker = FORMAT_CLASSES[form](
            pad_widths(merge_batch_norm(subnet), multiple), ModelInfo(preprocessing, {}, pad_to=multiple)
        )
        networks[form, "float32", multiple] = maker.float32().logits
        networks[form, "int8", multiple] = maker.int8(calibration, NAIVE, ()).logits
    return networks


def measure(
    subnet: DeployedSubnet, networks: Dict[Tuple[str, str, int], Logits], batch_size: int, options: BenchmarkOptions
) -> List[Row]:
    """The plain network first."""
    plain = subnet.network()
    plain.hybridize(static_alloc=True, static_shape=True)
    images = random_images(subnet.space.input_size, batch_size, options.seed)
    runs: Sequence[Run] = [partial(logits, images) for logits in networks.values()]
    rounds = Rounds(min(Rounds.least, options.max_rounds), options.max_rounds)
    rng = np.random.default_rng(options.seed)
    timings, seconds = time_in_turns(partial(as_function(plain), images), runs, options.clock, rounds, rng)
    rows = [Row(batch_size, "MXNet, plain", "float32", 1, 1e3 * seconds, 1.0, 0.0)]
    for (form, dtype, multiple), timing in zip(networks, timings):
        milliseconds = 1e3 * seconds * timing.ratio
        rows.append(Row(batch_size, RUNTIME[form], dtype, multiple, milliseconds, 1 / timing.ratio, timing.error))
    return rows


def as_table(rows: Sequence[Row]) -> Table:
    columns = (
        Column("batch"),
        Column("runtime"),
        Column("precision"),
        Column("widths"),
        Column("ms"),
        Column("faster"),
    )
    cells = tuple(
        (
            str(row.batch_size),
            row.runtime,
            row.dtype,
            "as trained" if row.pad_to == 1 else f"multiples of {row.pad_to}",
            f"{row.milliseconds:.1f}",
            f"{row.speedup:.2f} x",
        )
        for row in rows
    )
    return Table("", columns, cells)


if __name__ == "__main__":
    sys.exit(run_program(main))
