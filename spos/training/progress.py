"""Progress of a training: where it stands, and how that is kept and told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional

from spos.core.stopping import StopRequest
from spos.engine.compat import mx
from spos.training.checkpoint import save_checkpoint
from spos.training.meter import Meter

if TYPE_CHECKING:
    from spos.training.averaging import WeightAverage

Row = Dict[str, Any]  # of `log.jsonl`


@dataclass(frozen=True)
class Progress:
    """Where a training stands: finished epochs, steps done of the next one, and what they measured."""

    epoch: int = 0
    step: int = 0
    meter: Meter = field(default_factory=Meter)


@dataclass(frozen=True)
class Run:
    """How a training is kept: its folder, its log, its checkpoints, and the request to stop it.

    Args:
        log: called with the row of every finished epoch.
        validate: metrics to log for an epoch (called at its end), or an empty dict.
        save_frequency: epochs between checkpoints.    save_steps: steps between checkpoints in an epoch, 0 for none.
        keep_checkpoints: older ones go.
        log_interval: steps between lines of progress when output is no terminal.
        is_over: whether no further epoch is to follow, by what the log says.
    """

    folder: Path
    log: Callable[[Row], None] = lambda row: None
    validate: Callable[[int], Row] = lambda epoch: {}
    save_frequency: int = 1
    save_steps: int = 0
    keep_checkpoints: int = 2
    log_interval: int = 50
    is_over: Callable[[], bool] = lambda: False
    stop: StopRequest = field(default_factory=StopRequest)

    def save(
        self,
        progress: Progress,
        net: mx.gluon.Block,
        states: Mapping[str, Any],
        average: Optional[WeightAverage] = None,
    ) -> None:
        """Write a checkpoint.

        Args:
            states: of the optimizer, by name.
        """
        state = {"meter": progress.meter.to_json() if progress.step else {}}
        keep = self.keep_checkpoints
        save_checkpoint(self.folder, progress.epoch, progress.step, net, states, state, keep, average)
