"""What a run would take: memory and speed, measured on a few real batches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from maekit.data.loader import Batch
from maekit.training.loop import train_step
from maekit.training.state import Training

# Long enough for a loader's processes to start and fill, short enough to wait for.
_LOAD_SECONDS = 6.0
_COMPUTE_SECONDS = 4.0
_MOST_STEPS = 20


class Estimate(NamedTuple):
    """Measured on this machine."""

    load_images_per_s: float
    """Pictures decoded, cropped and stacked, for one training process."""
    compute_images_per_s: float
    """Pictures one process trains on, given that they are there."""
    memory_bytes: float
    """Weights, gradients, moments and what the forward pass keeps; on a GPU the measured peak."""

    def images_per_s(self, shares_cores: bool) -> float:
        """Combines the two: the slower one, or both in turn where they share the cores."""
        if shares_cores:
            return 1.0 / (1.0 / self.load_images_per_s + 1.0 / self.compute_images_per_s)
        return min(self.load_images_per_s, self.compute_images_per_s)


def measure(training: Training, batches: Iterator[Batch]) -> Estimate:
    """Measures loading and training apart. The weights it trains are thrown away afterwards.

    Args:
        training: Of one process; its plan's micro-batches are what is measured.
        batches: One for every forward pass.
    """
    started = time.monotonic()
    first = next(batches)  # processes start and modules load: part of the speed only if alone
    alone = len(first.indices) / (time.monotonic() - started)
    started, images = time.monotonic(), 0
    while time.monotonic() - started < _LOAD_SECONDS:
        batch = next(batches, None)
        if batch is None:
            break
        images += len(batch.indices)
    load = images / (time.monotonic() - started) if images else alone

    device = training.world.device
    on_device = first.to(device)
    training.plan = replace(training.plan, micro_batches=[len(first.indices)])
    kept = _kept_bytes(training, on_device)
    endless = repeat(on_device)
    train_step(training, endless)  # kernels are chosen in the first step
    _wait(device)
    started, steps = time.monotonic(), 0
    while steps < _MOST_STEPS and (steps < 2 or time.monotonic() - started < _COMPUTE_SECONDS):
        train_step(training, endless)
        steps += 1
    _wait(device)
    compute = steps * len(first.indices) / (time.monotonic() - started)
    parameters = sum(p.numel() * p.element_size() for p in training.objective.parameters())
    memory = 4.0 * parameters + kept
    if device.type == "cuda":
        memory = float(torch.cuda.max_memory_allocated(device))
    return Estimate(load, compute, memory)


def _kept_bytes(training: Training, batch: Batch) -> float:
    """Counts the bytes that the forward pass keeps for the backward pass, each tensor once."""
    storages: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in training.objective.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        training.forward(batch)
    return float(sum(storages.values()))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
