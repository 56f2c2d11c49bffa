"""Everything that is settled before a network is built: data, choices, colours, the loop's plan."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from maekit.data.opening import Counting, most_common_channels, survey
from maekit.data.survey import Survey
from maekit.data.transforms import Preprocessing
from maekit.masking import num_visible
from maekit.models.mae import ModelConfig
from maekit.pretraining.choices import Choice, Facts, choose
from maekit.pretraining.config import PretrainConfig
from maekit.pretraining.data import Pictures, channel_statistics, split
from maekit.processes import World
from maekit.runtime import choose_precision, num_cores, usable_memory
from maekit.training import config as training
from maekit.training.config import LoopPlan


class Prepared(NamedTuple):
    """All that is known before a network is built; the same on every process."""

    config: PretrainConfig
    choices: list[Choice]
    found: Survey
    pictures: Pictures
    preprocessing: Preprocessing


def prepare(config: PretrainConfig, world: World, show: Counting) -> Prepared:
    """Scans the pictures, holds some out, chooses what is open, measures the colours.

    Raises:
        DataError: If the pictures cannot be used.
        ConfigError: If the settings do not fit them or each other.
    """
    _check_early(config)
    found, source = survey(config.data, show, config.model.in_channels or "most")
    pictures = split(source, config.data, config.train.seed)
    facts = Facts(
        num_images=len(pictures.train),
        height=int(np.median(found.of_usable("height"))),
        width=int(np.median(found.of_usable("width"))),
        channels=config.model.in_channels or most_common_channels(found),
        device=world.device.type,
        cores=num_cores(),
        memory_bytes=usable_memory(world.device),
        processes=world.size,
    )
    config, choices = choose(config, facts)
    model = config.model.encoder()
    if config.data.mean is None or config.data.std is None:
        mean, std = channel_statistics(
            pictures.train, found, model.image_size, model.in_channels, show
        )
        config = replace(config, data=replace(config.data, mean=mean, std=std))
        choices.append(Choice("data.mean", mean, "measured"))
        choices.append(Choice("data.std", std, "measured"))
    assert config.data.mean is not None
    assert config.data.std is not None
    preprocessing = Preprocessing(
        image_size=model.image_size,
        in_channels=model.in_channels,
        mean=config.data.mean,
        std=config.data.std,
    )
    plan_loop(config, len(pictures.train), world)  # refuses, e.g., a warm-up longer than the run
    return Prepared(config, choices, found, pictures, preprocessing)


def _check_early(config: PretrainConfig) -> None:
    """Refuses what can be refused before a picture is opened."""
    model = config.model
    if None not in (model.image_size, model.patch_size):
        # Any preset and any channels do: it is the grid that is checked.
        probe: ModelConfig = replace(
            model, size=model.size or "tiny", in_channels=model.in_channels or 3
        )
        num_visible(probe.encoder().grid.num_patches, config.masking.mask_ratio)


def plan_loop(config: PretrainConfig, num_images: int, world: World) -> LoopPlan:
    """Turns the settings into the numbers the loop needs.

    Raises:
        ConfigError: If the schedule does not fit the length of the run.
    """
    return training.plan_loop(
        config.train,
        config.optim,
        config.schedule,
        num_images,
        world.size,
        precision=choose_precision(config.runtime, world.device.type),
        eval_every=config.output.eval_every or 1,
        save_every_steps=config.output.save_every_steps,
        save_every_s=config.output.save_every_minutes * 60.0,
    )
