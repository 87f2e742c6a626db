"""Log of a run while it goes: a line per epoch, on the terminal, in a text log and in `log.jsonl`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import harmonic_mean
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

from msgspec import UNSET, Meta, Struct, UnsetType
from typing_extensions import Annotated

from spos.core.errors import InputError, naming, warn
from spos.core.installation import install_command
from spos.core.progress import progress_bar
from spos.runs.files import PathLike, check_output
from spos.runs.journal import Journal
from spos.runs.schema import Count, NotNegative, Positive, Share

SECONDS_OF_AN_HOUR = 3600
SHORTEST_SECONDS = 1e-9  # that go by, for clocks that stand still


class EpochRow(Struct):
    """A row of `log.jsonl`: an epoch, and what its validation gave if there was one."""

    epoch: Count
    loss: float
    top1: Share
    top5: Union[Share, UnsetType] = UNSET
    lr: Union[NotNegative, UnsetType] = UNSET
    images_per_second: Union[NotNegative, UnsetType] = UNSET
    val_top1: Union[Share, UnsetType] = UNSET
    val_top5: Union[Share, UnsetType] = UNSET
    val_images: Union[Positive, UnsetType] = UNSET
    ema_top1: Union[Share, UnsetType] = UNSET
    val_top1_each: Union[Annotated[List[Share], Meta(max_length=100_000)], UnsetType] = UNSET
    undecodable_images: Union[List[str], UnsetType] = UNSET


def validated_top1(row: Mapping[str, Any]) -> Optional[float]:
    """What the validation of an epoch counts for: of the averaged weights, where there are; None without one."""
    return row.get("ema_top1", row.get("val_top1"))


def is_over(rows: Sequence[Mapping[str, Any]], patience: int) -> bool:
    """Whether none of the last `patience` validations (0: any number) was better than the best before them.

    Args:
        rows: of a log.
    """
    top1 = [value for value in map(validated_top1, rows) if value is not None]
    return 0 < patience < len(top1) and max(top1[-patience:]) <= max(top1[:-patience])


def training_hours(rows: Sequence[Mapping[str, Any]], num_images: float) -> float:
    """Of epochs of so many images, by their speeds. One that tells none, for it was stopped at its end, took the mean.

    Args:
        rows: of a log.
    Raises: InputError if no epoch tells its speed.
    """
    speed = training_speed(rows)
    if speed is None:
        raise InputError("the log of this training tells no speed, so its hours are not known")
    return num_images * len(rows) / speed / SECONDS_OF_AN_HOUR


def training_speed(rows: Sequence[Mapping[str, Any]]) -> Optional[float]:
    """Images per second of the epochs of a log that tell it; None if none does."""
    speeds = [row["images_per_second"] for row in rows if row.get("images_per_second")]
    return harmonic_mean(speeds) if speeds else None


def check_logging_file(path: str) -> None:
    """Raise InputError if no lines can be added to the file, before an epoch is trained. Makes its folder."""
    if not Path(path).exists() or Path(path).is_dir():
        check_output(path)
        return
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
    except OSError as error:
        raise InputError(f"--logging-file {path} cannot be written ({error.strerror})") from None


class RunLog:
    """Writes rows to a journal (for machines) and lines to the terminal and an optional text file (for eyes).

    Raises: InputError if the text file cannot be written; its folder is made.
    """

    def __init__(self, journal: Journal, logging_file: str = "") -> None:
        if logging_file:
            check_logging_file(logging_file)
        self.journal = journal
        self.logging_file = logging_file
        self._events: Any = None

    def line(self, text: str) -> None:
        """Show one line."""
        print(text, flush=True)
        if self.logging_file:
            with naming(self.logging_file), open(self.logging_file, "a", encoding="utf-8") as file:
                file.write(text + "\n")

    def epoch(self, row: Dict[str, Any]) -> None:
        """Record and show a finished epoch. Raises: OSError if that cannot be done; the row may be on disk then."""
        self.journal.append(row)
        self.line(describe_epoch(row))
        if self._events:
            for key, value in row.items():
                if key != "epoch" and isinstance(value, (int, float)):
                    self._events.add_scalar(key, value, row["epoch"] + 1)
            self._events.flush()

    def best_top1(self) -> float:
        """The highest accuracy of any validation so far; below 0 if there was none."""
        return max((value for value in map(validated_top1, self.journal.rows) if value is not None), default=-1.0)

    def is_over(self, patience: int) -> bool:
        """Whether the training has lost its patience."""
        return is_over(self.journal.rows, patience)

    def keep_epochs_before(self, epoch: int) -> None:
        """Forget epochs that will be done again, and say so if the last one that was done is not there."""
        self.journal.keep(lambda row: row["epoch"] < epoch)
        if self.journal.rows and self.journal.rows[-1]["epoch"] < epoch - 1:
            warn(f"{self.journal.path} lacks the last epoch that was trained: it could not be written then")

    def write_tensorboard(self, directory: PathLike, first_epoch: int) -> None:
        """From now on write epochs as TensorBoard events too; those of `first_epoch` and later are superseded.

        Raises: InputError if tensorboardX is not installed.
        """
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise InputError(f"--tensorboard needs tensorboardX ({error}); run {install_command()}") from None
        self._events = SummaryWriter(str(directory), purge_step=first_epoch + 1)

    def close(self) -> None:
        """Write out what is buffered."""
        if self._events:
            self._events.close()


class EpochDisplay:
    """Where an epoch stands: a bar on a terminal; elsewhere a line every `log_interval` steps.

    Args:
        first_step: steps that were done before.
        shown: False for nothing at all, on workers but the chief.
    """

    def __init__(
        self, epoch: int, num_epochs: int, first_step: int, num_steps: int, log_interval: int, shown: bool
    ) -> None:
        self._epoch, self._num_steps, self._log_interval, self._shown = epoch, num_steps, log_interval, shown
        self._num_images, self._start = 0, time.monotonic()
        self._bar = progress_bar(total=num_steps, initial=first_step, unit="batch", shown=shown, dynamic_ncols=True)
        self._bar.set_description(f"epoch {epoch + 1}/{num_epochs}")

    def __enter__(self) -> EpochDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def images_per_second(self) -> float:
        """Since this began, of all workers together."""
        return self._num_images / max(time.monotonic() - self._start, SHORTEST_SECONDS)

    def update(self, done: int, num_images: int, loss: Optional[float]) -> None:
        """Tell that `done` steps of the epoch are done, the last of them on `num_images` images.

        Args:
            loss: mean over the epoch, as far as it is known.
        """
        self._num_images += num_images
        self._bar.update()
        if loss is None or done % self._log_interval or not self._shown:
            return
        rate = self.images_per_second
        self._bar.set_postfix_str(f"loss {loss:.3f}, {rate:.0f} img/s")
        if self._bar.disable:
            print(progress_line(self._epoch, done, self._num_steps, loss, rate), flush=True)


def describe_epoch(row: Dict[str, Any]) -> str:
    """One line of text for a row of `log.jsonl`."""
    text = (
        f"epoch {row['epoch'] + 1:3d}  loss {row['loss']:.3f}  train top-1 {row['top1']:.2%} top-5 {row['top5']:.2%}  "
        f"lr {row['lr']:.4g}"
    )
    if "images_per_second" in row:
        text += f"  {row['images_per_second']:.0f} img/s"
    for key, label in (("val_top1", "val top-1"), ("val_top5", "top-5"), ("ema_top1", "averaged weights top-1")):
        if key in row:
            text += f"  {label} {row[key]:.2%}"
    if "undecodable_images" in row:
        text += f"  {len(row['undecodable_images'])} undecodable images"
    return text


def progress_line(epoch: int, step: int, num_steps: int, loss: float, rate: float) -> str:
    """One line of text for where an epoch stands, for logs that are no terminal."""
    return f"epoch {epoch + 1:3d}  [{step}/{num_steps}]  loss {loss:.3f}  {rate:.0f} img/s"
