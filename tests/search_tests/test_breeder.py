"""Children: whose genes they have, and when breeding ends."""

from dataclasses import replace

import numpy as np
import pytest

from search_tests.test_evolution import DOMAIN, ONESHOT, SPACE, UNBOUNDED
from spos.search.breeder import Breeder, Child
from spos.search.domain import Domain


@pytest.mark.parametrize("chance", (0.0, 0.1, 1.0))
def test_mutation_draws_each_gene_anew_with_the_given_chance(chance, rng):
    breeder = Breeder(Domain(SPACE, UNBOUNDED), chance, rng, {})
    changed = np.array(
        [np.not_equal(breeder.mutate(ONESHOT).genes, ONESHOT.genes) for _ in range(400)]
    )  # a gene drawn anew keeps its value once in num_values draws
    assert changed[:, :20].mean() == pytest.approx(chance * 3 / 4, abs=0.02)
    assert changed[:, 20:].mean() == pytest.approx(chance * 7 / 8, abs=0.02)


def test_each_gene_of_a_child_comes_from_one_of_its_parents(rng):
    first, second = SPACE.widest((0,) * 20), replace(SPACE.widest((1,) * 20), channel_choices=(2,) * 20)
    breeder = Breeder(DOMAIN, 0.1, rng, {})
    genes = np.array([breeder.crossover(first, second).genes for _ in range(200)])
    from_first = genes == np.array(first.genes)
    assert np.all(from_first | (genes == np.array(second.genes)))
    assert from_first.mean(axis=0) == pytest.approx(0.5, abs=0.15)


def test_children_that_bring_nothing_new_end_the_breeding(rng):
    clone = Child(ONESHOT, (ONESHOT,))
    clones = iter([clone] * 10_000)
    knowing, new = (Breeder(Domain(SPACE, UNBOUNDED), 0.1, rng, seen) for seen in ({ONESHOT: 0.0}, {}))
    assert knowing.take_new(clones, 5) == []
    assert 0 < len(list(clones)) < 10_000
    assert new.take_new(iter([clone] * 3), 5) == [ONESHOT]
    assert (knowing.lineage, new.lineage) == ({}, {ONESHOT: (ONESHOT,)})
