"""Scores of candidates: independent of each other, and ended early by a lost race."""

import numpy as np
import pytest
from conftest import TINY
from execution_tests.test_scored import some_pixels, supernet

from spos.engine.compat import mx
from spos.execution.scored import PathExecutor
from spos.scoring.accuracy import Accuracy
from spos.scoring.candidate import CandidateEvaluator
from spos.scoring.racing import Race

CPU = [mx.cpu()]


def test_architectures_do_not_influence_each_other(rng):
    net, bn_images, images = supernet(TINY), some_pixels(16, 16, 5), some_pixels(8, 16, 5, 1)
    executor = PathExecutor(net, CPU)
    score = CandidateEvaluator(executor.path, bn_images, images, 8, tuple(CPU))
    architectures = [TINY.sample(rng) for _ in range(6)]
    first = [score(a).to_json() for a in architectures]
    assert first == [score(a).to_json() for a in architectures]
    assert first[::-1] == [score(a).to_json() for a in architectures[::-1]]


def logits_of_labels(labels, wrong):
    """Logits whose best class is the label, except where `wrong`."""
    best = (labels.asnumpy().astype(int) + wrong) % 5
    return mx.nd.one_hot(mx.nd.array(best), 5)


class FakePath:
    """Knows the answer to every image of a list except to every third."""

    def __init__(self, labels):
        self.labels, self.seen, self.updated = labels, 0, False

    def update_batch_norm(self, batches):
        self.updated = sum(len(y) for batch in batches for _, y in batch)

    def logits(self, images):
        part = self.labels[self.seen : self.seen + len(images)]
        wrong = (np.arange(self.seen, self.seen + len(images)) % 3 == 0).astype(int)
        self.seen += len(images)
        return logits_of_labels(mx.nd.array(part), wrong)


@pytest.mark.parametrize("batch_size", (7, 32, 1000))
def test_a_race_ends_at_the_look_that_loses_it(batch_size):
    images = some_pixels(320, 4, 5)
    path = FakePath(images._labels)
    evaluator = CandidateEvaluator(lambda _: path, some_pixels(10, 4, 5), images, batch_size, tuple(CPU))
    whole = evaluator(None)
    assert path.updated == 10
    assert (whole.num_images, whole.top1_hits) == (320, 213)

    def race(needed):
        path.seen = 0
        return evaluator(None, Race(needed, 320, 1e-3))

    assert race(213) == whole  # what is enough is never dropped
    assert race(321).num_images == 32  # certainly lost
    lost = race(300)
    assert lost.num_images in Race(300, 320, 1e-3).looks()[:-1] and lost.num_images < 320


class ConstantPath:
    """Knows every image, or none."""

    def __init__(self, knows):
        self.wrong, self.seen = int(not knows), 0

    def update_batch_norm(self, batches):
        pass

    def logits(self, images):
        labels = self.labels[self.seen : self.seen + len(images)]
        self.seen += len(images)
        return logits_of_labels(mx.nd.array(labels), self.wrong)


@pytest.mark.parametrize("needed, seen", [(320, 320), (400, 32), (641, 32)])
def test_a_race_of_several_supernets_is_about_their_mean(needed, seen):
    """One that knows everything and one that knows nothing have 320 hits of 640; at first they could have 385."""
    images = some_pixels(320, 4, 5)
    ConstantPath.labels = images._labels
    paths = [lambda _: ConstantPath(True), lambda _: ConstantPath(False)]
    score = CandidateEvaluator(paths[0], some_pixels(10, 4, 5), images, 32, tuple(CPU), (paths[1],))
    accuracy = score(None, Race(needed, 320, 1e-3))
    assert (accuracy.num_images, accuracy.top1_hits, accuracy.num_supernets) == (seen, seen, 2)
    assert accuracy.top1 == 0.5 and accuracy.interval() == Accuracy(seen // 2, 0, seen).interval()
    assert accuracy.to_json()["num_supernets"] == 2 and "num_supernets" not in Accuracy(1, 2, 3).to_json()
