"""Seeded, sharded, resumable batches.

Everything random about a sample (its crop, its mirroring, its mask) derives from (seed, epoch,
index). A batch is therefore the same whatever the workers, the processes or the interruptions,
and to resume at a step it is enough to know the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from maekit.data.sources import Source
from maekit.data.transforms import to_tensor, to_unit
from maekit.errors import ConfigError, DataError, DecodeError
from maekit.runtime import ignore_signals, mix

# Tells the uses of one seed apart.
_ORDER, _SAMPLE = 1, 2
# A picture that broke since the scan is replaced by the next one; this many in a row is too much.
_MOST_REPLACEMENTS = 20


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which pictures, and how they are read."""

    dir: Path
    """Folder of pictures (searched recursively, labels ignored), list of them (.txt, .csv with
    a column `path`), or array (.npy, .npz)."""
    array: str | None = None
    """Which array of a .npz file; the only one of pictures if not given."""
    array_layout: Literal["nhwc", "nchw"] | None = None
    """Where the channels of an array stand; found in its shape if not given."""
    val_images: int | None = None
    """Pictures held out to measure the loss and draw figures; 2 % of them, 8 to 1000, if not
    given."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel with pixels in [0, 1]; measured if not given."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel with pixels in [0, 1]; measured if not given."""
    num_workers: int | None = None
    """Processes that decode pictures, for each training process; chosen from the cores if not
    given."""
    max_pixels: int = 100_000_000
    """Pictures with more pixels than this are skipped."""
    max_skipped: float = 0.05
    """Share of unusable pictures beyond which a run stops; ten may always be unusable."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_skipped <= 1.0:
            raise ConfigError(f"max_skipped must lie in [0, 1], got {self.max_skipped}.")
        if (self.mean is None) != (self.std is None):
            raise ConfigError("mean and std must be given together.")
        for name, least in (("max_pixels", 1), ("num_workers", 0), ("val_images", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}.")


class Batch(NamedTuple):
    """What one process sees in one forward pass."""

    images: Shaped[Tensor, "b c height width"]
    """uint8, or float32 in unit scale; not normalised yet."""
    noise: Float[Tensor, "b n"]
    """Uniform in [0, 1): masks are made from it."""
    indices: Int[Tensor, " b"]
    """Which pictures of the source these are."""
    replaced: list[tuple[int, str]]
    """Pictures that could not be read although the scan could, and why; the next one stands in."""

    def to(self, device: torch.device) -> Batch:
        """Returns what a network needs of the batch, on a device."""
        return Batch(
            self.images.to(device, non_blocking=True),
            self.noise.to(device, non_blocking=True),
            self.indices,
            [],
        )


class _Sample(NamedTuple):
    image: Tensor
    noise: Tensor
    picture: int
    replaced: list[tuple[int, str]]


class Views(Dataset[_Sample]):
    """Views of pictures, looked up by (epoch, index)."""

    def __init__(
        self,
        source: Source,
        transform: Callable[[Tensor], Tensor],
        in_channels: int,
        num_patches: int,
        seed: int,
    ) -> None:
        self.source, self.transform = source, transform
        self.in_channels, self.num_patches, self.seed = in_channels, num_patches, seed

    def __getitem__(self, key: tuple[int, int]) -> _Sample:
        """Returns the view that a picture has in an epoch.

        Raises:
            DataError: If it cannot be read, and neither can those that would stand in.
        """
        epoch, index = key
        image, index, replaced = self._read(index)
        # torchvision draws from the default generator. It is put back, for with no workers this
        # runs in the training process.
        before = torch.default_generator.get_state()
        torch.default_generator.manual_seed(mix(self.seed, _SAMPLE, epoch, index))
        try:
            noise = torch.rand(self.num_patches)
            return _Sample(self.transform(image), noise, index, replaced)
        finally:
            torch.default_generator.set_state(before)

    def _read(self, index: int) -> tuple[Tensor, int, list[tuple[int, str]]]:
        replaced: list[tuple[int, str]] = []
        for _ in range(_MOST_REPLACEMENTS):
            try:
                return to_tensor(self.source.read(index), self.in_channels), index, replaced
            except DecodeError as error:
                replaced.append((index, str(error)))
                index = (index + 1) % len(self.source)
        raise DataError(
            f"{_MOST_REPLACEMENTS} pictures in a row can no longer be read, first "
            f"{self.source.name(replaced[0][0])}: {replaced[0][1]}. Were they moved?"
        )


def epoch_order(num_images: int, seed: int, epoch: int) -> Int[Tensor, " n"]:
    """Returns the order in which an epoch shows the pictures."""
    generator = torch.Generator().manual_seed(mix(seed, _ORDER, epoch))
    return torch.randperm(num_images, generator=generator)


class BatchPlan(NamedTuple):
    """How a global batch falls to processes and forward passes."""

    batch_size: int
    """Pictures in one optimiser step, over all processes."""
    micro_batch_size: int
    """Most pictures in one forward pass of one process."""

    def steps_per_epoch(self, num_images: int) -> int:
        """Optimiser steps in which every picture is shown at least once."""
        return -(-num_images // self.batch_size)

    def micro_batches(self, world_size: int) -> list[int]:
        """Sizes of the forward passes of one process in one step; the last may be smaller."""
        share = self.batch_size // world_size
        full, rest = divmod(share, self.micro_batch_size)
        return [self.micro_batch_size] * full + ([rest] if rest else [])


class StepSampler(Sampler[list[tuple[int, int]]]):
    """The (epoch, index) of every forward pass of one process, from one step to another.

    The last batch of an epoch is filled up with the pictures that began it, so that all batches
    have one size, no picture is left out, and all processes take the same number of steps.
    """

    def __init__(
        self,
        num_images: int,
        plan: BatchPlan,
        seed: int,
        steps: range,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.num_images, self.plan, self.seed, self.steps = num_images, plan, seed, steps
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return len(self.steps) * len(self.plan.micro_batches(self.world_size))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch, size = self.plan.steps_per_epoch(self.num_images), self.plan.batch_size
        share = size // self.world_size
        current, order = -1, torch.empty(0)
        for step in self.steps:
            epoch, place = divmod(step, per_epoch)
            if epoch != current:
                current, order = epoch, epoch_order(self.num_images, self.seed, epoch)
            start = place * size + self.rank * share
            mine = order[torch.arange(start, start + share) % self.num_images].tolist()
            for micro in self.plan.micro_batches(self.world_size):
                now, mine = mine[:micro], mine[micro:]
                yield [(epoch, index) for index in now]


def collate(samples: list[_Sample]) -> Batch:
    """Stacks samples; pictures of mixed depth become float32 in unit scale."""
    images = [sample.image for sample in samples]
    if any(image.dtype != images[0].dtype for image in images):
        images = [to_unit(image) for image in images]
    return Batch(
        torch.stack(images),
        torch.stack([sample.noise for sample in samples]),
        torch.tensor([sample.picture for sample in samples]),
        [entry for sample in samples for entry in sample.replaced],
    )


def build_loader(
    views: Views,
    sampler: Iterable[list[tuple[int, int]]],
    num_workers: int,
    pin_memory: bool = False,
) -> DataLoader[_Sample]:
    """Builds a loader that reads ahead in `num_workers` processes."""
    return DataLoader(
        views,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=start_worker,
        prefetch_factor=4 if num_workers else None,
        # Its own generator: the default one would lose a number to every loader that starts.
        generator=torch.Generator().manual_seed(0),
    )


def start_worker(_: int) -> None:
    """Readies a process that reads pictures; for `worker_init_fn`."""
    # The training process decides when to stop; workers that die first would hide its reason.
    ignore_signals()
    torch.set_num_threads(1)


def in_order(num_images: int, batch_size: int) -> list[list[tuple[int, int]]]:
    """Batches of every picture once, in order, as of epoch 0: a sampler for evaluation."""
    return [
        [(0, index) for index in range(start, min(start + batch_size, num_images))]
        for start in range(0, num_images, batch_size)
    ]


def index_batches(sampler: Iterable[list[tuple[int, int]]]) -> Iterator[Batch]:
    """Yields batches of indices alone, where no picture has to be read any more."""
    for keys in sampler:
        indices = torch.tensor([index for _, index in keys])
        nothing = torch.empty(len(keys), 0)
        yield Batch(nothing[:, None, None], nothing, indices, [])
