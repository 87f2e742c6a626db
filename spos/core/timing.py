"""Times of calls beside a reference call, on a machine whose speed changes while they are timed.

The speed of a shared machine moves by half within seconds, and everything that runs there moves with it. So each timed
call is divided by the mean of one fixed reference call just before and one just after it, what is compared takes turns
in random order, and the median of these ratios is taken: over as many rounds as its standard error asks for. A machine
also has moods that last for minutes and slow some calls more than others; against these only time helps, so a
measurement may be done in passes, whose mean counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable, List, Mapping, Sequence, Tuple

import numpy as np

Run = Callable[[], object]  # does the work and returns when it is done

# Seconds that have gone by, or that this process was computing, in all of its threads together.
CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
OUTLIER = 0.5  # relative distance from the median


@dataclass(frozen=True)
class Timing:
    """Time of a call.

    Args:
        ratio: median over the rounds of its time to that of the reference.
        error: relative standard error of the ratio, from the median absolute deviation of the rounds, or from the
            spread of several passes.
        outliers: rounds whose ratio is off by more than half of the median.
    """

    ratio: float
    error: float
    rounds: int
    outliers: int

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Timing:
        values = np.asarray(ratios)
        median = float(np.median(values))
        distances = np.abs(values / median - 1)
        sigma = 1.4826 * float(np.median(distances))  # of a normal distribution with this deviation
        return cls(median, 1.2533 * sigma / len(values) ** 0.5, len(values), int((distances > OUTLIER).sum()))

    @classmethod
    def pool(cls, passes: Sequence[Timing]) -> Timing:
        """Of one call in several passes: the mean ratio, with the standard error that the passes' spread tells."""
        ratios = np.array([one.ratio for one in passes])
        mean = float(ratios.mean())
        error = passes[0].error if len(passes) == 1 else float(ratios.std(ddof=1)) / mean / len(passes) ** 0.5
        return cls(mean, error, sum(one.rounds for one in passes), sum(one.outliers for one in passes))


@dataclass(frozen=True)
class Rounds:
    """How long a pass goes on.

    Args:
        least, most: rounds of each call.
        error: relative standard error of a ratio at which its call is not timed any more.
    """

    least: int = 10
    most: int = 30
    error: float = 0.01


def time_in_turns(
    reference: Run, runs: Sequence[Run], clock: str, rounds: Rounds, rng: np.random.Generator
) -> Tuple[List[Timing], float]:
    """Time calls against a reference, all of them in every round, in random order, each once warm.

    Args:
        clock: one of CLOCKS.
    Returns: a timing for each call, and the median seconds of the reference.
    """
    now = CLOCKS[clock]
    ratios: List[List[float]] = [[] for _ in runs]
    of_reference = [_time_warm(reference, now)]
    unsure = list(range(len(runs)))
    while unsure:
        for i in rng.permutation(unsure):
            seconds = _time_warm(runs[i], now)
            of_reference.append(_time_warm(reference, now))
            ratios[i].append(seconds / (0.5 * (of_reference[-2] + of_reference[-1])))
        unsure = [i for i in unsure if not _is_enough(ratios[i], rounds)]
    return [Timing.of(own) for own in ratios], float(np.median(of_reference))


def _time_warm(run: Run, now: Callable[[], float]) -> float:
    run()
    start = now()
    run()
    return now() - start


def _is_enough(ratios: Sequence[float], rounds: Rounds) -> bool:
    if len(ratios) < rounds.least:
        return False
    return len(ratios) >= rounds.most or Timing.of(ratios).error <= rounds.error
