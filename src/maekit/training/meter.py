"""Means of a run's scalars, and its speed, between two looks at the device."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from maekit.data.loader import Batch
from maekit.errors import DataError, TrainingError
from maekit.processes import World
from maekit.training.schedule import learning_rate
from maekit.training.state import Training


class StepRecord(NamedTuple):
    """What is known each time the loop looks at the device."""

    step: int
    epoch: float
    scalars: dict[str, float]
    """`loss` and the objective's parts, each a mean since the last record; `lr`, `grad_norm`."""
    images_per_s: float
    data_wait: float
    """Share of the time spent waiting for pictures, in [0, 1]."""
    seconds_left: float
    replaced: list[tuple[int, str]]

    @property
    def speed(self) -> dict[str, float]:
        """Speed, waiting and time left, by name."""
        return {
            "images_per_s": self.images_per_s,
            "data_wait": self.data_wait,
            "seconds_left": self.seconds_left,
        }


class Meter:
    """Means of scalars and speeds between two looks at the device."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.started, self.first_step = time.monotonic(), training.progress.step
        self.idle_s = 0.0  # evaluations and checkpoints, which are no part of the speed
        self.restart()

    def leave_out(self, seconds: float) -> None:
        """Leaves a pause out of the speed; what was measured before it stays."""
        self.since += seconds
        self.idle_s += seconds

    def restart(self) -> None:
        """Forgets what was added."""
        self.since, self.waited_s, self.steps = time.monotonic(), 0.0, 0
        self.sums: dict[str, Tensor] = {}
        self.replaced: list[tuple[int, str]] = []

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Passes batches on to the device, noting how long they were waited for."""
        device = self.training.world.device
        while True:
            before = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise DataError(
                    "A process that reads pictures was killed, most likely for want of memory; "
                    "lower data.num_workers or train.batch_size, or use --resume to go on."
                ) from error
            self.waited_s += time.monotonic() - before
            self.replaced += batch.replaced
            yield batch.to(device)

    def add(self, scalars: dict[str, Tensor]) -> None:
        """Adds the scalars of a step, still on the device."""
        # A step that was left out counts in no mean, be its loss finite or not: an overflow in
        # float16 leaves a finite loss behind.
        taken = torch.isfinite(scalars["grad_norm"])
        for name, value in scalars.items():
            self.sums[name] = self.sums.get(name, 0) + torch.where(taken, value, 0.0)
        self.steps += 1

    def read(self) -> StepRecord:
        """Looks at the device and starts anew.

        Raises:
            TrainingError: If too many steps in a row were not finite.
        """
        training, plan = self.training, self.training.plan
        progress = training.progress
        names = list(self.sums)
        values = torch.stack(
            [self.sums[name] for name in names] + [training.nonfinite_since, training.nonfinite_run]
        )
        *sums, since, run = _mean_over_processes(values, training.world).tolist()
        progress.nonfinite_steps += int(since)
        training.nonfinite_since.zero_()
        if run >= plan.max_nonfinite:
            raise TrainingError(
                f"Loss or gradient were not finite in {run:.0f} steps in a row, up to step "
                f"{progress.step}. "
                "The last checkpoint is from before and finite. Lower optim.base_lr or set "
                "optim.grad_clip=1."
            )
        now = time.monotonic()
        elapsed = max(now - self.since, 1e-9)
        counted = self.steps - since
        scalars = {
            name: total / counted if counted else math.nan
            for name, total in zip(names, sums, strict=True)
        }
        scalars["lr"] = learning_rate(plan.schedule, progress.step - 1)
        per_step = (now - self.started - self.idle_s) / (progress.step - self.first_step)
        progress.replaced += len(self.replaced)
        record = StepRecord(
            step=progress.step,
            epoch=progress.step / plan.steps_per_epoch,
            scalars=scalars,
            images_per_s=self.steps * plan.batch_size / elapsed,
            data_wait=self.waited_s / elapsed,
            seconds_left=per_step * (plan.num_steps - progress.step),
            replaced=self.replaced,
        )
        self.restart()
        return record


def _mean_over_processes(values: Float[Tensor, " n"], world: World) -> Float[Tensor, " n"]:
    if world.size > 1:
        dist.all_reduce(values)
        values /= world.size
    return values
