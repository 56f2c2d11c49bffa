"""How long a run is and how large its steps: what is asked for, and what the loop is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from maekit.data.loader import BatchPlan
from maekit.errors import ConfigError, DataError
from maekit.training.optim import OptimConfig, scale_lr
from maekit.training.schedule import Schedule, ScheduleConfig, plan_schedule


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length of a run and size of its steps."""

    epochs: int | None = None
    """Times every picture is shown; chosen from their number and the machine if not given."""
    batch_size: int | None = None
    """Pictures in one optimiser step, over all processes; chosen from their number and the
    machine if not given."""
    micro_batch_size: int | None = None
    """Most pictures in one forward pass of one process; gradients add up to `batch_size`. All
    at once if not given."""
    seed: int = 0
    """Fixes initial weights, held-out pictures, order, crops and masks."""
    log_every: int | None = None
    """Steps between two lines of metrics.jsonl; about ten lines an epoch, at most 10 steps, if
    not given."""
    max_nonfinite: int = 20
    """Steps in a row with a loss or gradient that is not finite, after which the run stops."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "micro_batch_size", "log_every", "max_nonfinite"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}.")


@dataclass(frozen=True, kw_only=True)
class LoopPlan:
    """Numbers of a run that the loop needs, every one final."""

    num_steps: int
    steps_per_epoch: int
    batch_size: int
    micro_batches: list[int]
    """Pictures of each forward pass of one process in a step."""
    schedule: Schedule
    grad_clip: float | None
    precision: Literal["float32", "bfloat16", "float16"]
    seed: int
    log_every: int
    max_nonfinite: int
    eval_every: int
    """Epochs between two evaluations, each followed by a checkpoint."""
    save_every_steps: int | None
    save_every_s: float


def check_batch(batch_size: int, num_images: int, processes: int) -> None:
    """Refuses a batch that the data or the processes do not allow.

    Raises:
        DataError: If there are fewer pictures than one batch.
        ConfigError: If the batch does not fall evenly to the processes.
    """
    if batch_size > num_images:
        raise DataError(
            f"A batch of {batch_size} is more than the {num_images} pictures there are to train "
            f"on; set --train.batch_size to {num_images} or less."
        )
    if batch_size % processes:
        raise ConfigError(
            f"train.batch_size {batch_size} does not fall evenly to {processes} processes; use a "
            "multiple."
        )


def batch_plan(config: TrainConfig) -> BatchPlan:
    """Returns how a step's pictures fall to forward passes; all at once if nothing else is said."""
    assert config.batch_size is not None
    return BatchPlan(config.batch_size, config.micro_batch_size or config.batch_size)


def plan_loop(
    config: TrainConfig,
    optim: OptimConfig,
    schedule: ScheduleConfig,
    num_images: int,
    world_size: int,
    *,
    precision: Literal["float32", "bfloat16", "float16"],
    eval_every: int,
    save_every_steps: int | None,
    save_every_s: float,
) -> LoopPlan:
    """Turns settings in which nothing is left open into the numbers the loop needs.

    Args:
        config: Length and size of steps.
        optim: Rates.
        schedule: Their course.
        num_images: Pictures to train on.
        world_size: Processes.
        precision: See `LoopPlan`, as those below.
        eval_every: Epochs.
        save_every_steps: Steps.
        save_every_s: Seconds.

    Raises:
        ConfigError: If the schedule does not fit the length of the run.
    """
    assert config.epochs is not None
    assert config.batch_size is not None
    assert config.log_every is not None
    assert optim.base_lr is not None
    batches = batch_plan(config)
    per_epoch = batches.steps_per_epoch(num_images)
    num_steps = config.epochs * per_epoch
    lr = scale_lr(optim.base_lr, config.batch_size)
    return LoopPlan(
        num_steps=num_steps,
        steps_per_epoch=per_epoch,
        batch_size=config.batch_size,
        micro_batches=batches.micro_batches(world_size),
        schedule=plan_schedule(schedule, lr, optim.weight_decay, num_steps, per_epoch),
        grad_clip=optim.grad_clip,
        precision=precision,
        seed=config.seed,
        log_every=config.log_every,
        max_nonfinite=config.max_nonfinite,
        eval_every=eval_every,
        save_every_steps=save_every_steps,
        save_every_s=save_every_s,
    )
