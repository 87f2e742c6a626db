"""Samples of a space, and a search by a scoring function of one's own: no supernet, no images, no MXNet."""

from __future__ import annotations

from typing import Callable, List, Optional

from spos.core.errors import InputError
from spos.core.progress import progress_bar
from spos.core.seeds import derive_rng
from spos.latency.tables import Latency
from spos.runs.files import PathLike
from spos.sampling.limits import Limits
from spos.search.ask_tell import Found, open_search
from spos.search.domain import Domain
from spos.space.architecture import Architecture
from spos.space.space import SearchSpace

Score = Callable[[Architecture], float]


def sample_architectures(
    space: SearchSpace,
    count: int,
    limits: Optional[Limits] = None,
    seed: int = 0,
    latency: Optional[Latency] = None,
) -> List[Architecture]:
    """Draw architectures independently and uniformly from those that keep the limits, exactly and without rejecting.

    Args:
        latency: a table of this space; a limit on latency needs it.
    Raises: InputError if no architecture keeps the limits, naming the smallest reachable cost.
    """
    domain = Domain(space, (limits or Limits()).constraints(), latency=latency)
    domain.check()
    rng = derive_rng(seed, "sampling")
    return [domain.sample(rng) for _ in range(count)]


def search_architectures(
    space: SearchSpace,
    score: Score,
    folder: PathLike,
    limits: Optional[Limits] = None,
    mode: str = "genetic",
    iterations: int = 20,
    population: int = 50,
    retain: int = 10,
    seed: int = 0,
    latency: Optional[Latency] = None,
) -> Found:
    """Search for the architecture of the highest score under limits.

    Every score is on disk, in `folder`, before the next architecture is scored. The same call goes on with a search
    that was stopped or killed, without scoring anything twice, and ends as if it had not been; so it does with more
    `iterations`. `folder/best.json` is the best architecture as a file that the programs take as `--architecture`.

    Args:
        score: called in this process with one architecture at a time, never twice with the same one. It should depend
            on nothing else: what it returned before a stop counts after it.
        mode, iterations, population, retain, latency: as in `open_search`, which is for scores from elsewhere.
    Raises: InputError if no architecture keeps the limits, if a score is no real number between -1e100 and 1e100, or if
        `folder` holds another search or is in use.
    """
    with open_search(space, folder, limits, mode, iterations, population, retain, seed, latency) as search:
        while generation := search.ask():
            for architecture in progress_bar(generation, desc=f"iteration {search.iteration}", unit="arch"):
                search.tell(architecture, score(architecture))
        if not search.found.rows:
            raise InputError("the search found no architecture to score")
        return search.found
