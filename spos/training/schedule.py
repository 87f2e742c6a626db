"""Schedules of the learning rate, by step."""

from __future__ import annotations

from typing import Callable, Sequence, Tuple

from spos.core.errors import InputError

Schedule = Callable[[int], float]  # of a step, counted from 0 over the whole run
LR_MODES = ("cosine", "poly", "step", "linear", "constant")  # GluonCV's names


def decay_epochs(lr_decay_epoch: str, lr_decay_period: int, num_epochs: int) -> Tuple[int, ...]:
    """Epochs at which `--lr-mode step` decays. Raises InputError if the list holds no integers."""
    if lr_decay_period > 0:
        return tuple(range(lr_decay_period, num_epochs, lr_decay_period))
    try:
        return tuple(int(item) for item in lr_decay_epoch.split(",") if item.strip())
    except ValueError:
        raise InputError(f"--lr-decay-epoch '{lr_decay_epoch}' must be epochs like 40,60") from None


def make_schedule(
    mode: str,
    lr: float,
    num_epochs: int,
    steps_per_epoch: int,
    warmup_lr: float = 0.0,
    warmup_epochs: int = 0,
    decay_factor: float = 0.1,
    decay_epochs: Sequence[int] = (),
) -> Schedule:
    """Learning rate of every step: linear warm-up, then GluonCV's schedule of that mode (one of LR_MODES)."""
    from gluoncv.utils import LRScheduler, LRSequential

    if (num_epochs - warmup_epochs) * steps_per_epoch == 1:
        mode = "constant"  # a single step has nothing to decay, and GluonCV would divide by zero
    warm_up = "constant" if warmup_epochs * steps_per_epoch == 1 else "linear"  # a single step is the first of a rise
    if warmup_epochs >= num_epochs:
        raise ValueError(f"a warm-up of {warmup_epochs} epochs leaves nothing of {num_epochs}")
    return LRSequential(
        [
            LRScheduler(
                warm_up, base_lr=warmup_lr, target_lr=lr, nepochs=warmup_epochs, iters_per_epoch=steps_per_epoch
            ),
            LRScheduler(
                mode,
                base_lr=lr,
                target_lr=0,
                nepochs=num_epochs - warmup_epochs,
                iters_per_epoch=steps_per_epoch,
                step_epoch=[epoch - warmup_epochs for epoch in decay_epochs],
                step_factor=decay_factor,
                power=2,
            ),
        ]
    )
