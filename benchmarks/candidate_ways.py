"""Ways to score one candidate: update the BatchNorm statistics of its path, then count hits.

Each begins with the supernet's weights. `decoded` gives the images of a list as the way gets them for every candidate;
`prepare` updates the statistics on some batches and returns the function from images to logits.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Iterator, List, Tuple

import numpy as np

from benchmarks.measure import check_close
from benchmarks.plain import clip_and_divide, update_by_backward
from oneshot_nas_network import Supernet
from spos.data.dataset import LISTS_SEED, DataSet
from spos.data.flags import DataOptions
from spos.data.loader import make_loader
from spos.data.order import Order
from spos.engine.batch_norm import MOMENTUM, Moments, batch_moments, collect_moments, recalibrate_batch_norm
from spos.engine.compat import mx
from spos.scoring.accuracy import Accuracy, HitCount
from spos.scoring.candidate import CandidateEvaluator
from spos.space.architecture import Architecture
from spos.space.space import SearchSpace

CTX = (mx.cpu(),)
TOLERANCE = 1e-2  # of the logits: random weights multiply rounding, layer after layer
Batches = Iterable[Tuple[Any, Any]]  # (images, labels)
Forward = Callable[[Any], Any]


@dataclass(frozen=True)
class Setup:
    """What every way is given.

    Args:
        make_net: a supernet with the weights, by its execution.
        ours: what a search calls; it holds the images, decoded once.
        score_on: name of the list that scores.
    """

    make_net: Callable[[str], Supernet]
    data: DataSet
    options: DataOptions
    ours: CandidateEvaluator
    score_on: str

    @property
    def num_updates(self) -> int:
        """Batches of an update."""
        return -(-self.ours.bn_images.num_images // self.options.batch_size)


class CandidateWay:
    """A way to score a candidate."""

    pools_exactly = True  # the moments of all batches, so that hits can be compared whatever their number

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def prepare(self, architecture: Architecture, batches: Batches) -> Forward:
        raise NotImplementedError

    def prepare_on_one(self, architecture: Architecture, batch: Tuple[Any, Any]) -> Forward:
        return self.prepare(architecture, [batch])

    def decoded(self, split: str) -> Batches:
        pixels = self.setup.ours.bn_images if split == "bn" else self.setup.ours.images
        return (batch[0] for batch in pixels.batches(self.setup.options.batch_size, CTX))

    @contextmanager
    def execution(self) -> Iterator[None]:
        """What the way runs in."""
        yield

    def score(self, architecture: Architecture) -> Accuracy:
        with self.execution():
            forward = self.prepare(architecture, self.decoded("bn"))
            count = HitCount()
            for images, labels in self.decoded(self.setup.score_on):
                count.add(forward(images), labels)
            return count.accuracy()

    def logits(self, architecture: Architecture) -> np.ndarray:
        """Of the first batch that scores, after an update on one batch: there all definitions agree."""
        first = lambda split: next(iter(self.decoded(split)))  # noqa: E731
        with self.execution():
            forward = self.prepare_on_one(architecture, first("bn"))
            images, _ = first(self.setup.score_on)
            return forward(images).asnumpy().reshape((len(images), -1))


class PlainCandidate(CandidateWay):
    """Channel masks at full width, imperative, hard-swish by clip and divide, images decoded again, moving averages,
    which MXNet updates on a CPU in backward. With one batch they are its statistics."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.net = setup.make_net("mask")
        self.pools_exactly = setup.num_updates == 1

    execution = staticmethod(clip_and_divide)

    def decoded(self, split: str) -> Batches:
        data = self.setup.data
        loader = make_loader(data, split, self.setup.options, data.preparation(), Order(LISTS_SEED))
        return ((batch.images, batch.labels) for batch in loader.epoch(0))

    def prepare(self, architecture: Architecture, batches: Batches) -> Forward:
        return self._prepare(architecture, batches, 0.0 if self.pools_exactly else MOMENTUM)

    def prepare_on_one(self, architecture: Architecture, batch: Tuple[Any, Any]) -> Forward:
        return self._prepare(architecture, [batch], 0.0)

    def _prepare(self, architecture: Architecture, batches: Batches, momentum: float) -> Forward:
        update_by_backward(self.net, architecture, (images for images, _ in batches), momentum)
        return lambda images: self.net(images, architecture)


class ForwardCandidate(PlainCandidate):
    """The same, but moments are collected by forward alone and pooled."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.pools_exactly = True

    prepare_on_one = CandidateWay.prepare_on_one

    def prepare(self, architecture: Architecture, batches: Batches) -> Forward:
        pooled: List[Moments] = []
        for images, _ in batches:
            with collect_moments() as rows, mx.autograd.train_mode():
                self.net(images, architecture)
            found = [batch_moments(len(images), mean.asnumpy(), inv.asnumpy()) for _, mean, inv in rows]
            pooled = [a.merge(b) for a, b in zip(pooled, found)] if pooled else found
        for (layer, _, _), moments in zip(rows, pooled):
            layer.running_mean.set_data(mx.nd.array(moments.mean))
            layer.running_var.set_data(mx.nd.array(moments.variance))
        return lambda images: self.net(images, architecture)


class SubnetCandidate(CandidateWay):
    """The extracted subnet, hybridized; images decoded once."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.net = setup.make_net("slice")

    def prepare(self, architecture: Architecture, batches: Batches) -> Forward:
        subnet = self.net.extract(architecture)
        recalibrate_batch_norm(subnet, batches, None)
        subnet.hybridize()
        return subnet


class OurCandidate(CandidateWay):
    """What a search does; images decoded once."""

    def compile(self, space: SearchSpace) -> None:
        """Make what a search keeps: its first candidates meet every kind of choice block, all others find them."""
        for architecture in covering(space):
            self.logits(architecture)

    def prepare(self, architecture: Architecture, batches: Batches) -> Forward:
        path = self.setup.ours.path(architecture)
        path.update_batch_norm([batch] for batch in batches)
        return path.logits

    def score(self, architecture: Architecture) -> Accuracy:
        return self.setup.ours(architecture)


def covering(space: SearchSpace) -> List[Architecture]:
    """Architectures that together use every choice of every choice block, each choice once."""
    widths = range(space.min_channel_choice, space.num_channel_choices)
    n = space.num_choice_blocks
    return [Architecture((b,) * n, (c,) * n) for c in widths for b in range(space.num_block_choices)]


def check_same_logits(ways: Iterable[Tuple[str, CandidateWay]], architecture: Architecture) -> List[str]:
    """Sentences about how far the logits of the ways are from those of the first.    Raises: InputError if far."""
    (base, first), *others = ways
    expected = first.logits(architecture)
    notes = []
    for name, way in others:
        difference = check_close(expected, way.logits(architecture), TOLERANCE, f"logits of {base} and {name}")
        notes.append(f"{name}: logits after an update on one batch within {difference:.0e} of those of {base}.")
    return notes
