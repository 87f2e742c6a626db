"""Splits of images into lists: stratified by class, and near-duplicates on one side. NumPy, no MXNet."""

from __future__ import annotations

from typing import Dict, Mapping

import numpy as np

from spos.core.seeds import random_order

REST = "train"  # the list of all that no other takes
Shares = Mapping[str, float]


def stratified(labels: np.ndarray, groups: np.ndarray, shares: Shares, seed: int) -> Dict[str, np.ndarray]:
    """Positions of disjoint lists with a share of every class each; the rest is "train".

    A list gets of every class as many images as its share is, rounded, and at least one if the class has more images
    than there are lists. No group is divided: a list may get fewer where groups are larger than what it needs, and if
    it would get none of a class, the smallest group that leaves "train" some.

    Args:
        labels: (N,) class of each image.    groups: (N,) images of one number stay together (`near_duplicates`).
        shares: of each list, in the order in which they are served.
    Returns: rising positions by list, "train" last.
    """
    sizes, members = np.bincount(labels), _members(groups)
    needed = {name: quota(sizes, share, len(shares)) for name, share in shares.items()}
    wanted = {name: np.flatnonzero(count).tolist() for name, count in needed.items()}
    chosen = np.full(len(labels), len(shares))
    for position in random_order(len(labels), seed).tolist():
        own = members.get(position)
        if own is None:
            continue  # its group is decided by its first member
        counts = np.bincount(labels[own], minlength=len(sizes))
        for number, name in enumerate(shares):
            if (counts <= needed[name]).all():
                needed[name] -= counts
                chosen[own] = number
                break
    for number, name in enumerate(shares):
        for label in np.setdiff1d(wanted[name], labels[chosen == number]).tolist():
            chosen[_smallest_to_spare(labels, groups, chosen == len(shares), label)] = number
    return {name: np.flatnonzero(chosen == number) for number, name in enumerate((*shares, REST))}


def _smallest_to_spare(labels: np.ndarray, groups: np.ndarray, rest: np.ndarray, label: int) -> np.ndarray:
    """Positions of the smallest group with an image of a class, if the rest has all its classes without it, too.

    Args: rest: (N,) bool.    Returns: none if there is no such group.
    """
    left = np.bincount(labels[rest])
    ours = np.flatnonzero(np.isin(groups, groups[rest & (labels == label)]))
    for own in sorted(_members(groups[ours]).values(), key=len):
        counts = np.bincount(labels[ours[own]], minlength=len(left))
        if (counts < left)[counts > 0].all():
            return ours[own]
    return ours[:0]


def _members(groups: np.ndarray) -> Dict[int, np.ndarray]:
    """Positions of every group, by its first."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return {int(part[0]): part for part in np.split(order, starts[1:]) if len(part)}


def quota(sizes: np.ndarray, share: float, num_lists: int) -> np.ndarray:
    """How many images of every class a list gets, of so many that are drawn together, and never all of them.

    Args: sizes: of the classes.
    """
    least = np.where((sizes > num_lists) & (share > 0), 1, 0)
    return np.minimum(np.maximum(np.round(sizes * share).astype(int), least), np.maximum(sizes - 1, 0))
