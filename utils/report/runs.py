"""The runs of a report: every file read once, and a sentence for each that is missing or damaged."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from spos.core.errors import InputError
from spos.runs.journal import read_rows
from spos.runs.run import (
    BEST_FILE,
    BN_UPDATE_FILE,
    HISTORY_FILE,
    KINDS,
    LOG_FILE,
    SEARCH_RUN,
    SUBNET_RUN,
    BnUpdateRow,
    Rows,
    RunDirectory,
    open_run_directory,
)
from spos.search.ancestry import Ancestry, replay
from spos.search.choice import HeldChoice
from spos.search.finals import HeldFinals, chosen_of, read_choice, read_finals
from spos.search.history import NEEDED, History, Row, is_complete, read_search_rows
from spos.search.report import SearchLogRow
from spos.space.architecture import Architecture, architecture_of
from spos.space.architecture_file import ArchitectureRecord, parse_architecture
from spos.space.flags import space_of_run
from spos.space.space import SearchSpace
from spos.training.log import EpochRow, is_over
from utils.plot.training import Run, phases

OF_A_ROW = (*NEEDED, "block_choices", "channel_choices")
OF_AN_UPDATE = ("block_choices", "channel_choices", "num_bn_images", "top1")
OF_AN_EPOCH = ("epoch", "loss", "top1")


@dataclass
class ReportedRun:
    """A run directory with the rows of its journals.

    Args:
        name: of its folder, or its path where two have one name.
        remarks: sentences about what is missing or damaged, by file.
    """

    run: RunDirectory
    name: str
    log: Rows = field(default_factory=list)
    history: Rows = field(default_factory=list)
    search_log: Rows = field(default_factory=list)
    bn_updates: Rows = field(default_factory=list)
    remarks: Dict[str, str] = field(default_factory=dict)
    space: Optional[SearchSpace] = None

    @property
    def kind(self) -> str:
        return self.run.kind

    @property
    def num_epochs(self) -> int:
        """As planned."""
        return int(self.run.options.get("num_epochs", 0))

    @property
    def training(self) -> Run:
        return Run(self.name, self.log, phases(self.run.config, len(self.log), str(self.run.path)))

    @property
    def last_validated(self) -> Optional[Dict[str, Any]]:
        return next((row for row in reversed(self.log) if "val_top1" in row), None)

    @property
    def best(self) -> Optional[Row]:
        """Of a search: the row of highest fitness so far."""
        return self.searched.best if self.history else None

    @property
    def is_finished(self) -> bool:
        if self.kind == SEARCH_RUN:
            return (self.run.path / BEST_FILE).is_file()
        return 0 < self.num_epochs <= len(self.log) or self.ended_early

    @property
    def ended_early(self) -> bool:
        """Whether a training ended before its last epoch, by --patience."""
        return len(self.log) < self.num_epochs and is_over(self.log, int(self.run.options.get("patience", 0)))

    @property
    def searched(self) -> History:
        return History(self.name, self.history)

    @property
    def finals(self) -> Optional[HeldFinals]:
        """Of a search that has ended with finals."""
        return read_finals(self.run.path / BEST_FILE) if self.kind == SEARCH_RUN else None

    @property
    def choice(self) -> Optional[HeldChoice]:
        """Of a search that has ended, if a model of its scores has chosen."""
        return read_choice(self.run.path / BEST_FILE) if self.kind == SEARCH_RUN else None

    @property
    def chosen(self) -> Optional[Row]:
        """Of a search: who was left by the finals, else chosen by a model, else the best so far."""
        return chosen_of(self.run.path / BEST_FILE, self.history) if self.history else None

    def architecture(self) -> Optional[Tuple[SearchSpace, Architecture]]:
        """Of a search who was chosen, of a subnet the one that is trained; in the space of its input size."""
        if self.kind == SEARCH_RUN and self.chosen and self.space:
            chosen = ArchitectureRecord(self.space, architecture_of(self.chosen), {}).at_its_size
            return chosen.space, chosen.architecture
        record = self.trained_record() if self.kind == SUBNET_RUN else None
        return (self.space or record.space, record.architecture) if record else None

    def trained_record(self) -> Optional[ArchitectureRecord]:
        described = self.run.config.get("architecture")
        try:
            return parse_architecture(described, str(self.run.path)) if described else None
        except InputError as error:
            self.remarks["architecture"] = str(error)
            return None

    def ancestry(self) -> Ancestry:
        """Raises InputError that says why parents cannot be told."""
        try:
            return replay(self.run, self.history)
        except KeyError as error:
            raise InputError(f"config.json tells no {error}") from None


def load_runs(paths: Sequence[Path]) -> List[ReportedRun]:
    """In the order of a pipeline. Raises InputError if a folder is no run."""
    runs = [open_run_directory(path) for path in dict.fromkeys(paths)]
    names = [run.name for run in runs]
    loaded = [_load(run, str(run.path) if names.count(run.name) > 1 else run.name) for run in runs]
    return sorted(loaded, key=lambda run: KINDS.index(run.kind))


def _load(run: RunDirectory, name: str) -> ReportedRun:
    loaded = ReportedRun(run, name)
    try:
        loaded.space = space_of_run(run)
    except InputError as error:
        loaded.remarks["space"] = str(error)
    if run.kind == SEARCH_RUN:
        loaded.history = _rows(loaded, HISTORY_FILE, read_search_rows, OF_A_ROW)
        loaded.search_log = _rows(loaded, LOG_FILE, partial(read_rows, schema=SearchLogRow), ())
        if loaded.history and not any(map(is_complete, loaded.history)):
            loaded.remarks[HISTORY_FILE] = "No candidate has been scored on all images so far."
            loaded.history = []
    else:
        loaded.log = _rows(loaded, LOG_FILE, partial(read_rows, schema=EpochRow), OF_AN_EPOCH)
    loaded.bn_updates = _rows(loaded, BN_UPDATE_FILE, partial(read_rows, schema=BnUpdateRow), OF_AN_UPDATE)
    return loaded


def _rows(loaded: ReportedRun, file_name: str, read: Callable[[Path], Rows], needed: Sequence[str]) -> Rows:
    """The rows of a journal; a remark instead of an error where it is damaged."""
    try:
        rows = read(loaded.run.path / file_name)
    except InputError as error:
        loaded.remarks[file_name] = f"{error}."
        return []
    wrong = _first_wrong(rows, needed, loaded.space)
    if wrong:
        loaded.remarks[file_name] = f"{file_name} cannot be shown: {wrong}."
        return []
    path = loaded.run.path / file_name
    if path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size:
        loaded.remarks[file_name] = f"The last line of {file_name} was cut short when the program was killed; left out."
    return rows


def _first_wrong(rows: Sequence[Mapping[str, Any]], needed: Sequence[str], space: Optional[SearchSpace]) -> str:
    """What is wrong with the first row that cannot be shown; empty if all can."""
    for number, row in enumerate(rows, 1):
        missing = [key for key in needed if key not in row]
        if missing:
            return f"line {number} lacks {', '.join(missing)}"
        if space and "block_choices" in needed:
            try:
                space.validate(architecture_of(row))
            except InputError as error:
                return f"line {number}: {error}"
    return ""
