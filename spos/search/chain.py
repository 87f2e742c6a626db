"""The best architecture of an additive fitness within limits, exactly.

Fitness is a sum of what each choice block is worth by its block and channel choice, and of what the block choices of
two neighbours are worth together. Costs are sums too. Without limits the best is found by dynamic programming along the
choice blocks (Viterbi). A limit becomes a price on its cost: the best architecture at given prices, plus what the whole
budget is worth at them, is an upper bound (Lagrangian relaxation; Everett, 1963; Geoffrion, 1974). Prices that make the
bound low, and an architecture that comes close to it, leave few choices that can be part of a better one: all of these
are gone through, block by block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

# Beginnings of architectures that are gone through together: first few, and what they find lets a bound leave out more;
# then, if few did not suffice, many.
MOST_PARTIAL = (2_000, 100_000)
NUM_PRICES = 40  # tries of prices
NUM_DOUBLINGS = 60  # of all prices together, until something is cheap enough
ROUNDING = 1e-9  # of a budget and of fitness: what sums of fractions may be off

Choices = Tuple[Tuple[int, int], ...]  # the (block choice, channel choice) of every choice block


@dataclass(frozen=True)
class Chain:
    """An additive fitness.

    Attributes:
        own: (choice blocks, block choices, channel choices), -inf where there is no such pair.
        neighbours: (choice blocks - 1, block choices, block choices), of a choice block and the next one.
    """

    own: np.ndarray
    neighbours: np.ndarray

    def values(self, blocks: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """Fitness of architectures (..., choice blocks) each."""
        index = np.arange(blocks.shape[-1])
        own = self.own[index, blocks, channels].sum(-1)
        return own + self.neighbours[index[:-1], blocks[..., :-1], blocks[..., 1:]].sum(-1)

    def __call__(self, choices: Union[Choices, np.ndarray]) -> float:
        """Fitness of one architecture."""
        return float(self.values(*np.array(choices).T))


class Best(NamedTuple):
    """What was found.

    Attributes:
        bound: nothing that was wanted can be better; `value` itself if that is proven to be the best.
    """

    choices: Choices
    value: float
    bound: float


class _Priced(NamedTuple):
    """The best at given prices, as if there were no limits.

    Attributes:
        choices: (choice blocks, 2).    bound: of the fitness of what keeps the limits.
        before, after: (choice blocks, block choices): best of all that lies before and after a choice block, by its
            block choice; what neighbours are worth is in both.
    """

    choices: np.ndarray
    bound: float
    before: np.ndarray
    after: np.ndarray
    own: np.ndarray


def maximise(
    chain: Chain, shares: np.ndarray, budgets: np.ndarray, is_wanted: Callable[[Choices], bool] = lambda choices: True
) -> Optional[Best]:
    """The best architecture that keeps all limits and is wanted, or None if there seems to be none.

    Args:
        shares: (choice blocks, block choices, channel choices, limits), the part of each cost that a pair adds.
        budgets: (limits,), that their sums may reach.
        is_wanted: for what has been scored already, for example.
    """
    return _Maximiser(chain, shares, budgets, is_wanted).run()


class _Maximiser:
    def __init__(
        self, chain: Chain, shares: np.ndarray, budgets: np.ndarray, is_wanted: Callable[[Choices], bool]
    ) -> None:
        self._chain, self._is_wanted = chain, is_wanted
        exists = np.isfinite(chain.own)
        cheapest = np.where(exists[..., None], shares, np.inf).min((1, 2), initial=np.inf)  # (choice blocks, limits)
        room = np.asarray(budgets, dtype=float) - cheapest.sum(0)
        self._has_room = bool((room >= -ROUNDING * np.abs(budgets)).all())
        # in units of the room above the cheapest, of which there is 1
        unit = np.where(room > 0, room, 1.0)
        self._shares = np.where(exists[..., None], (shares - cheapest[:, None, None]) / unit, 0.0)
        self._budget = np.where(room > 0, 1.0, 0.0) + ROUNDING
        self._num_blocks, self._num_limits = len(chain.own), len(room)
        self._kept: Optional[Tuple[float, np.ndarray]] = None  # the best so far that keeps the limits
        self._found: Optional[Tuple[float, np.ndarray]] = None  # of those the best that is wanted

    def run(self) -> Optional[Best]:
        if not self._has_room:
            return None
        prices, priced = self._lower_prices()
        self._improve()
        for most in MOST_PARTIAL:
            left_out = self._go_through(prices, priced, most)
            if left_out <= (self._found[0] if self._found else -np.inf):
                break
        if self._found is None:
            return None
        value, choices = self._found
        return Best(_as_choices(choices), value, max(value, left_out))

    def _at(self, prices: np.ndarray) -> _Priced:
        own = self._chain.own - self._shares @ prices
        widths = own.argmax(2)
        best = own.max(2)
        before, after = np.zeros_like(best), np.zeros_like(best)
        pairs, last = self._chain.neighbours, self._num_blocks - 1
        for i in range(last, 0, -1):
            after[i - 1] = (pairs[i - 1] + (best[i] + after[i])).max(1)
        for i in range(last):
            before[i + 1] = (pairs[i] + (best[i] + before[i])[:, None]).max(0)
        block = int((best[0] + after[0]).argmax())
        blocks = [block]
        for i in range(last):
            block = int((pairs[i][block] + best[i + 1] + after[i + 1]).argmax())
            blocks.append(block)
        index = np.arange(self._num_blocks)
        bound = float((best[0] + after[0]).max() + prices @ self._budget)
        return _Priced(np.column_stack([blocks, widths[index, blocks]]), bound, before, after, own)

    def _cost(self, choices: np.ndarray) -> np.ndarray:
        return self._shares[np.arange(self._num_blocks), choices[:, 0], choices[:, 1]].sum(0)

    def _consider(self, choices: np.ndarray) -> bool:
        """Remember it if it is the best of its kind. Returns whether it keeps the limits and is wanted."""
        if (self._cost(choices) > self._budget).any():
            return False
        value = self._chain(choices)
        if self._kept is None or value > self._kept[0]:
            self._kept = value, choices
        is_wanted = self._is_wanted(_as_choices(choices))
        if is_wanted and (self._found is None or value > self._found[0]):
            self._found = value, choices
        return is_wanted

    def _lower_prices(self) -> Tuple[np.ndarray, _Priced]:
        """Prices at which the bound is low, and the best at them. What is met on the way is considered."""
        prices = np.zeros(self._num_limits)
        priced = self._at(prices)
        self._consider(priced.choices)
        if (self._cost(priced.choices) <= self._budget).all():
            return prices, priced
        lowest = prices, priced
        high = self._dear_enough(float(np.ptp(self._chain.own[np.isfinite(self._chain.own)])) or 1.0)
        ray, low = np.ones(self._num_limits), 0.0
        for _ in range(NUM_PRICES // 4):  # one price for all limits, halved
            middle = (low + high) / 2
            priced = self._at(middle * ray)
            fits = bool((self._cost(priced.choices) <= self._budget).all())
            low, high = (low, middle) if fits else (middle, high)
            self._consider(priced.choices)
            lowest = min(lowest, (middle * ray, priced), key=lambda one: one[1].bound)
        prices, priced = lowest
        for step in range(NUM_PRICES):  # a subgradient each, by Polyak's rule
            excess = self._cost(priced.choices) - self._budget
            excess = np.where((prices <= 0) & (excess < 0), 0.0, excess)
            square = float(excess @ excess)
            least = self._found[0] if self._found else lowest[1].bound - abs(lowest[1].bound) * 0.05
            if not square or priced.bound <= least:
                break
            prices = np.maximum(prices + excess * (priced.bound - least) / square / (1 + step / 8), 0.0)
            priced = self._at(prices)
            self._consider(priced.choices)
            if priced.bound < lowest[1].bound:
                lowest = prices, priced
        return lowest

    def _dear_enough(self, price: float) -> float:
        """A price on all limits at which the best keeps them, or nearly."""
        for _ in range(NUM_DOUBLINGS):
            choices = self._at(np.full(self._num_limits, price)).choices
            if (self._cost(choices) <= self._budget).all():
                break
            price *= 2
        return price

    def _improve(self) -> None:
        """Change one choice block at a time for the better, as long as that is possible."""
        value = -np.inf
        while self._kept is not None and self._kept[0] > value:
            value, choices = self._kept
            self._consider_neighbours(choices)

    def _consider_neighbours(self, choices: np.ndarray) -> None:
        """Of those that keep the limits and differ in one choice block: the best, and the best that is wanted."""
        index, (blocks, channels) = np.arange(self._num_blocks), choices.T
        pairs, own = self._chain.neighbours, self._chain.own
        around = np.zeros(own.shape[:2])
        around[1:] += pairs[index[:-1], blocks[:-1]]
        around[:-1] += pairs[index[:-1], :, blocks[1:]]
        gains = own - own[index, blocks, channels][:, None, None] + (around - around[index, blocks][:, None])[..., None]
        costs = self._cost(choices) + self._shares - self._shares[index, blocks, channels][:, None, None]
        gains = np.where((costs <= self._budget).all(-1), gains, -np.inf)
        for flat in np.argsort(-gains, axis=None, kind="stable").tolist():
            place = np.unravel_index(flat, gains.shape)
            if not np.isfinite(gains[place]):
                return
            changed = choices.copy()
            changed[place[0]] = place[1:]
            if self._consider(changed):
                return

    def _go_through(self, prices: np.ndarray, priced: _Priced, most: int) -> float:
        """Find the best of all that can be better than what was found, by the bound at these prices.

        Args:
            most: beginnings that are followed; those of the highest bound.
        Returns: bound of what was left out; -inf if nothing was.
        """
        whole = float(prices @ self._budget)
        slack = ROUNDING * max(1.0, abs(priced.bound))
        least = self._found[0] if self._found else -np.inf
        through = priced.before[:, :, None] + priced.own + priced.after[:, :, None] + whole  # bound of what has a pair
        values, costs = np.zeros(1), np.zeros((1, self._num_limits))
        last, trail = np.zeros(1, dtype=int), []  # block choices, and where each beginning came from
        left_out = -np.inf
        for i in range(self._num_blocks):
            blocks, channels = np.nonzero(through[i] > least - slack)
            own = self._chain.own[i, blocks, channels]
            joined = self._chain.neighbours[i - 1][last[:, None], blocks] if i else 0.0
            new_values = values[:, None] + own + joined
            new_costs = costs[:, None] + self._shares[i, blocks, channels]
            bounds = new_values - new_costs @ prices + priced.after[i, blocks] + whole
            kept = (bounds > least - slack) & (new_costs <= self._budget).all(-1)
            rows, columns = np.nonzero(kept)
            if len(rows) > most:
                best, bound = _largest(bounds[rows, columns], most)
                left_out = max(left_out, bound)
                rows, columns = rows[best], columns[best]
            values, costs, last = new_values[rows, columns], new_costs[rows, columns], blocks[columns]
            trail.append((rows, blocks[columns], channels[columns]))
        for row in np.argsort(-values, kind="stable").tolist():
            if values[row] <= least:
                break
            choices = _follow(trail, row)
            if self._is_wanted(_as_choices(choices)):
                self._found = float(values[row]), choices
                break
        return left_out


def _largest(values: np.ndarray, count: int) -> Tuple[np.ndarray, float]:
    """Indices of the `count` largest, in their order and of equals the first, and the largest of the others."""
    at = len(values) - count
    parted = np.partition(values, (at - 1, at))
    above = values > parted[at]
    equal = np.flatnonzero(values == parted[at])[: count - int(above.sum())]
    above[equal] = True
    return np.flatnonzero(above), float(parted[at - 1])


def _as_choices(choices: np.ndarray) -> Choices:
    return tuple(map(tuple, choices.tolist()))


def _follow(trail: Sequence[Tuple[np.ndarray, np.ndarray, np.ndarray]], row: int) -> np.ndarray:
    """The choices of a whole architecture, from its last choice block back."""
    choices: List[Tuple[int, int]] = []
    for rows, blocks, channels in reversed(trail):
        choices.append((int(blocks[row]), int(channels[row])))
        row = int(rows[row])
    return np.array(choices[::-1])
