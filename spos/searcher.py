"""Runs a search: scores what the strategy asks for, records every score, and goes on where it was stopped.

The strategy's decisions depend on the seed and the scores alone. So a stopped search is resumed by running it again
from the start with the recorded scores: nothing is evaluated twice, and no population has to be saved.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from tqdm import tqdm

from spos.domain import Domain
from spos.errors import InputError
from spos.evolution import Search
from spos.records import ArchitectureRecord, Journal
from spos.search_space import Architecture

TARGETS = ("acc", "balanced_flop_acc")


@dataclass(frozen=True)
class Target:
    """What is maximised: accuracy, or accuracy - ratio x combined score."""

    name: str = "acc"
    score_acc_ratio: float = 0.0

    def fitness(self, top1: float, combined_score: float) -> float:
        return top1 if self.name == "acc" else top1 - self.score_acc_ratio * combined_score


@dataclass
class Searcher:
    """One search over a domain.

    Args:
        evaluate: accuracy of an architecture, with `to_json()` that has `top1` and `top1_interval`.
        history: rows already there are used instead of evaluating again.
        report: called with (iteration, rows of the iteration) after each.
    """

    domain: Domain
    target: Target
    evaluate: Callable[[Architecture], Any]
    history: Journal
    report: Callable[[int, List[Dict[str, Any]]], None] = lambda iteration, rows: None

    def run(self, search: Search) -> List[Dict[str, Any]]:
        """Drive a strategy to its end. Returns all rows of the history."""
        known = {_architecture(row): row for row in self.history.rows}
        iteration, generation = 0, next(search, None)
        while generation is not None:
            rows = self._score(iteration, generation, known)
            self.report(iteration, rows)
            try:
                generation = search.send([row["fitness"] for row in rows])
            except StopIteration:
                break
            iteration += 1
        if not self.history.rows:
            raise InputError("the search found no architecture to score")
        return self.history.rows

    def _score(
        self, iteration: int, generation: Sequence[Architecture], known: Mapping[Architecture, Dict[str, Any]]
    ) -> List[Dict[str, Any]]:
        rows = []
        for architecture in tqdm(
            generation, desc=f"iteration {iteration}", unit="arch", disable=not sys.stderr.isatty(), leave=False
        ):
            row = known.get(architecture)
            if row is None:
                row = self._row(iteration, architecture)
                self.history.append(row)
            rows.append(row)
        return rows

    def _row(self, iteration: int, architecture: Architecture) -> Dict[str, Any]:
        """Evaluate an architecture and describe it completely."""
        accuracy = self.evaluate(architecture).to_json()
        cost = self.domain.cost_fields(architecture)
        return {
            "evaluation": len(self.history.rows),
            "iteration": iteration,
            "block_choices": list(architecture.block_choices),
            "channel_choices": list(architecture.channel_choices),
            **cost,
            "fitness": self.target.fitness(accuracy["top1"], cost["score"]),
            **accuracy,
        }


def _architecture(row: Mapping[str, Any]) -> Architecture:
    return Architecture(tuple(row["block_choices"]), tuple(row["channel_choices"]))


def best_rows(rows: Sequence[Dict[str, Any]], count: int) -> List[Dict[str, Any]]:
    """The rows of highest fitness, best first; of equals, the one evaluated first."""
    return sorted(rows, key=lambda row: (-row["fitness"], row["evaluation"]))[:count]


def num_ties(rows: Sequence[Dict[str, Any]], best: Dict[str, Any]) -> int:
    """How many others the images cannot tell from the best: their interval reaches the best's accuracy."""
    return sum(row is not best and row["top1_interval"][1] >= best["top1"] for row in rows)


def mean_of_random(rows: Sequence[Dict[str, Any]]) -> Tuple[int, float]:
    """(count, mean top-1) of the architectures of the first iteration, which are drawn at random."""
    first = [row["top1"] for row in rows if row["iteration"] == 0]
    return len(first), sum(first) / len(first)


def best_record(
    domain: Domain, row: Mapping[str, Any], origin: Mapping[str, Any], name: Optional[str] = None
) -> ArchitectureRecord:
    """An architecture file's content for a row of the history: the searched accuracy and where it came from."""
    accuracy = {key: row[key] for key in ("top1", "top5", "top1_interval", "top1_hits", "num_images")}
    more = {
        "name": name or "searched",
        "fitness": row["fitness"],
        "score": row["score"],
        **{key: row[key] for key in ("latency_ms",) if key in row},
        "searched_accuracy": accuracy,
        "evaluation": row["evaluation"],
        "iteration": row["iteration"],
        "origin": dict(origin),
    }
    return ArchitectureRecord(domain.space, _architecture(row), more)
