"""Time of a feasible draw by the exact sampler, and by drawing and rejecting in NumPy and in a plain loop.

The ways take turns. Rejection is timed per try and divided by the share of feasible architectures, which is counted in
--tries uniform draws; of a share below 0.0001 that count would say too little, so no such box is measured.

    python -m benchmarks.constrained_sampling --rounds 11 --tries 8000000
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Sequence

import numpy as np

from benchmarks.measure import OTHER, OURS, PLAIN, OutputOptions, Result, Way, rows_of, take_turns
from spos.core.flags import OneLineParser, not_negative, pick, positive, run_program
from spos.sampling.exact import ConstrainedSampler
from spos.sampling.limits import MILLION, Limit
from spos.space.cost import NANOSECONDS_PER_MS, cost_table
from spos.space.space import SearchSpace
from spos.space.space_file import search_space

SPACE = search_space(use_se=True, last_conv_after_pooling=True)
SHARES = (0.5, 0.01, 0.001, 0.0001)
CHUNK = 20_000  # tries at once in NumPy: more do not fit the cache
NUM_DRAWS = 512  # of the exact sampler in a round, when many are drawn at once
NUM_SINGLE_DRAWS = 50
NUM_LOOP_TRIES = 3000
PARTS = (("FLOPs", "M", MILLION), ("params", "M", MILLION), ("latency", "ms", NANOSECONDS_PER_MS))


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, (OutputOptions,))
    parser.add_argument("--rounds", type=positive, default=11, help="turns of each way [%(default)s]")
    parser.add_argument("--tries", type=positive, default=8_000_000, help="uniform draws to count shares [%(default)s]")
    parser.add_argument("--seed", type=not_negative, default=0, help="seed of all draws [%(default)s]")
    args = parser.parse_args(argv)
    output = pick(OutputOptions, args)
    output.check()
    rng = np.random.default_rng(args.seed)
    fixed, blocks = costs_of(SPACE, rng)
    known = np.concatenate([uniform_costs(fixed, blocks, CHUNK, rng) for _ in range(args.tries // CHUNK)])
    for parts in (2, 3):
        for share in SHARES:
            box = make_box(known, share, parts)
            box.measure(fixed[:parts], [block[:, :parts] for block in blocks], args.rounds, rng).report(output)
    return 0


def costs_of(space: SearchSpace, rng: np.random.Generator) -> Any:
    """(FLOPs, params, nanoseconds) that are fixed, and of every choice; latencies are made up, following FLOPs."""
    table = cost_table(space)
    blocks = []
    for block in table.blocks:
        costs = np.array(block).reshape(-1, 2)
        nanoseconds = costs[:, 0] / 20 * rng.lognormal(0, 0.3, len(costs)) + 10_000
        blocks.append(np.column_stack([costs, nanoseconds]).astype(np.int64))
    return np.array([*table.fixed, NANOSECONDS_PER_MS // 2]), blocks


def uniform_costs(fixed: np.ndarray, blocks: Sequence[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """Costs of `count` architectures, each choice drawn uniformly, (count, parts)."""
    choices = rng.integers(0, len(blocks[0]), (len(blocks), count), dtype=np.int8)
    return fixed + sum(block[own] for block, own in zip(blocks, choices))


@dataclass(frozen=True)
class Box:
    """Upper limits and the share of the space that keeps them all."""

    limits: Sequence[Limit]
    share: float

    def measure(self, fixed: np.ndarray, blocks: Sequence[np.ndarray], rounds: int, rng: np.random.Generator) -> Result:
        """Seconds of a feasible draw by each way."""
        start = time.perf_counter()
        sampler = ConstrainedSampler(fixed, blocks, self.limits)
        building = time.perf_counter() - start
        lists = [block.tolist() for block in blocks]
        ways = [
            _way(
                "plain: rejection in a loop",
                PLAIN,
                lambda: self.reject_in_a_loop(fixed.tolist(), lists, rng) * self.share,
            ),
            _way("rejection in NumPy", OTHER, lambda: self.reject(fixed, blocks, rng) * self.share),
            _way("exact, one by one", OTHER, lambda: sum(bool(sampler.draw(rng)) for _ in range(NUM_SINGLE_DRAWS))),
            _way("ours: exact, many at once", OURS, lambda: len(sampler.draw_many(NUM_DRAWS, rng))),
        ]
        rows = rows_of(ways, take_turns(ways, range(rounds), 0, rng))
        limits = " and ".join(str(limit) for limit in self.limits)
        notes = (
            f"{self.share:.4%} feasible ({limits}); a table in {building:.2f} s, once; "
            f"{sampler.acceptance(rng):.0%} of tries kept.",
        )
        options = {"limits": limits, "parts": len(self.limits), "share": self.share, "rounds": rounds}
        return Result("constrained_sampling", "a feasible draw", options, rows, notes)

    def reject(self, fixed: np.ndarray, blocks: Sequence[np.ndarray], rng: np.random.Generator) -> int:
        """Draw CHUNK architectures and keep the feasible. Returns how many were tried."""
        choices = rng.integers(0, len(blocks[0]), (len(blocks), CHUNK), dtype=np.int8)
        cost = (fixed + sum(block[own] for block, own in zip(blocks, choices))).T
        choices[:, np.all([limit.keeps(cost) for limit in self.limits], axis=0)]
        return CHUNK

    def reject_in_a_loop(self, fixed: Sequence[int], blocks: Sequence[Any], rng: np.random.Generator) -> int:
        """The same, one architecture after the other."""
        for _ in range(NUM_LOOP_TRIES):
            choices = rng.integers(0, len(blocks[0]), len(blocks)).tolist()
            cost = [start + sum(parts) for start, parts in zip(fixed, zip(*(b[c] for b, c in zip(blocks, choices))))]
            all(limit.keeps(cost) for limit in self.limits)
        return NUM_LOOP_TRIES


def _way(name: str, role: str, draw: Callable[[], float]) -> Way:
    """Seconds of a feasible architecture; `draw` says how many it gave."""

    def run(_: Any) -> float:
        start = time.perf_counter()
        num_feasible = draw()
        return (time.perf_counter() - start) / num_feasible

    return Way(name, role, run, True)


def make_box(costs: np.ndarray, share: float, parts: int) -> Box:
    """Limits on each part of a cost, each as tight as the others, that leave about a share of all architectures."""
    ordered = np.sort(costs[:, :parts], axis=0)
    low, high = 0, len(costs) - 1
    while low < high:
        middle = (low + high) // 2
        if np.all(costs[:, :parts] <= ordered[middle], axis=1).mean() < share:
            low = middle + 1
        else:
            high = middle
    limits = []
    for axis, (name, unit, scale) in enumerate(PARTS[:parts]):
        bound = round(float(ordered[low, axis]) / scale, 2) * scale
        limits.append(Limit(name, unit, (*(0,) * axis, 1), bound, scale=scale))
    kept = np.all([limit.keeps(costs.T) for limit in limits], axis=0)
    return Box(limits, float(kept.mean()))


if __name__ == "__main__":
    sys.exit(run_program(main))
