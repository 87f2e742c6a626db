"""How speed grows with CPU contexts, input size, batch, population and search processes.

    OMP_NUM_THREADS=1 python -m benchmarks.scaling --part contexts
    OMP_NUM_THREADS=1 python -m benchmarks.scaling --part sizes
    OMP_NUM_THREADS=1 python -m benchmarks.scaling --part population
    OMP_NUM_THREADS=1 python -m benchmarks.scaling --part workers --candidates 24

contexts    a training step of the supernet and a candidate's evaluation (update and scoring) on 1, 2 and 4 CPU contexts
            that share the same batch on the same cores, in turns: what contexts cost, as there is nothing to gain
sizes       images a second of both against input size and batch
population  seconds of the search itself for a generation of the genetic search, when evaluating costs nothing
workers     candidates an hour of a search with 1 and 2 processes, or Dask workers (--dask), of one thread each
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from benchmarks.inference import positive_list
from benchmarks.measure import OTHER, PLAIN, OutputOptions, Way, take_turns, where_and_when, write_line
from benchmarks.supernet_step import make_space
from benchmarks.training import make_trainer, on_paths
from oneshot_nas_network import Supernet
from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, pick, positive, run_program
from spos.core.installation import ROOT
from spos.core.tables import Column, Table, as_text
from spos.data.digits import prepare_digits
from spos.data.pixels import Pixels
from spos.engine.compat import mx
from spos.engine.parameters import save_parameters
from spos.execution.scored import PathExecutor
from spos.runs.run import LOG_FILE
from spos.scoring.candidate import CandidateEvaluator
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings, genetic_search
from spos.space.architecture import Architecture
from spos.space.space import SearchSpace
from spos.space.space_file import search_space
from spos.study.oracles import AdditiveOracle

NUM_CLASSES = 1000
NUM_GENERATIONS = 10
Row = Dict[str, Any]


@dataclass(frozen=True)
class ScalingOptions:
    """What to measure."""

    part: str = flag("contexts", "what to measure", choices=("contexts", "sizes", "population", "workers"))
    contexts: Tuple[int, ...] = flag((1, 2, 4), "numbers of CPU contexts", type=positive_list)
    input_size: int = flag(64, "height and width of the input (contexts)", type=positive)
    batch_size: int = flag(16, "images in a step of all contexts together", type=positive)
    input_sizes: Tuple[int, ...] = flag((64, 96, 128, 160, 224), "at --batch-size (sizes)", type=positive_list)
    batch_sizes: Tuple[int, ...] = flag((4, 16, 64), "at --input-size (sizes)", type=positive_list)
    populations: Tuple[int, ...] = flag((50, 200, 1000), "sizes of a generation (population)", type=positive_list)
    rounds: int = flag(7, "counted steps and candidates", type=positive)
    warm_up: int = flag(2, "steps and candidates that are not counted", type=positive)
    workers: Tuple[int, ...] = flag((1, 2), "numbers of search processes (workers)", type=positive_list)
    candidates: int = flag(24, "candidates of a search (workers)", type=positive)
    dask: bool = flag(False, "Dask workers instead of processes of the program (workers)")
    clock: str = flag("wall", "cpu: processor time, with OMP_NUM_THREADS=1", choices=("wall", "cpu"))


@dataclass(frozen=True)
class Setting:
    """What a step is measured at."""

    input_size: int
    batch_size: int
    contexts: int = 1


def main(argv: Optional[List[str]] = None) -> int:
    options, output = (
        pick(group, OneLineParser(__doc__, (ScalingOptions, OutputOptions)).parse_args(argv))
        for group in (ScalingOptions, OutputOptions)
    )
    output.check()
    rows = PARTS[options.part](options)
    described = {name: value for name, value in vars(options).items()}
    line = json.dumps({"stage": f"scaling_{options.part}", "options": described, "rows": rows, **where_and_when()})
    write_line(line, output)
    print(line if output.json else as_text(table(rows)))
    return 0


def compare_contexts(options: ScalingOptions) -> List[Row]:
    """The first number of contexts is what the others are compared with."""
    settings = [Setting(options.input_size, options.batch_size, n) for n in options.contexts]
    return _in_turns(settings, options)


def compare_sizes(options: ScalingOptions) -> List[Row]:
    """One after the other in every round."""
    sizes = [Setting(size, options.batch_size) for size in options.input_sizes]
    batches = [Setting(options.input_size, batch) for batch in options.batch_sizes]
    return _in_turns(list(dict.fromkeys([*sizes, *batches])), options)


def _in_turns(settings: Sequence[Setting], options: ScalingOptions) -> List[Row]:
    rng = np.random.default_rng(0)
    spaces = {setting: make_space(setting.input_size, NUM_CLASSES) for setting in settings}
    architectures = [spaces[settings[0]].sample(rng) for _ in range(options.warm_up + options.rounds)]
    rows: List[Row] = []
    for work, make in (("training step", make_step), ("candidate", make_candidate)):
        ways = [
            Way(str(setting), OTHER if i else PLAIN, make(spaces[setting], setting))
            for i, setting in enumerate(settings)
        ]
        seconds = take_turns(ways, architectures, options.warm_up, rng, options.clock)
        base = np.array(seconds[ways[0].name]) / settings[0].batch_size
        for setting, way in zip(settings, ways):
            each = np.array(seconds[way.name])
            images = setting.batch_size * (1 if work == "training step" else 2)
            rows.append(
                {
                    "work": work,
                    **vars(setting),
                    "seconds": float(np.median(each)),
                    "images_per_second": float(images / np.median(each)),
                    "time_of_an_image": float(np.median(each / setting.batch_size / base)),
                }
            )
    return rows


def make_step(space: SearchSpace, setting: Setting) -> Callable[[Architecture], None]:
    """A training step of one path."""
    ctx = tuple(mx.cpu(i) for i in range(setting.contexts))
    net = Supernet(space)
    net.initialize(ctx=list(ctx))
    trainer = make_trainer(net, ctx, 1e-3)
    rng = np.random.default_rng(0)
    images = mx.nd.array(rng.normal(size=(setting.batch_size, 3, space.input_size, space.input_size)))
    labels = mx.nd.array(rng.integers(0, space.num_classes, setting.batch_size))

    def run(architecture: Architecture) -> None:
        on_paths(trainer, lambda *_: architecture).step(images, labels, 0, 0)
        mx.nd.waitall()

    return run


def make_candidate(space: SearchSpace, setting: Setting) -> Callable[[Architecture], Any]:
    """An update on one batch, and hits among another."""
    ctx = tuple(mx.cpu(i) for i in range(setting.contexts))
    net = Supernet(space)
    net.collect_params().setattr("grad_req", "null")
    net.initialize(ctx=list(ctx))
    rng = np.random.default_rng(0)
    shape = (setting.batch_size, 3, space.input_size, space.input_size)
    pixels = Pixels(rng.integers(0, 256, shape).astype(np.uint8), np.zeros(shape[0], np.float32), (120,) * 3, (60,) * 3)
    return CandidateEvaluator(PathExecutor(net, ctx).path, pixels, pixels, setting.batch_size, ctx)


def compare_populations(options: ScalingOptions) -> List[Row]:
    """Of a search under limits that half of the space keeps. The fitness is a sum that takes microseconds; its own
    time is not counted."""
    space = search_space(use_se=True, last_conv_after_pooling=True)
    oracle = AdditiveOracle.draw(space, np.random.default_rng(0))
    rows = []
    for population in options.populations:
        settings = replace(GeneticSettings(), population_size=population, num_iterations=NUM_GENERATIONS)
        domain = Domain(space)
        search = genetic_search(domain, settings, np.random.default_rng(1))
        seconds, count, generation = [], 0, None
        fitness: Any = None
        for _ in range(NUM_GENERATIONS):
            start = time.perf_counter()
            try:
                generation = search.send(fitness)
            except StopIteration:
                break
            seconds.append(time.perf_counter() - start)
            count += len(generation)
            fitness = [oracle(architecture) for architecture in generation]
        median = float(np.median(seconds[1:]))
        rows.append(
            {
                "population": population,
                "generations": len(seconds),
                "seconds": median,
                "us_per_candidate": median / (count / len(seconds)) * 1e6,
            }
        )
    return rows


def compare_workers(options: ScalingOptions) -> List[Row]:
    """Whole searches of the digits, with random weights, by the program itself; loading the images is not counted."""
    rows: List[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        prepare_digits(str(Path(folder) / "data" / "digits"))
        params = Path(folder) / "supernet.params"
        net = Supernet(search_space(num_classes=10, input_size=32, strides=(2, 2, 2, 2, 2)))
        net.initialize()
        save_parameters(params, net)
        for number in options.workers:
            seconds = search_seconds(options, number, params, Path(folder))
            rows.append(
                {
                    "workers": number,
                    "kind": "Dask" if options.dask else "processes",
                    "seconds": seconds,
                    "candidates_per_hour": options.candidates / seconds * 3600,
                    "speedup": rows[0]["seconds"] / seconds if rows else 1.0,
                }
            )
    return rows


def search_seconds(options: ScalingOptions, number: int, params: Path, folder: Path) -> float:
    """Seconds of the second iteration of a random search: the first one starts the workers and compiles."""
    save_dir = folder / f"search-{number}"
    flags = {
        "--dataset": "digits",
        "--data-dir": folder / "data",
        "--supernet-params": params,
        "--search-mode": "random",
        "--search-iters": 2,
        "--population-size": options.candidates,
        "--batch-size": 180,
        "--num-gpus": 0,
        "--save-dir": save_dir,
    }
    if not options.dask:
        flags["--num-cpus-ctx"] = number
    arguments = [str(item) for pair in flags.items() for item in pair]
    program = [str(ROOT / "search_supernet.py")]
    if options.dask:
        program = ["-m", "utils.search_cluster", "--workers", str(number), "--"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *program, *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InputError(f"the search with {number} workers failed: {(done.stderr.strip().splitlines() or [''])[-1]}")
    _, second = (json.loads(line) for line in (save_dir / LOG_FILE).read_text().splitlines())
    return float(second["seconds"])


PARTS: Dict[str, Callable[[ScalingOptions], List[Row]]] = {
    "contexts": compare_contexts,
    "sizes": compare_sizes,
    "population": compare_populations,
    "workers": compare_workers,
}


def table(rows: Sequence[Row]) -> Table:
    columns = tuple(
        Column(name, spec="" if isinstance(value, (int, str)) else ".3g") for name, value in rows[0].items()
    )
    return Table("", columns, tuple(tuple(row.values()) for row in rows))


if __name__ == "__main__":
    sys.exit(run_program(main))
