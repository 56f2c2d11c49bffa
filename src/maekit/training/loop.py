"""The training loop: the only one in the package. Tasks differ in objective and hooks."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from maekit.data.loader import Batch
from maekit.errors import TrainingError
from maekit.processes import World, together
from maekit.runtime import Interrupts, mix
from maekit.training.config import LoopPlan
from maekit.training.keeper import Keeper
from maekit.training.meter import Meter, StepRecord
from maekit.training.objective import Losses
from maekit.training.optim import set_rates
from maekit.training.schedule import learning_rate, weight_decay
from maekit.training.state import Training

logger = logging.getLogger(__name__)

# Tells the generator of steps from those of the loader.
_STEP = 3
# Processes agree to stop at every so many steps: to agree costs a wait for all of them.
_AGREE_EVERY = 8


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
    meter = Meter(training)
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
