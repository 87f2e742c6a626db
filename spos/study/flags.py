"""Flags of the studies that train networks alone."""

from __future__ import annotations

from dataclasses import dataclass

from spos.core.errors import InputError
from spos.core.flags import flag, fraction, not_negative, not_negative_number, positive


@dataclass(frozen=True)
class ComparisonOptions:
    """How searches are compared."""

    evaluations: int = flag(500, "architectures a search scores", type=positive)
    noise: float = flag(0.0, "standard deviation, added to the additive fitness", type=not_negative_number)
    seeds: int = flag(20, "seeds, at least 2", type=positive)
    seed: int = flag(0, "the first of them", type=not_negative)

    @property
    def all_seeds(self) -> range:
        """Raises: InputError if they are too few for an interval."""
        check_seeds(self.seeds)
        return range(self.seed, self.seed + self.seeds)


def check_seeds(count: int) -> None:
    """Raise InputError if so many seeds are too few for an interval."""
    if count < 2:
        raise InputError("--seeds must be at least 2: an interval needs more than one")


@dataclass(frozen=True)
class AloneOptions:
    """What is trained, and how many networks at a time."""

    save_dir: str = flag("runs/alone", "folder of the results")
    seeds: int = flag(1, "seeds that each is trained with, from 0; the mean of their accuracies counts", type=positive)
    seed: int = flag(0, "of everything that is drawn", type=not_negative)
    jobs: int = flag(1, "trainings, and processes that score, at a time", type=positive)


@dataclass(frozen=True)
class RecipeOptions(AloneOptions):
    """One network, trained by several recipes."""

    architecture: str = flag("oneshot-s+", "published name, or an architecture file")
    save_dir: str = flag("runs/recipes", "folder of the results")
    seeds: int = flag(3, "seeds that each recipe is tried with, at least 2", type=positive)
    seed: int = flag(0, "the first of them", type=not_negative)


@dataclass(frozen=True)
class RankingOptions(AloneOptions):
    """Which architectures are trained alone, and how many at a time."""

    save_dir: str = flag("runs/rank-correlation", "folder of the results")
    num_architectures: int = flag(40, "architectures, a multiple of --strata", type=positive)
    strata: int = flag(5, "strata of FLOPs", type=positive)
    batch_size: int = flag(250, "images in a step of scoring", type=positive)
    refit_classifier: int = flag(
        0,
        "training images that each path gets a classifier of its own by (0: the supernet's)",
        type=not_negative,
    )


@dataclass(frozen=True)
class MatchOptions(AloneOptions):
    """Searched architectures and random ones beside them, and how many networks are trained at a time."""

    save_dir: str = flag("runs/searched-against-random", "folder of the results")
    num_random: int = flag(10, "random architectures in all", type=positive)
    tolerance: float = flag(0.01, "by how much their FLOPs may differ from the searched one's, relative", type=fraction)
    seeds: int = flag(3, "seeds that each network is trained with, from 0; at least 2", type=positive)


@dataclass(frozen=True)
class FinalsOptions(AloneOptions):
    """How what finals have found is trained, with a recipe behind --."""

    save_dir: str = flag("runs/finals", "folder of the results")
    seeds: int = flag(3, "seeds that each network is trained with, at least 2", type=positive)
    seed: int = flag(0, "the first of them", type=not_negative)
