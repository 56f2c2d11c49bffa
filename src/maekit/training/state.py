"""The moving parts of a run, and what of them a checkpoint keeps."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from maekit.processes import World
from maekit.training.config import LoopPlan
from maekit.training.objective import Objective

# The newer name is not in torch 2.10, the older one is deprecated.
_SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)


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
            # Buffers are constants here, so nothing is sent with every forward pass. (Any: mypy
            # cannot know which option this is.)
            options: dict[str, Any] = {_SYNC_BUFFERS: False}
            forward = DistributedDataParallel(objective, device_ids=ids, **options)
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
