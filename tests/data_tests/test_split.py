"""Stratified lists that divide no group."""

import numpy as np
import pytest

from spos.data.split import stratified

SHARES = {"test": 0.2, "search_val": 0.1, "bn": 0.1}


def counts(labels, positions):
    return np.bincount(labels[positions], minlength=labels.max() + 1).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_every_class_has_its_share_in_every_list(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 400, 7)
    labels = rng.permutation(np.repeat(np.arange(7), sizes))
    lists = stratified(labels, np.arange(len(labels)), SHARES, seed)
    assert sorted(np.concatenate(list(lists.values())).tolist()) == list(range(len(labels)))
    for name, share in SHARES.items():
        assert counts(labels, lists[name]) == [max(1, round(size * share)) for size in sizes.tolist()]


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_divided(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 600)
    first = np.arange(600)
    for position in range(1, 600):  # films of some images, also across classes
        if rng.random() < 0.5:
            first[position] = first[position - 1]
    lists = stratified(labels, first, SHARES, seed)
    where = np.empty(600, int)
    for number, positions in enumerate(lists.values()):
        where[positions] = number
    assert (where == where[first]).all()
    for name, share in SHARES.items():
        wanted = np.round(np.bincount(labels) * share)
        assert (np.array(counts(labels, lists[name])) <= wanted).all() and len(lists[name]) > 0.8 * wanted.sum()


def test_five_images_of_a_class_reach_every_list():
    labels = np.repeat(np.arange(3), 5)
    lists = stratified(labels, np.arange(15), SHARES, 0)
    assert {name: counts(labels, own) for name, own in lists.items()} == {
        "test": [1, 1, 1],
        "search_val": [1, 1, 1],
        "bn": [1, 1, 1],
        "train": [2, 2, 2],
    }


def test_a_class_with_no_more_images_than_lists_is_trained_on():
    lists = stratified(np.zeros(3, int), np.arange(3), SHARES, 0)
    assert len(lists["train"]) == 2 and len(lists["test"]) == 1  # a fifth of three is one


def test_a_list_gets_a_group_above_its_quota_where_it_would_have_none_of_a_class():
    labels = np.repeat(np.arange(3), 30)
    groups = np.arange(90) // np.repeat([10, 6, 1], 30) * 10  # films of ten frames, of six, and single pictures
    lists = stratified(labels, groups, SHARES, 0)
    assert {name: counts(labels, own)[:2] for name, own in lists.items()} == {
        "test": [10, 6],
        "search_val": [10, 6],
        "bn": [0, 6],  # the last film is trained on
        "train": [10, 12],
    }
    assert not {*groups[lists["test"]]} & {*groups[lists["train"]]}


def test_the_smallest_group_is_given_and_no_class_is_taken_from_training():
    labels = np.array([0] * 20 + [1] * 4)
    groups = np.array([0] * 12 + [12] * 8 + [12, 21, 22, 23])
    lists = stratified(labels, groups, {"test": 0.1}, 0)
    assert counts(labels, lists["test"]) == [8, 2] or counts(labels, lists["test"]) == [8, 1]
    groups[20:] = groups[0]  # all of class 1 is in the larger film of class 0
    assert counts(labels, stratified(labels, groups, {"test": 0.1}, 0)["test"]) == [8, 0]


def test_every_class_is_left_some_for_training():
    """However large the share: a class of one image is trained on."""
    labels = np.array([0] * 10 + [1] + [2] * 2)
    drawn = stratified(labels, np.arange(len(labels)), {"test": 0.9}, 0)
    assert np.bincount(labels[drawn["train"]], minlength=3).tolist() == [1, 1, 1]


def test_lists_depend_on_the_seed_alone():
    labels = np.repeat(np.arange(3), 50)
    first, again, other = (stratified(labels, np.arange(150), SHARES, seed)["test"] for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
