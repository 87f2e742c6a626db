"""Time of scoring one candidate on the digits, and what racing saves.

    python -m benchmarks.candidate --supernet-params runs/digits/supernet/model.params
    python -m benchmarks.candidate --part racing --score-on train_full --candidates 150
    python -m benchmarks.candidate --part memory --candidates 1000

scoring  four ways take turns on the same candidates, each from the supernet's weights to a count of hits:
         plain   all channels computed and masked, imperative, hard-swish as clip and divide, images decoded again,
                 statistics updated by forward and backward, as MXNet does on a CPU
         plain, forward   the same, but statistics collected by forward alone (spos/batch_norm.py)
         subnet  the extracted subnet, hybridized, images decoded once
         ours    what a search does (spos/execution.py)
racing   the same candidates scored on all images and raced, in turns of one candidate
memory   of the process while it scores candidates
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import numpy as np

from benchmarks.plain import batch_norms, clip_and_divide
from oneshot_nas_network import Supernet
from spos import assembly
from spos.batch_norm import Moments, batch_moments, collect_moments, recalibrate_batch_norm
from spos.checkpoint import load_parameters
from spos.command_line import OneLineParser, flag, pick, positive, run_program
from spos.compat import mx
from spos.data_set import DataSet
from spos.errors import InputError
from spos.evaluation import Accuracy, CandidateEvaluator, HitCount, evaluate
from spos.execution import PathExecutor
from spos.options import DataOptions
from spos.racing import Racing
from spos.records import find_config
from spos.search_space import Architecture, SearchSpace

CTX = (mx.cpu(),)


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure."""

    part: str = flag("scoring", "what to measure", choices=("scoring", "racing", "memory"))
    supernet_params: str = flag("runs/digits/supernet/model.params", "supernet that was trained on the digits")
    data_dir: str = flag("data", "folder of the digits")
    candidates: int = flag(12, "architectures, drawn at random", type=positive)
    seed: int = flag(0, "seed of the architectures")
    batch_size: int = flag(180, "images in a step", type=positive)
    score_on: str = flag("search_val", "list of images that score: search_val has 180, train_full 1,437")
    top: int = flag(3, "the best that racing keeps", type=positive)


def main(argv: Optional[List[str]] = None) -> int:
    options = pick(BenchmarkOptions, OneLineParser(__doc__, (BenchmarkOptions,)).parse_args(argv))
    config = find_config(options.supernet_params)
    if config is None:
        raise InputError(
            f"{options.supernet_params} does not lie in a run; sh scripts/train_supernet.sh --dataset digits"
        )
    space = SearchSpace.from_json(config["space"])
    net = load_net(space, options.supernet_params)
    data_options = DataOptions(
        dataset="digits", data_dir=options.data_dir, batch_size=options.batch_size, num_workers=1
    )
    data = assembly.open_data(data_options)
    rng = np.random.default_rng(options.seed)
    architectures = [space.sample(rng) for _ in range(options.candidates)]
    with tempfile.TemporaryDirectory() as folder:
        load = lambda split: assembly.load_images(data, split, data_options, Path(folder))  # noqa: E731
        ours = CandidateEvaluator(
            PathExecutor(net, CTX).path, load("bn"), load(options.score_on), options.batch_size, CTX
        )
        if options.part == "scoring":
            masked = load_net(space, options.supernet_params, "mask")
            for layer in batch_norms(masked):
                layer._kwargs["momentum"] = 0.0
            plain = partial(plain_score, masked, data=data, options=data_options, score_on=options.score_on)
            ways = {
                "plain": partial(plain, backward=True),
                "plain, forward": partial(plain, backward=False),
                "subnet": lambda a: subnet_score(net, a, ours),
                "ours": ours,
            }
            compare_scoring(ways, architectures)
        elif options.part == "racing":
            compare_racing(ours, architectures, options.top)
        else:
            follow_memory(ours, architectures)
    return 0


def load_net(space: SearchSpace, params: str, execution: str = "slice") -> Supernet:
    net = Supernet(space, execution)
    net.initialize()
    load_parameters(params, net)
    return net


def plain_score(
    net: Supernet, architecture: Architecture, data: DataSet, options: DataOptions, score_on: str, backward: bool
) -> Accuracy:
    """By channel masks; the statistics of the path are written into the supernet."""

    def decode(split: str) -> Iterator[Any]:
        return assembly.make_loader(data, split, options, order_seed=assembly.LISTS_SEED).epoch(0)

    update = update_by_backward if backward else update_by_forward
    with clip_and_divide():
        update(net, architecture, list(decode("bn")))
        count = HitCount()
        for images, labels in decode(score_on):
            count.add(net(images, architecture), labels)
        return count.accuracy()


def update_by_forward(net: Supernet, architecture: Architecture, batches: Sequence) -> None:
    """Collect the moments of every batch and write what they pool to."""
    pooled: List[Moments] = []
    for images, _ in batches:
        with collect_moments() as rows, mx.autograd.train_mode():
            net(images, architecture)
        found = [batch_moments(len(images), mean.asnumpy(), inv.asnumpy()) for _, mean, inv in rows]
        pooled = [a.merge(b) for a, b in zip(pooled, found)] if pooled else found
    for (layer, _, _), moments in zip(rows, pooled):
        layer.running_mean.set_data(mx.nd.array(moments.mean))
        layer.running_var.set_data(mx.nd.array(moments.variance))


def update_by_backward(net: Supernet, architecture: Architecture, batches: Sequence) -> None:
    """As MXNet updates statistics on a CPU: in backward. Exact for one batch, because the momentum is 0 here."""
    if len(batches) > 1:
        raise InputError("moving averages give other statistics for several batches: raise --batch-size")
    (images, _), *_ = batches
    with mx.autograd.record():
        logits = net(images, architecture)
    logits.backward()
    mx.nd.waitall()


def subnet_score(net: Supernet, architecture: Architecture, ours: CandidateEvaluator) -> Accuracy:
    """By the extracted subnet, hybridized."""
    subnet = net.extract(architecture)
    recalibrate_batch_norm(subnet, (batch[0] for batch in ours.bn_images.batches(ours.batch_size, CTX)), None)
    subnet.hybridize()
    return evaluate(subnet, ours.images.batches(ours.batch_size, CTX))


def compare_scoring(ways: Dict[str, Callable], architectures: Sequence[Architecture]) -> None:
    """The first candidate is not counted: it finds nothing compiled."""
    seconds: Dict[str, List[float]] = {name: [] for name in ways}
    for number, architecture in enumerate(architectures):
        results = {}
        for name, score in ways.items():
            results[name], taken = timed(score, architecture)
            seconds[name] += [taken] if number else []
        if len(set(results.values())) > 1:
            raise InputError(f"the results differ for {architecture}: {results}")
    base = np.median(seconds["ours"])
    for name, each in seconds.items():
        ratios = np.array(each) / np.array(seconds["ours"])
        print(
            f"{name:16s} median {np.median(each):.3f} s  ({min(each):.3f} to {max(each):.3f})  "
            f"{np.median(each) / base:.2f} x ours (of each candidate: {ratios.min():.2f} to {ratios.max():.2f})"
        )
    print(f"the same hits for all {len(architectures)} candidates")


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
