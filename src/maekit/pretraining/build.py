"""From what is prepared to the moving parts of a run: network, optimiser, batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from maekit import checkpoint
from maekit.data.loader import Batch, StepSampler, Views, build_loader, in_order
from maekit.data.transforms import EvalTransform, TrainTransform
from maekit.models.mae import MaskedAutoencoder
from maekit.pretraining.objective import PretrainObjective, baselines
from maekit.pretraining.prepare import Prepared, plan_loop
from maekit.pretraining.run_folder import HeldOut
from maekit.processes import World
from maekit.runtime import mix
from maekit.training.config import LoopPlan, batch_plan
from maekit.training.optim import build_optimizer
from maekit.training.state import Training

# Tells the seed of the initial weights from the other uses of the seed.
_WEIGHTS = 5
# More pictures than this do not change the baselines' third digit.
_BASELINE_IMAGES = 256
# Held-out pictures are kept in memory.
_MOST_HELD_OUT = 1000


class Built(NamedTuple):
    """A run that can start."""

    training: Training
    loaded: str
    """Which weights it starts from, in words."""


def build_training(prepared: Prepared, world: World) -> Built:
    """Builds network, objective and optimiser, with the weights of the seed or of `init`.

    Raises:
        CheckpointError: If the initial weights do not fit.
    """
    config = prepared.config
    torch.manual_seed(mix(config.train.seed, _WEIGHTS))
    mae = MaskedAutoencoder(config.model)
    loaded = "random"
    if config.init is not None:
        loaded = _load_initial(mae, config.init)
    objective = PretrainObjective(mae, prepared.preprocessing, config.masking.mask_ratio).to(
        world.device
    )
    optimizer = build_optimizer(objective, config.optim)
    plan = plan_loop(config, len(prepared.pictures.train), world)
    return Built(Training(objective, optimizer, plan, world, config.runtime.compile), loaded)


def _load_initial(mae: MaskedAutoencoder, place: Path) -> str:
    path = checkpoint.find(place)
    state = checkpoint.load(path)
    loaded = [checkpoint.load_weights(mae.encoder, state["encoder"], "encoder")]
    if state.get("decoder"):
        loaded.append(checkpoint.load_weights(mae.decoder, state["decoder"], "decoder"))
    else:
        loaded.append("no decoder in it: a fresh one is used")
    return f"from {path}: {', '.join(loaded)}"


def train_batches(
    prepared: Prepared, plan: LoopPlan, world: World, first_step: int
) -> Iterator[Batch]:
    """Yields this process's batches from a step to the end of the run."""
    config, source = prepared.config, prepared.pictures.train
    encoder = config.model.encoder()
    views = Views(
        source,
        TrainTransform(encoder.image_size, config.augment),
        encoder.in_channels,
        encoder.grid.num_patches,
        plan.seed,
    )
    steps = range(first_step, plan.num_steps)
    sampler = StepSampler(
        len(source), batch_plan(config.train), plan.seed, steps, world.rank, world.size
    )
    workers = config.data.num_workers or 0
    return iter(build_loader(views, sampler, workers, pin_memory=world.device.type == "cuda"))


def held_out(prepared: Prepared, objective: PretrainObjective) -> HeldOut:
    """Loads the held-out pictures once (they are few) and measures the baselines on them."""
    config = prepared.config
    is_separate = len(prepared.pictures.val) > 0
    source = prepared.pictures.val if is_separate else prepared.pictures.train
    encoder = config.model.encoder()
    views = Views(
        source,
        EvalTransform(encoder.image_size),
        encoder.in_channels,
        encoder.grid.num_patches,
        config.train.seed,
    )
    number = min(len(source), _MOST_HELD_OUT)
    size = max(config.output.figure_images, min(64, number))
    batches = list(build_loader(views, in_order(number, size), 0))
    reference = baselines(objective, itertools.islice(batches, -(-_BASELINE_IMAGES // size)))
    return HeldOut(batches, is_separate, reference)
