"""The training loop: the only one in the package. Tasks differ in objective and hooks."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from maekit.data.loader import Batch
from maekit.errors import ConfigError, DataError, TrainingError
from maekit.runtime import Interrupts, World, mix, together
from maekit.training.keeper import Keeper
from maekit.training.objective import Losses, Objective
from maekit.training.optim import set_rates
from maekit.training.schedule import Schedule, learning_rate, weight_decay

logger = logging.getLogger(__name__)

# Tells the generator of steps from those of the loader.
_STEP = 3
# Processes agree to stop at every so many steps: to agree costs a wait for all of them.
_AGREE_EVERY = 8


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


@dataclass
class Progress:
    """How far a run is; saved with it."""

    step: int = 0
    """Steps taken."""
    best: float = float("inf")
    """Least score of an evaluation."""
    nonfinite_steps: int = 0
    """Steps left out because loss or gradient were not finite."""
    replaced: int = 0
    """Pictures that broke after the scan."""


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


@runtime_checkable
class Hooks(Protocol):
    """What a task does at certain moments. Called on every process."""

    def on_record(self, record: StepRecord) -> None:
        """Shows and writes numbers."""

    def on_epoch(self, epoch: int) -> float | None:
        """Evaluates after so many epochs; returns a score that chooses the best: less is better."""

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds besides optimiser and progress."""


class Interrupted(SystemExit):
    """A run was told to stop, has saved, and leaves with 128 + the signal."""


class Training:
    """The moving parts of a run."""

    def __init__(
        self,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        plan: LoopPlan,
        world: World,
        compiled: bool,
    ) -> None:
        self.objective, self.optimizer, self.plan, self.world = objective, optimizer, plan, world
        self.progress = Progress()
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=plan.precision == "float16")
        forward: Any = objective
        if world.size > 1:
            ids = [world.device.index] if world.device.type == "cuda" else None
            # Buffers are constants here, so nothing is sent with every forward pass.
            forward = DistributedDataParallel(objective, device_ids=ids, broadcast_buffers=False)
        self.no_sync: Callable[[], Any] = getattr(forward, "no_sync", contextlib.nullcontext)
        self.forward: Objective = torch.compile(forward) if compiled else forward
        # Kept on the device: to look at a number makes the host wait for it.
        self.nonfinite_run = torch.zeros((), device=world.device)
        self.nonfinite_since = torch.zeros((), device=world.device)

    def state(self) -> dict[str, Any]:
        """Returns what resuming needs besides the weights. All randomness follows from the step."""
        # Those since the last record are still counted on the device.
        nonfinite = self.progress.nonfinite_steps + int(self.nonfinite_since)
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": vars(self.progress) | {"nonfinite_steps": nonfinite},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what `state` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])


def train(
    training: Training,
    batches: Iterator[Batch],
    hooks: Hooks,
    keeper: Keeper | None,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Takes steps until the plan is done.

    Args:
        training: The moving parts; `training.progress` says where to start.
        batches: One for every forward pass of this process, from that step on.
        hooks: The task's part.
        keeper: Where to save; only the main process has one.
        after_step: Called after every step, e.g. by a profiler.

    Raises:
        Interrupted: After SIGTERM or Ctrl-C, with everything saved.
        TrainingError: If too many steps in a row are not finite, or there is no space.
    """
    plan, progress = training.plan, training.progress
    meter = _Meter(training)
    saved_at = time.monotonic()
    with Interrupts() as interrupts:
        while progress.step < plan.num_steps:
            step = progress.step
            set_rates(
                training.optimizer,
                learning_rate(plan.schedule, step),
                weight_decay(plan.schedule, step),
            )
            # Drop path and the like draw from the default generator. Seeded by the step, a resumed
            # run needs no generator's state; by the rank, processes drop different things.
            torch.manual_seed(mix(plan.seed, _STEP, step, training.world.rank))
            meter.add(train_step(training, meter.timed(batches)))
            progress.step = step + 1
            after_step()

            is_last = progress.step == plan.num_steps
            if progress.step % plan.log_every == 0 or is_last:
                hooks.on_record(meter.read())  # the sync point: the device is looked at here only
            epoch, within = divmod(progress.step, plan.steps_per_epoch)
            if (within == 0 and epoch % plan.eval_every == 0) or is_last:
                paused_at = time.monotonic()
                score = hooks.on_epoch(epoch)
                is_best = score is not None and score < progress.best
                progress.best = min(progress.best, score) if score is not None else progress.best
                save(training, hooks, keeper, is_best)
                saved_at = time.monotonic()
                meter.leave_out(saved_at - paused_at)
            elif _is_due(plan, progress.step, saved_at):
                save(training, hooks, keeper, is_best=False)
                saved_at = time.monotonic()
            if stop := _agree(training.world, interrupts, progress.step):
                save(training, hooks, keeper, is_best=False)
                if keeper is not None:
                    logger.warning("Stopped at step %d; saved in %s.", progress.step, keeper.folder)
                raise Interrupted(128 + stop)


def train_step(training: Training, batches: Iterator[Batch]) -> dict[str, Tensor]:
    """Updates the parameters once. Returns scalars, still on the device."""
    plan, world = training.plan, training.world
    sums: dict[str, Tensor] = {}
    for number, size in enumerate(plan.micro_batches):
        batch = next(batches)
        # Gradients are exchanged once a step, with the last forward pass.
        last = number == len(plan.micro_batches) - 1
        with contextlib.nullcontext() if last else training.no_sync():
            with autocast(world.device, plan.precision):
                losses: Losses = training.forward(batch)
            share = size / sum(plan.micro_batches)
            training.scaler.scale(losses.total * share).backward()  # type: ignore[no-untyped-call]  # torch
        for name, value in {"loss": losses.total.detach(), **losses.parts}.items():
            sums[name] = sums.get(name, 0) + value * share
    sums["grad_norm"] = _update(training)
    return sums


def _update(training: Training) -> Float[Tensor, ""]:
    """Steps the optimiser unless a gradient is not finite. Returns the gradient's norm."""
    optimizer, scaler = training.optimizer, training.scaler
    scaler.unscale_(optimizer)
    parameters = [
        p for group in optimizer.param_groups for p in group["params"] if p.grad is not None
    ]
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = get_total_norm(gradients, foreach=True)
    if training.plan.grad_clip is not None:
        clip_grads_with_norm_(parameters, training.plan.grad_clip, norm, foreach=True)
    skipped = (~torch.isfinite(norm)).float()
    if scaler.is_enabled():
        scaler.step(optimizer)
        scaler.update()
    else:
        # The fused kernel leaves weights and moments alone where this is 1: a NaN never reaches
        # them, and the host does not have to look. After DDP's exchange all processes agree.
        optimizer.found_inf = skipped  # type: ignore[attr-defined]  # torch's own channel for it
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    training.nonfinite_since += skipped
    training.nonfinite_run = (training.nonfinite_run + skipped) * skipped
    return norm


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Returns the context of the forward pass: float32 means no casting at all."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def save(training: Training, hooks: Hooks, keeper: Keeper | None, is_best: bool) -> None:
    """Saves the run.

    Raises:
        TrainingError: If a weight is not finite; the last good checkpoint stays.
    """
    if keeper is None:
        return
    weights = [p.detach() for p in training.objective.parameters()]
    if not bool(torch.isfinite(get_total_norm(weights, foreach=True))):
        raise TrainingError(
            f"The weights are no longer finite at step {training.progress.step}; the last "
            f"checkpoint in {keeper.folder} is. Lower optim.base_lr or set optim.grad_clip, and "
            "start from it."
        )
    keeper.save({**hooks.state(), **training.state()}, training.progress.step, is_best)


def _is_due(plan: LoopPlan, step: int, saved_at: float) -> bool:
    if plan.save_every_steps is not None and step % plan.save_every_steps == 0:
        return True
    return time.monotonic() - saved_at > plan.save_every_s


def _agree(world: World, interrupts: Interrupts, step: int) -> int:
    """Returns the signal to stop for, the same on all processes; 0 to go on."""
    if world.size > 1 and step % _AGREE_EVERY:
        return 0
    return together(world, interrupts.received)


def _mean_over_processes(values: Float[Tensor, " n"], world: World) -> Float[Tensor, " n"]:
    if world.size > 1:
        dist.all_reduce(values)
        values /= world.size
    return values


class _Meter:
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
