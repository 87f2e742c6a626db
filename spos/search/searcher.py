"""The searcher: hands out what the strategy asks for, records every score, and goes on where it was stopped.

The strategy's decisions depend on the seed and the scores alone, and a generation is decided before any of it is
handed out. So a stopped search is resumed by running it again from the start with the recorded scores: nothing is
evaluated twice, no population has to be saved, and any number of workers gives the same history.

Scores come in any order and are recorded in the order of the generation. What comes before its turn waits in a
second journal, `arrived.jsonl`, which is empty between generations.
"""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from spos.core.errors import InputError
from spos.core.executors import EmbeddedExecutor
from spos.core.progress import progress_bar
from spos.core.stopping import StopRequest
from spos.runs.journal import Journal
from spos.scoring.racing import Race, Racing
from spos.search.domain import Domain
from spos.search.evolution import Search, drive
from spos.search.history import REMEDY, TOLERANCE, Row, fitness_of, is_complete, scores_of
from spos.space.architecture import Architecture, architecture_of, choices_of, format_choices

TARGETS = ("acc", "balanced_flop_acc")  # that a search may maximise
# In a race, candidate j has to beat what is known when all up to j - WINDOW have been scored. A constant, so that the
# history does not depend on the number of workers; more workers than this are never busy at once while racing.
WINDOW = 8


@dataclass(frozen=True)
class Target:
    """What is maximised: accuracy, or accuracy - ratio x combined score."""

    name: str = "acc"
    score_acc_ratio: float = 0.0

    def fitness(self, top1: float, combined_score: float) -> float:
        return top1 if self.name == "acc" else top1 - self.score_acc_ratio * combined_score


@dataclass(frozen=True)
class Progress:
    """One iteration: its rows, and how many of them were evaluated now, not read from a journal."""

    iteration: int
    rows: List[Row]
    evaluations: int
    seconds: float


@dataclass
class _Generation:
    """The generation in work: rows in order, scores before their turn, and what is out."""

    iteration: int
    architectures: Sequence[Architecture]
    rows: List[Row] = field(default_factory=list)
    scores: Dict[int, Dict[str, Any]] = field(default_factory=dict)
    out: Dict[Future, int] = field(default_factory=dict)
    races: Dict[int, Optional[Race]] = field(default_factory=dict)
    num_handed_out: int = 0


@dataclass
class Searcher:
    """One search over a domain.

    Args:
        score: accuracy of an architecture, with `to_json()` that has SCORES; of fewer images than the race has
            if it was lost. Sent to the executor, so a module's function or a `partial` of one.
        history: rows already there are used instead of evaluating again.
        arrived: scores that wait for their turn in the history.
        executor: runs `score`; `max_in_flight` of it limits what is handed out at a time.
        identity: what every row says about where it is from.
        racing: how to drop candidates early; None: score everything on all images.
        prior: scores of an older search (SCORES), taken over when the strategy asks for the architecture.
        stop: a signal ends the search where it waits, never while it records.
        report: called after each iteration.
    """

    domain: Domain
    target: Target
    score: Callable[[Architecture, Optional[Race]], Any]
    history: Journal
    arrived: Journal
    executor: Executor = field(default_factory=EmbeddedExecutor)
    identity: Mapping[str, str] = field(default_factory=dict)
    racing: Optional[Racing] = None
    prior: Mapping[Architecture, Dict[str, Any]] = field(default_factory=dict)
    stop: StopRequest = field(default_factory=StopRequest)
    report: Callable[[Progress], None] = lambda progress: None

    def run(self, search: Search) -> List[Row]:
        """Drive a strategy to its end. Returns all rows of the history."""
        self.check_history()
        self._known = {architecture_of(row): row for row in self.history.rows}
        self._early = {architecture_of(row): _scores_in(row) for row in self.arrived.rows}
        self._complete: List[Row] = []  # what was visited so far and scored on all images
        self._num_generations = 0
        drive(search, self._fitness_of)
        if not self.history.rows:
            raise InputError("the search found no architecture to score")
        self.history.check_place()
        return self.history.rows

    def check_history(self) -> None:
        """Raise InputError if a row that is there has other numbers than this search would have written."""
        for row in self.history.rows:
            own = self.domain.cost_fields(self.domain.space.validate(architecture_of(row), str(self.history.path)))
            own["fitness"] = self.target.fitness(row["top1"], own["score"])
            for key, value in own.items():
                if abs(row.get(key, value) - value) > TOLERANCE * max(1.0, abs(value)):
                    raise InputError(
                        f"{self.history.path} line {row['evaluation'] + 1} has {key} {row[key]}, this search gives it "
                        f"{value}; {REMEDY}"
                    )

    def _fitness_of(self, architectures: List[Architecture]) -> List[float]:
        """Fitness of the next generation, as the strategy is sent it: what was dropped is worse than anything."""
        self.report(self._run_generation(_Generation(self._num_generations, architectures)))
        self._num_generations += 1
        return [fitness_of(self._known[architecture]) for architecture in architectures]

    def _run_generation(self, generation: _Generation) -> Progress:
        """Hand out, collect and record all of a generation."""
        started, evaluations = time.monotonic(), 0
        architectures, rows = generation.architectures, generation.rows
        bar = partial(progress_bar, desc=f"iteration {generation.iteration}", unit="arch")
        try:
            with bar(total=len(architectures)) as progress:
                while len(rows) < len(architectures):
                    if architectures[len(rows)] in self._known or len(rows) in generation.scores:
                        rows.append(self._record(generation))
                        progress.update()
                        continue
                    self._hand_out(generation)
                    if generation.out:
                        evaluations += self._collect(generation)
        except BaseException:
            self._keep_what_is_done(generation)
            raise
        self._complete += filter(is_complete, rows)
        if self.arrived.rows and all(architecture_of(row) in self._known for row in self.arrived.rows):
            self.arrived.clear()
        return Progress(generation.iteration, rows, evaluations, time.monotonic() - started)

    def _hand_out(self, generation: _Generation) -> None:
        """Submit what may be submitted now; scores that are known already need no evaluation."""
        most = getattr(self.executor, "max_in_flight", len(generation.architectures))
        ahead = WINDOW if self.racing else len(generation.architectures)
        last = min(len(generation.architectures), len(generation.rows) + ahead)
        while generation.num_handed_out < last and len(generation.out) < most:
            index = generation.num_handed_out
            architecture = generation.architectures[index]
            generation.num_handed_out += 1
            if architecture in self._known:
                continue
            if architecture in self._early or architecture in self.prior:
                generation.scores[index] = self._early.get(architecture) or _taken_over(self.prior[architecture])
                continue
            race = generation.races[index] = self._race(architecture, generation.rows[: max(0, index - WINDOW + 1)])
            with self.stop.at_once():
                generation.out[self.executor.submit(self.score, architecture, race)] = index

    def _race(self, architecture: Architecture, before: Sequence[Row]) -> Optional[Race]:
        """What a candidate has to reach, given earlier generations and these rows of its own."""
        complete = self._complete + list(filter(is_complete, before))
        if self.racing is None or not complete:
            return None
        own_fitness = partial(self.target.fitness, combined_score=self.domain.cost_fields(architecture)["score"])
        return self.racing.race([row["fitness"] for row in complete], complete[-1]["num_images"], own_fitness)

    def _collect(self, generation: _Generation) -> int:
        """Wait for scores; those that are not recorded at once go to the second journal. Returns how many."""
        with self.stop.at_once():
            done, _ = wait(generation.out, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=generation.out.__getitem__):
            index = generation.out[future]
            generation.scores[index] = self._scores_of(future, index, generation)
            del generation.out[future]
            if index > len(generation.rows) or len(done) > 1:
                self._keep(index, generation)
        return len(done)

    def _scores_of(self, future: Future, index: int, generation: _Generation) -> Dict[str, Any]:
        try:
            scores = future.result().to_json()
        except BrokenExecutor as error:
            architecture = generation.architectures[index]
            at_size = f" at {architecture.input_size} px" if architecture.input_size else ""
            raise InputError(
                f"architecture with block choices {format_choices(architecture.block_choices)} and channel choices "
                f"{format_choices(architecture.channel_choices)}{at_size} cannot be scored: {error}. Is memory short?"
            ) from None
        race = generation.races[index]
        return {**scores, "dropped": True} if race and scores["num_images"] < race.num_images else scores

    def _keep(self, index: int, generation: _Generation) -> None:
        self.arrived.append({**choices_of(generation.architectures[index]), **generation.scores[index]})

    def _keep_what_is_done(self, generation: _Generation) -> None:
        """Before the search ends early: no finished evaluation is lost."""
        for future, index in generation.out.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                generation.scores[index] = self._scores_of(future, index, generation)
                self._keep(index, generation)

    def _record(self, generation: _Generation) -> Row:
        """The row whose turn it is, from the history or written to it."""
        index = len(generation.rows)
        architecture = generation.architectures[index]
        if architecture not in self._known:
            self._known[architecture] = self._row(generation.iteration, architecture, generation.scores.pop(index))
            self.history.append(self._known[architecture])
        return self._known[architecture]

    def _row(self, iteration: int, architecture: Architecture, scores: Mapping[str, Any]) -> Row:
        """Describe an evaluation completely."""
        cost = self.domain.cost_fields(architecture)
        return {
            "evaluation": len(self.history.rows),
            "iteration": iteration,
            **choices_of(architecture),
            **cost,
            "fitness": self.target.fitness(scores["top1"], cost["score"]),
            **scores,
            **self.identity,
        }


def _scores_in(row: Mapping[str, Any]) -> Dict[str, Any]:
    """What a row of `arrived` says beside its architecture, in its order."""
    choices = choices_of(architecture_of(row))
    return {key: value for key, value in row.items() if key not in choices}


def _taken_over(scores: Mapping[str, Any]) -> Dict[str, Any]:
    return {**scores_of(scores), "from_history": True}
