"""Learning rate and weight decay as pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from maekit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate moves over a run."""

    kind: Literal["cosine", "restarts", "stable"] = "cosine"
    """Warm-up, then: half a cosine; cosines that start again; or a constant rate and a last
    decay."""
    warmup_ratio: float | None = None
    """Share of the run that warms up; 0.05, as in the paper, if none of the three is given."""
    warmup_epochs: float | None = None
    """Epochs of warm-up."""
    warmup_steps: int | None = None
    """Steps of warm-up."""
    min_lr: float = 0.0
    """Learning rate at the end of a cosine or of the decay, not scaled by the batch."""
    restart_epochs: float = 10.0
    """Of `restarts`: epochs of the first cosine."""
    restart_growth: float = 1.0
    """Of `restarts`: length of each cosine over the one before."""
    restart_decay: float = 1.0
    """Of `restarts`: peak of each cosine over the one before."""
    decay_ratio: float = 0.2
    """Of `stable`: share of the run in which the rate falls to `min_lr` at the end."""
    weight_decay_end: float | None = None
    """Weight decay at the end of the run, reached on half a cosine; constant if not given."""

    def __post_init__(self) -> None:
        given = [
            name
            for name in ("warmup_ratio", "warmup_epochs", "warmup_steps")
            if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)} contradict each other; give one of them.")
        for name in given:
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}.")
        for name in ("restart_epochs", "restart_growth", "restart_decay"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}.")
        if not 0.0 <= self.decay_ratio <= 1.0:
            raise ConfigError(f"decay_ratio must lie in [0, 1], got {self.decay_ratio}.")
        if self.min_lr < 0:
            raise ConfigError(f"min_lr must not be negative, got {self.min_lr}.")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A schedule with every length in steps and every rate final. Steps may be fractional."""

    kind: Literal["cosine", "restarts", "stable"]
    peak_lr: float
    min_lr: float
    num_steps: int
    warmup_steps: float
    restart_steps: float = 1.0
    restart_growth: float = 1.0
    restart_decay: float = 1.0
    decay_steps: float = 0.0
    weight_decay: float = 0.0
    weight_decay_end: float = 0.0


def plan_schedule(
    config: ScheduleConfig,
    peak_lr: float,
    weight_decay: float,
    num_steps: int,
    steps_per_epoch: int,
) -> Schedule:
    """Turns epochs and shares into steps.

    Raises:
        ConfigError: If the warm-up is longer than the run.
    """
    if config.warmup_steps is not None:
        warmup = float(config.warmup_steps)
    elif config.warmup_epochs is not None:
        warmup = config.warmup_epochs * steps_per_epoch
    else:
        ratio = 0.05 if config.warmup_ratio is None else config.warmup_ratio
        # At least one step: a run of few steps warms up too.
        warmup = max(ratio * num_steps, 1.0 if ratio else 0.0)
    if warmup > num_steps:
        raise ConfigError(
            f"The warm-up of {warmup:g} steps is longer than the run of {num_steps} steps "
            f"({num_steps / steps_per_epoch:g} epochs); shorten it or train longer."
        )
    end = config.weight_decay_end
    return Schedule(
        kind=config.kind,
        peak_lr=peak_lr,
        min_lr=min(config.min_lr, peak_lr),
        num_steps=num_steps,
        warmup_steps=warmup,
        restart_steps=config.restart_epochs * steps_per_epoch,
        restart_growth=config.restart_growth,
        restart_decay=config.restart_decay,
        decay_steps=config.decay_ratio * num_steps,
        weight_decay=weight_decay,
        weight_decay_end=weight_decay if end is None else end,
    )


def learning_rate(schedule: Schedule, step: float) -> float:
    """Returns the learning rate of a step, counted from 0; the warm-up starts from 0.

    Source: He et al. 2022, appendix A.1 (cosine); Loshchilov & Hutter 2017, "SGDR" (restarts);
    Zhai et al. 2022, "Scaling Vision Transformers", section 3.5 (stable, then a linear cool-down).
    """
    if step < schedule.warmup_steps:
        return schedule.peak_lr * step / schedule.warmup_steps
    after = step - schedule.warmup_steps
    if schedule.kind == "cosine":
        return _cosine(
            schedule.peak_lr, schedule.min_lr, after / (schedule.num_steps - schedule.warmup_steps)
        )
    if schedule.kind == "restarts":
        return _restarts(schedule, after)
    left = schedule.num_steps - step
    if left >= schedule.decay_steps:
        return schedule.peak_lr
    return schedule.min_lr + (schedule.peak_lr - schedule.min_lr) * left / schedule.decay_steps


def weight_decay(schedule: Schedule, step: float) -> float:
    """Returns the weight decay of a step: constant, or half a cosine over the whole run."""
    return _cosine(schedule.weight_decay, schedule.weight_decay_end, step / schedule.num_steps)


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def _restarts(schedule: Schedule, step: float) -> float:
    length, peak = schedule.restart_steps, schedule.peak_lr
    while step >= length:
        step -= length
        # A period is never shorter than a step, or a shrinking one would never end.
        length = max(length * schedule.restart_growth, 1.0)
        peak *= schedule.restart_decay
    return _cosine(max(peak, schedule.min_lr), schedule.min_lr, step / length)
