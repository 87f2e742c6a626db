"""Two-stage search: first the blocks at equal widths, then the widths of the best blocks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import List, Optional

import numpy as np

from spos.core.errors import InputError
from spos.search.breeder import Lineage, Scores
from spos.search.domain import Domain
from spos.search.evolution import Evolution, GeneticSettings, Search, genetic_search
from spos.space.space import SearchSpace

PLAIN_SCALE = 1.0  # of the channels, while blocks are searched


def two_stage_search(
    domain: Domain,
    settings: GeneticSettings,
    rng: np.random.Generator,
    num_blocks: int = 1,
    evolve: Evolution = genetic_search,
    lineage: Optional[Lineage] = None,
) -> Search:
    """Search block choices with the channel choices fixed, then channel choices with the best block choices fixed.

    The first stage takes half of the iterations, the channels of the `num_blocks` best share the rest. What the first
    stage has scored is not scored again, and competes in the second.

    Args:
        domain: its fixed channel choices, if any, are those of the first stage only.
        num_blocks: how many block choices (one for every choice block, together) go to the second stage.
    Raises: InputError if the iterations do not suffice, or if nothing keeps the constraints in the first stage.
    """
    iterations = share_iterations(settings.num_iterations, num_blocks)
    return _two_stages(first_stage(domain), settings, rng, iterations, evolve, lineage)


def _two_stages(
    domain: Domain,
    settings: GeneticSettings,
    rng: np.random.Generator,
    iterations: List[int],
    evolve: Evolution,
    lineage: Optional[Lineage],
) -> Search:
    seen: Scores = {}
    yield from evolve(domain, replace(settings, num_iterations=iterations[0]), rng, seen=seen, lineage=lineage)
    best = sorted(seen, key=seen.__getitem__, reverse=True)
    for architecture, num_iterations in zip(best, iterations[1:]):
        second = replace(domain, fixed_block_choices=architecture.block_choices, fixed_channel_choices=None)
        yield from evolve(second, replace(settings, num_iterations=num_iterations), rng, seen=seen, lineage=lineage)


def share_iterations(num_iterations: int, num_blocks: int) -> List[int]:
    """Iterations of the first stage, then of the second for each of the best block choices."""
    if num_iterations < 1 + num_blocks:
        raise InputError(
            f"--search-iters {num_iterations} is too few for two stages with --two-stage-blocks {num_blocks}; "
            f"it must be at least {1 + num_blocks}"
        )
    first = min((num_iterations + 1) // 2, num_iterations - num_blocks)
    each, more = divmod(num_iterations - first, num_blocks)
    return [first, *(each + (i < more) for i in range(num_blocks))]


def first_stage(domain: Domain) -> Domain:
    """The domain with channel choices fixed: its own, or the same choice everywhere.

    That is the one of scale 1, or nearest to it, as far as the constraints can be kept with it; else the widest one.
    """
    if domain.fixed_channel_choices is not None:
        return domain
    space = domain.space
    places = range(space.num_choice_blocks)
    plain = tuple(min(space.channel_choices(index)[::-1], key=partial(_from_plain, space, index)) for index in places)
    levels = range(space.max_channel_choice, space.min_channel_choice - 1, -1)
    uniform = (tuple(space.channel_choices(index, level).start for index in places) for level in levels)
    for choices in (plain, *uniform):
        stage = replace(domain, fixed_channel_choices=choices)
        if _is_possible(stage):
            return stage
    raise InputError(
        "with the same channel choice in every choice block, no architecture keeps "
        f"{' and '.join(map(str, domain.constraints.limits()))}; give --fixed-channel-choices for the first stage"
    )


def _from_plain(space: SearchSpace, index: int, channel_choice: int) -> float:
    """How far a width is from scale 1."""
    return abs(space.choices[index].channel_scales[channel_choice] - PLAIN_SCALE)


def _is_possible(domain: Domain) -> bool:
    try:
        domain.check()
    except InputError:
        return False
    return True
