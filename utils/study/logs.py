"""The logs of a study (docs/study.md), read from one folder as scripts/study_cifar10.sh lays them out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from spos.core.errors import InputError
from spos.core.ranking import Correlation, Ranked, correlate
from spos.core.seeds import derive_rng
from spos.runs.files import read_json
from spos.runs.journal import read_rows
from spos.runs.run import BEST_FILE, BN_UPDATE_FILE, CONFIG_FILE, HISTORY_FILE, LOG_FILE, BnUpdateRow, ConfigShape
from spos.scoring.many import SCORES_FILE, ScoreRow
from spos.search.history import NeededRow, read_search_rows
from spos.search.report import SearchLogRow
from spos.space.architecture import Architecture, architecture_of
from spos.space.space import SearchSpace
from spos.space.space_file import described_space
from spos.study.alone import ALONE_FILE, AloneRow, first_rows
from spos.study.rank import FLOPS, means, rank
from spos.study.truth import TRUTH_FILE, TruthRow
from spos.training.log import SECONDS_OF_AN_HOUR, EpochRow, training_hours
from spos.training.strategies import NUM_RANDOM_WIDTHS

Row = Mapping[str, Any]
NUM_TRAIN = 50_000  # training images of CIFAR-10, of which a supernet holds some out
STRATEGIES_FILE = "strategies.json"
SUPERNETS, RANKING, CURVE, SEARCHED, SEARCH = "supernets", "ranking", "curve", "searched", "search-*"
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class SupernetLog:
    """A supernet's training, as its run directory tells it."""

    name: str
    options: Mapping[str, Any]
    space: SearchSpace
    rows: List[Dict[str, Any]]

    @property
    def seed(self) -> int:
        return self.options["seed"]

    @property
    def kind(self) -> str:
        """How it was trained: its name without the seed."""
        return self.name.rpartition("-")[0]

    @property
    def num_updates(self) -> int:
        """Optimizer steps in all."""
        options = self.options
        num_train = NUM_TRAIN - options["holdout"] - options["update_bn_images"]
        batches = num_train // options["batch_size"] // options["reduced_dataset_scale"]
        return options["num_epochs"] * batches

    @property
    def num_passes(self) -> int:
        """Forward and backward passes of an image in all."""
        of_a_step = {
            "uniform": 1,
            "fair": self.space.num_block_choices,
            "sandwich": 2 + NUM_RANDOM_WIDTHS,
        }
        return self.num_updates * self.options["batch_size"] * of_a_step[self.options["sampling"]]

    @property
    def hours(self) -> float:
        """Of training, by the speeds of its epochs."""
        images = self.num_updates * self.options["batch_size"] / len(self.rows)
        return training_hours(self.rows, images)


@dataclass(frozen=True)
class SearchLog:
    """A search, as its run directory tells it."""

    name: str
    options: Mapping[str, Any]
    rows: List[Dict[str, Any]]
    best: Mapping[str, Any]
    hours: float


@dataclass(frozen=True)
class Study:
    """Everything that figures and tables are made of. What a study has not come to yet is empty.

    Attributes:
        alone: accuracies of networks trained alone: here, or by others.
    """

    supernets: List[SupernetLog]
    alone: List[Dict[str, Any]]
    scores: Dict[str, List[Dict[str, Any]]]  # by supernet, in the order of `architectures`
    bn_rows: List[Dict[str, Any]]
    strategies: Optional[Dict[str, Any]]
    searches: List[SearchLog]
    searched: List[Dict[str, Any]]
    curve: Optional[Study] = None  # a supernet after some of its epochs, by fewer networks

    @cached_property
    def ranked(self) -> Ranked:
        """The networks trained alone beside what supernets, means of seeds, FLOPs and params say of them."""
        ranked = rank(self.alone, self.scores, self.supernets[0].space)
        predictors: Dict[str, np.ndarray] = {}
        for kind, names in self._kinds.items():
            predictors.update(means(ranked, names, f"{kind}, mean of {len(names)}"))
        return replace(ranked, predictors={**predictors, **ranked.predictors})

    @property
    def _kinds(self) -> Dict[str, List[str]]:
        """Names of scores by kind of supernet, of those kinds that several seeds have scored."""
        kinds: Dict[str, List[str]] = {}
        for supernet in self.supernets:
            for name in self.scores:
                own, slash, file = name.partition("/")
                if own == supernet.name:
                    kinds.setdefault(supernet.kind + slash + file, []).append(name)
        return {kind: names for kind, names in kinds.items() if len(names) > 1}

    @cached_property
    def correlations(self) -> Dict[str, Correlation]:
        """Of all supernets, FLOPs and params, with the intervals of a fixed seed."""
        return correlate(self.ranked, FLOPS, derive_rng(BOOTSTRAP_SEED, "bootstrap"))

    @property
    def is_of_others(self) -> bool:
        """Whether the networks alone were trained by others, whose table was read."""
        return "seconds" not in self.alone[0]

    @property
    def architectures(self) -> Dict[Architecture, None]:
        return dict.fromkeys(first_rows(self.alone))


def load_study(folder: Path) -> Study:
    """Raises: InputError if the folder holds nothing of a study, or a part of one that is damaged."""
    supernets = [_load_supernet(run) for run in sorted((folder / SUPERNETS).glob("*")) if run.is_dir()]
    alone = read_rows(folder / RANKING / ALONE_FILE, AloneRow) or read_rows(folder / RANKING / TRUTH_FILE, TruthRow)
    if not supernets or not alone:
        raise InputError(
            f"{folder} holds no logs of a study: {SUPERNETS}/, or {RANKING}/{ALONE_FILE} and {TRUTH_FILE}, are missing"
        )
    strategies = folder / STRATEGIES_FILE
    return Study(
        supernets,
        alone,
        _scores(read_rows(folder / RANKING / SCORES_FILE, ScoreRow), alone),
        read_rows(folder / BN_UPDATE_FILE, BnUpdateRow),
        read_json(strategies) if strategies.is_file() else None,
        [_load_search(run) for run in sorted(folder.glob(SEARCH)) if run.is_dir()],
        read_rows(folder / SEARCHED / ALONE_FILE, AloneRow),
        _load_curve(folder / CURVE, supernets),
    )


def _load_curve(folder: Path, supernets: List[SupernetLog]) -> Optional[Study]:
    alone = read_rows(folder / TRUTH_FILE, TruthRow)
    scores = _scores(read_rows(folder / SCORES_FILE, ScoreRow), alone)
    return Study(supernets, alone, scores, [], None, [], []) if alone else None


def _load_supernet(run: Path) -> SupernetLog:
    config = read_json(run / CONFIG_FILE, ConfigShape)
    space = described_space(config, str(run))
    return SupernetLog(run.name, config["options"], space, read_rows(run / LOG_FILE, EpochRow))


def _load_search(run: Path) -> SearchLog:
    config, log = read_json(run / CONFIG_FILE, ConfigShape), read_rows(run / LOG_FILE, SearchLogRow)
    hours = sum(row["seconds"] for row in log) / SECONDS_OF_AN_HOUR
    return SearchLog(
        run.name, config["options"], read_search_rows(run / HISTORY_FILE, NeededRow), read_json(run / BEST_FILE), hours
    )


def _scores(rows: List[Dict[str, Any]], alone: List[Dict[str, Any]]) -> Dict[str, List[Dict[str, Any]]]:
    """Complete rows by supernet, in the order of the networks trained alone; supernets by name."""
    wanted = first_rows(alone)
    by_name: Dict[str, Dict[Architecture, Dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["name"], {})[architecture_of(row)] = row
    return {
        name: [own[one] for one in wanted] for name, own in sorted(by_name.items()) if all(one in own for one in wanted)
    }


def by_bn_count(study: Study) -> Dict[int, np.ndarray]:
    """Top-1 of the architectures of the ranking, in its order, by the number of images of the BatchNorm update."""
    counts: Dict[int, Dict[Architecture, float]] = {}
    for row in study.bn_rows:
        counts.setdefault(row["num_bn_images"], {})[architecture_of(row)] = row["top1"]
    return {
        count: np.array([own[one] for one in study.architectures])
        for count, own in sorted(counts.items())
        if all(one in own for one in study.architectures)
    }
