"""Aims: where a search looks for the best. In one domain, in that of every budget in turn, or along a whole front."""

from __future__ import annotations

from math import ceil
from typing import Collection, Dict, List, NamedTuple, Sequence

import numpy as np

from spos.search.breeder import Scores, SearchDomain
from spos.search.costs import COSTS
from spos.search.domain import Domain
from spos.search.front import not_beaten
from spos.space.architecture import Architecture

EXPECTED_SHARE = 0.5  # of the places along a front: the best of what is expected, not of what is drawn


class Place(NamedTuple):
    """Where one proposal is looked for: the best there, by the expected function or by a drawn one."""

    domain: SearchDomain
    by_expected: bool


class Aims:
    """The domains of all budgets, which lie in one another; of a search without budgets the only one."""

    def __init__(self, domains: Sequence[SearchDomain]) -> None:
        self.domains = domains

    def sample_new(self, count: int, rng: np.random.Generator, seen: Collection[Architecture]) -> List[Architecture]:
        """As of a domain; of several, equal shares."""
        found: Dict[Architecture, None] = {}
        for left, domain in zip(range(len(self.domains), 0, -1), self.domains):
            share = ceil((count - len(found)) / left)
            found.update(dict.fromkeys(domain.sample_new(share, rng, {*seen, *found})))
        return list(found)

    def fill_up(
        self, generation: Sequence[Architecture], size: int, rng: np.random.Generator, seen: Collection[Architecture]
    ) -> List[Architecture]:
        """The first `size` of a generation, topped up with fresh samples; shorter if all domains seem used up."""
        kept = list(generation[:size])
        return [*kept, *self.sample_new(size - len(kept), rng, {*seen, *kept})]

    def places(self, count: int, rng: np.random.Generator) -> List[Place]:
        """Of the proposals of a generation."""
        return [Place(self.domains[i % len(self.domains)], i < len(self.domains)) for i in range(count)]

    def parents(self, scores: Scores, count: int) -> List[List[Architecture]]:
        """The best that may be bred from, for every domain."""
        ranked = sorted(scores, key=scores.__getitem__, reverse=True)
        return [list(filter(domain.admits, ranked))[:count] for domain in self.domains]


class FrontAims(Aims):
    """Along the front of fitness against costs: what may be spent is drawn anew for every proposal.

    Args:
        objectives: the costs, names of COSTS.
    """

    def __init__(self, domain: Domain, objectives: Sequence[str]) -> None:
        super().__init__([domain])
        self._domain, self._objectives = domain, objectives

    def places(self, count: int, rng: np.random.Generator) -> List[Place]:
        """The whole domain first; then what may be spent is even over the range of the first cost, any of the others'.

        Those by the expected function are scattered among the others.
        """
        shares = rng.random((count, len(self._objectives)))
        shares[:, 0] = (np.arange(count) + shares[:, 0]) / count
        by_expected = rng.permutation(count) < EXPECTED_SHARE * count
        places = [Place(self._domain, True)]
        for own, is_expected in zip(shares[: count - 1], by_expected.tolist()):
            most = {}
            for name, share in zip(self._objectives, own.tolist()):
                low, high = self._domain.cost_range(name)
                most[name] = low + share * (high - low)
            places.append(Place(self._domain.within(**most), is_expected))
        return places[:count]

    def parents(self, scores: Scores, count: int) -> List[List[Architecture]]:
        """What nothing else beats, however many; of these alone, if they are two or more."""
        scored = [one for one in scores if np.isfinite(scores[one])]
        costs = [self._domain.cost_fields(one) for one in scored]
        keys = [COSTS[name].key for name in self._objectives]
        values = [[-scores[one], *(cost[key] for key in keys)] for one, cost in zip(scored, costs)]
        front = [scored[i] for i in not_beaten(np.array(values, dtype=float).reshape(len(scored), -1))]
        return [front if len(front) > 1 else super().parents(scores, count)[0]]
