"""Time of scoring one candidate: plain, the extracted subnet and ours in turns; what racing saves; memory.

    OMP_NUM_THREADS=2 python -m benchmarks.candidate
    OMP_NUM_THREADS=2 python -m benchmarks.candidate --part shares --candidates 4
    python -m benchmarks.candidate --supernet-params runs/digits/supernet/model.params --batch-size 180
    python -m benchmarks.candidate --supernet-params runs/digits/supernet/model.params --part racing \\
        --score-on train_full --candidates 150
    python -m benchmarks.candidate --supernet-params runs/digits/supernet/model.params --part memory --candidates 1000

Without a trained supernet the weights are random, and the pictures are made up: JPEG files of 400 x 300 pixels in a
record file. Their numbers are those of a search on ImageNet, 20,000 for the BatchNorm update and 50,000 that score,
scaled down in proportion. With the supernet of the digits, its held-out images are used.

What a search makes once for each kind of choice block is made before: of a thousand candidates a few dozen pay for it.

scoring  every way begins with the supernet's weights and ends with a count of hits, on the same candidates:
         plain   all channels computed and masked, imperative, hard-swish as clip and divide, images decoded again,
                 statistics as moving averages, which MXNet updates on a CPU in backward
         plain, forward   the same, but statistics collected by forward alone (spos/engine/batch_norm.py)
         subnet  the extracted subnet, hybridized, images decoded once
         ours    what a search does (spos/execution/scored.py)
         Before, an update on one batch must give the same logits; of several batches moving averages are other numbers
         than pooled moments, so there the hits of all ways but the first have to be the same.
shares   of decoding, transfer, weights, BatchNorm update, scoring and Python in the time of plain and of ours
racing   the same candidates scored on all images and raced, in turns of one candidate
memory   of the process while it scores candidates
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import resource
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import numpy as np

from benchmarks import shares
from benchmarks.candidate_ways import (
    CTX,
    CandidateWay,
    ForwardCandidate,
    OurCandidate,
    PlainCandidate,
    Setup,
    SubnetCandidate,
    check_same_logits,
)
from benchmarks.measure import (
    OTHER,
    OURS,
    PLAIN,
    OutputOptions,
    Result,
    Way,
    rows_of,
    take_turns,
    where_and_when,
    write_line,
)
from benchmarks.pictures import make_pictures
from benchmarks.supernet_step import make_space
from benchmarks.training import TrainingOptions, make_problem, options_json
from oneshot_nas_network import Supernet
from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, pick, positive, run_program
from spos.core.tables import as_text
from spos.core.timing import CLOCKS
from spos.data.flags import DataOptions
from spos.data.pixels import load_images
from spos.data.registry import open_data
from spos.engine.parameters import load_parameters
from spos.execution.scored import PathExecutor
from spos.runs.run import find_config
from spos.scoring.candidate import CandidateEvaluator
from spos.scoring.racing import Racing
from spos.space.architecture import Architecture
from spos.space.space import SearchSpace


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure."""

    part: str = flag("scoring", "what to measure", choices=("scoring", "shares", "racing", "memory"))
    supernet_params: str = flag("", "supernet that was trained on the digits (none: random weights, made-up pictures)")
    data_dir: str = flag("data", "folder of the digits")
    input_size: int = flag(224, "height and width of the input, without the digits", type=positive)
    bn_images: int = flag(64, "images of the BatchNorm update, without the digits", type=positive)
    scoring_images: int = flag(160, "images that score, without the digits", type=positive)
    candidates: int = flag(6, "architectures, drawn at random; the first one is not counted", type=positive)
    seed: int = flag(0, "seed of the architectures")
    batch_size: int = flag(16, "images in a step", type=positive)
    workers: int = flag(2, "threads that decode images", type=positive)
    score_on: str = flag("search_val", "list of images that score: of the digits also train_full", type=str)
    clock: str = flag("wall", "cpu: processor time, with OMP_NUM_THREADS=1 (scoring)", choices=tuple(CLOCKS))
    top: int = flag(3, "the best that racing keeps", type=positive)


GROUPS = (BenchmarkOptions, OutputOptions)


def main(argv: Optional[List[str]] = None) -> int:
    options, output = (pick(group, OneLineParser(__doc__, GROUPS).parse_args(argv)) for group in GROUPS)
    output.check()
    if options.part != "memory" and options.candidates < 2:
        raise InputError("--candidates must be at least 2: the first one is not counted")
    with tempfile.TemporaryDirectory() as folder, open_setup(options, Path(folder)) as (setup, space):
        rng = np.random.default_rng(options.seed)
        architectures = [space.sample(rng) for _ in range(options.candidates)]
        if options.part == "scoring":
            compare_scoring(setup, space, architectures, options).report(output)
        elif options.part == "shares":
            report_shares(setup, space, architectures, options, output)
        elif options.part == "racing":
            compare_racing(setup.ours, architectures, options.top)
        else:
            follow_memory(setup.ours, architectures)
    return 0


@contextmanager
def open_setup(options: BenchmarkOptions, folder: Path) -> Iterator[Any]:
    """What the ways are given, and the search space."""
    data_options = DataOptions(data_dir=options.data_dir, batch_size=options.batch_size, num_workers=options.workers)
    if options.supernet_params:
        config = find_config(options.supernet_params)
        if config is None:
            raise InputError(
                f"{options.supernet_params} does not lie in a run; sh scripts/train_supernet.sh --dataset digits"
            )
        space = SearchSpace.from_json(config["space"])
        make_net = partial(load_net, space, options.supernet_params)
        data_options = replace(data_options, dataset="digits")
        data = open_data(data_options)
    else:
        space = make_space(options.input_size, 1000)
        make_net = make_problem(space, TrainingOptions(batch_size=1, seed=options.seed)).network
        data, data_options = make_pictures(
            folder, options.bn_images, options.scoring_images, space.num_classes, space.input_size, data_options
        )
    bn_images, images = (load_images(data, split, data_options, folder) for split in ("bn", options.score_on))
    path = PathExecutor(make_net("slice"), CTX).path
    ours = CandidateEvaluator(path, bn_images, images, options.batch_size, CTX)
    yield Setup(make_net, data, data_options, ours, options.score_on), space


def load_net(space: SearchSpace, params: str, execution: str = "slice") -> Supernet:
    net = Supernet(space, execution)
    net.initialize()
    load_parameters(params, net)
    return net


def compare_scoring(
    setup: Setup, space: SearchSpace, architectures: Sequence[Architecture], options: BenchmarkOptions
) -> Result:
    """Raises: InputError if the ways do not compute the same."""
    ways = {
        ("plain", PLAIN): PlainCandidate(setup),
        ("plain, forward", OTHER): ForwardCandidate(setup),
        ("subnet", OTHER): SubnetCandidate(setup),
        ("ours", OURS): OurCandidate(setup),
    }
    ways[("ours", OURS)].compile(space)
    notes = check_same_logits([(name, way) for (name, _), way in ways.items()], architectures[0])
    hits: Dict[Architecture, Dict[str, Any]] = defaultdict(dict)
    timed = [Way(name, role, partial(score_and_note, name, way, hits)) for (name, role), way in ways.items()]
    seconds = take_turns(timed, architectures, 1, np.random.default_rng(options.seed), options.clock)
    for architecture, found in hits.items():
        if len(set(found.values())) > 1:
            raise InputError(f"the results differ for {architecture}: {found}")
    same = ", ".join(next(iter(hits.values())))
    notes.append(f"{same}: the same hits for all {len(architectures)} candidates.")
    return Result("candidate", "a candidate", options_json(options), rows_of(timed, seconds), notes)


def score_and_note(name: str, way: CandidateWay, hits: Dict[Architecture, Dict[str, Any]], architecture: Architecture):
    result = way.score(architecture)
    if way.pools_exactly:
        hits[architecture][name] = result


def report_shares(
    setup: Setup,
    space: SearchSpace,
    architectures: Sequence[Architecture],
    options: BenchmarkOptions,
    output: OutputOptions,
) -> None:
    ours = OurCandidate(setup)
    ours.compile(space)
    found = {
        "plain": shares.measure_shares(PlainCandidate(setup), shares.DECODE, architectures),
        "ours": shares.measure_shares(ours, shares.TRANSFER, architectures),
    }
    ways = {name: one.to_json() for name, one in found.items()}
    line = json.dumps({"stage": "candidate_shares", "options": options_json(options), "ways": ways, **where_and_when()})
    write_line(line, output)
    print(line if output.json else as_text(shares.table(found)))


def compare_racing(evaluator: CandidateEvaluator, architectures: Sequence[Architecture], top: int) -> None:
    racing = Racing(top)
    num_images = evaluator.images.num_images
    evaluator(architectures[0])
    whole, raced, seconds = [], [], np.zeros(2)
    for architecture in architectures:
        race = racing.race([r.top1 for r in raced if r.num_images == num_images], num_images, lambda top1: top1)
        for i, (results, its_race) in enumerate(((whole, None), (raced, race))):
            result, taken = timed(lambda a: evaluator(a, its_race), architecture)  # noqa: B023
            results.append(result)
            seconds[i] += taken
    best = [
        sorted((i for i, r in enumerate(results) if r.num_images == num_images), key=lambda i: (-results[i].top1, i))[
            :top
        ]
        for results in (whole, raced)
    ]
    seen = sum(result.num_images for result in raced) / len(raced)
    dropped = sum(result.num_images < num_images for result in raced)
    print(f"all images  {seconds[0]:.1f} s for {len(architectures)} candidates, {num_images} images each")
    ratio = seconds[0] / seconds[1]
    print(f"racing      {seconds[1]:.1f} s, {seen:.0f} images each, {dropped} dropped: {ratio:.2f} x less")
    print(f"top {top}: " + ("the same" if best[0] == best[1] else f"differs, {best[0]} and {best[1]}"))


def follow_memory(evaluator: CandidateEvaluator, architectures: Sequence[Architecture]) -> None:
    every = max(1, len(architectures) // 10)
    for number, architecture in enumerate(architectures, 1):
        evaluator(architecture)
        if number % every == 0:
            with open("/proc/self/statm", encoding="ascii") as file:
                now = int(file.read().split()[1]) * resource.getpagesize()
            print(f"{number:5d} candidates  {now / 2**20:.0f} MiB", flush=True)


def timed(function: Callable, *args: Any) -> Any:
    start = time.perf_counter()
    result = function(*args)
    return result, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(run_program(main))
