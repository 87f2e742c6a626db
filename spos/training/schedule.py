"""Schedules of the learning rate, by step."""

from __future__ import annotations

from typing import Callable, List, Sequence, Tuple

from spos.core.errors import InputError

Schedule = Callable[[int], float]  # of a step, counted from 0 over the whole run
FALLING = ("cosine", "poly", "linear")  # those that fall to 0 by a formula
LR_MODES = (*FALLING, "step", "constant")  # GluonCV's names


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
    restarts: int = 0,
) -> Schedule:
    """Learning rate of every step: linear warm-up, then GluonCV's schedule of that mode (one of LR_MODES).

    Args:
        restarts: how often the schedule begins again after the warm-up (arXiv:1608.03983), in equal parts.
    """
    from gluoncv.utils import LRScheduler, LRSequential

    warm_up = "constant" if warmup_epochs * steps_per_epoch == 1 else "linear"  # a single step is the first of a rise
    if warmup_epochs >= num_epochs:
        raise ValueError(f"a warm-up of {warmup_epochs} epochs leaves nothing of {num_epochs}")
    return LRSequential(
        [
            LRScheduler(
                warm_up, base_lr=warmup_lr, target_lr=lr, nepochs=warmup_epochs, iters_per_epoch=steps_per_epoch
            ),
            *(
                LRScheduler(
                    mode if num_steps > 1 else "constant",  # one step has nothing to decay, and would divide by zero
                    base_lr=lr,
                    target_lr=0,
                    niters=num_steps,
                    step_iter=[(epoch - warmup_epochs) * steps_per_epoch for epoch in decay_epochs],
                    step_factor=decay_factor,
                    power=2,
                )
                for num_steps in _equal_parts((num_epochs - warmup_epochs) * steps_per_epoch, restarts + 1)
            ),
        ]
    )


def _equal_parts(total: int, count: int) -> List[int]:
    ends = [total * i // count for i in range(count + 1)]
    return [end - start for start, end in zip(ends, ends[1:])]
