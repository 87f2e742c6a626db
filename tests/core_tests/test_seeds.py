"""Seeds: the same everywhere, another for each purpose."""

import numpy as np
import pytest

from spos.core.seeds import derive_rng, derive_seed, random_order


def test_seeds_are_those_of_earlier_runs():
    assert derive_seed(0, "dropout", 3, 5, 0) == 2093926015
    assert derive_seed(7) == 2083679832
    assert derive_rng(5, "sampling", 2).integers(0, 1 << 30, 3).tolist() == [1029285124, 676519681, 642475406]
    assert random_order(8, 20190401).tolist() == [1, 0, 5, 6, 3, 4, 2, 7]


def test_a_seed_depends_on_what_it_is_for():
    seeds = [derive_seed(*key) for key in ((0, "a"), (1, "a"), (0, "b"), (0, "a", 1), (0, "a", 2), (0, 1, "a"))]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed(3, "a", 1) == derive_seed(3, "a", 1)


def test_a_purpose_that_ends_in_zero_is_that_without_it():
    """As NumPy's SeedSequence pads; whoever derives seeds for numbered things numbers all of them."""
    assert derive_seed(3, "a", 0) == derive_seed(3, "a") != derive_seed(3, "a", 1)


def test_generators_of_two_purposes_are_independent_of_each_other():
    first = derive_rng(0, "mixup", 1).random(4)
    derive_rng(0, "sampling", 1).random(100)
    np.testing.assert_array_equal(derive_rng(0, "mixup", 1).random(4), first)
    assert not np.array_equal(derive_rng(0, "sampling", 1).random(4), first)


@pytest.mark.parametrize("num", (0, 1, 2, 100))
def test_an_order_holds_every_number_once(num):
    assert sorted(random_order(num, 3, 4)) == list(range(num))


def test_an_order_depends_on_all_of_its_numbers():
    orders = {tuple(random_order(50, *key)) for key in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 1, 1))}
    assert len(orders) == 5
