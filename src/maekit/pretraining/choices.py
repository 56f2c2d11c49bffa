"""What the user left open is chosen from the pictures and the machine, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from maekit.errors import ConfigError, DataError
from maekit.masking import num_visible
from maekit.models.mae import ModelConfig, training_flops
from maekit.patches import Grid
from maekit.pretraining.config import PretrainConfig
from maekit.runtime import choose_precision
from maekit.training.config import check_batch

# Sides that fall into patches well; the greatest that does not enlarge most pictures is taken.
_SIDES = (32, 64, 96, 128, 160, 224)
_PATCHES = (16, 14, 10, 8, 7, 6, 5, 4, 3, 2)
# Few patches learn little of the whole, many cost time: the presets lie between 64 and 196.
_GOOD_PATCH_COUNT = 90
# Without a GPU an hour is a run somebody will wait for; this is a careful guess of a core's speed.
_CPU_FLOPS_PER_CORE, _CPU_SECONDS = 4e10, 3600.0
# With one, some 200 epochs of 300,000 pictures.
_GPU_SAMPLES = 60e6


class Facts(NamedTuple):
    """What choices are made from."""

    num_images: int
    """Usable pictures to train on."""
    height: int
    """Median height of the pictures, in pixels."""
    width: int
    channels: int
    """Channels of most pictures."""
    device: str
    """`cpu` or `cuda`."""
    cores: int
    memory_bytes: int
    """Of the device."""
    processes: int


class Choice(NamedTuple):
    """A value that was chosen, and why."""

    name: str
    value: object
    reason: str


class Chosen(NamedTuple):
    """A config with nothing left open."""

    config: PretrainConfig
    choices: list[Choice]


def choose(config: PretrainConfig, facts: Facts) -> Chosen:
    """Fills in what `config` leaves open. What is given is kept.

    Raises:
        ConfigError: If what is given does not fit together.
        DataError: If there are too few pictures for it.
    """
    choices: list[Choice] = []
    precision = choose_precision(config.runtime, facts.device)

    def fill(section: str, **options: Callable[[], tuple[object, str]]) -> None:
        nonlocal config
        part: Any = getattr(config, section)  # one of the config's dataclasses
        for name, choose_one in options.items():
            if getattr(part, name) is None:
                value, reason = choose_one()
                choices.append(Choice(f"{section}.{name}", value, reason))
                part = replace(part, **{name: value})
        config = replace(config, **{section: part})

    fill("runtime", device=lambda: (facts.device, "the best this machine has"))
    fill("runtime", precision=lambda: (precision, f"usual on {facts.device}"))
    fill("model", in_channels=lambda: (facts.channels, "as most of the pictures have"))
    fill("model", image_size=lambda: _image_size(facts))
    fill("model", patch_size=lambda: _patch_size(config.model.image_size or (0, 0)))
    fill("model", size=lambda: _model_size(facts))
    check_model(config)
    fill("train", batch_size=lambda: _batch_size(facts))
    fill("train", micro_batch_size=lambda: _micro_batch_size(config, facts))
    fill("train", epochs=lambda: _epochs(config, facts))
    fill("optim", base_lr=lambda: _base_lr(config))
    fill("data", num_workers=lambda: _num_workers(facts))
    check_batch(config.train.batch_size or 0, facts.num_images, facts.processes)
    epochs = config.train.epochs or 1
    steps = -(-facts.num_images // (config.train.batch_size or 1))
    fill("output", eval_every=lambda: _eval_every(epochs, config.output.figures_every))
    fill("output", figures_every=lambda: _figures_every(epochs, config.output.eval_every or 1))
    fill("train", log_every=lambda: (max(1, min(10, steps // 10)), "about ten lines an epoch"))
    return Chosen(config, choices)


def _eval_every(epochs: int, figures_every: int | None) -> tuple[object, str]:
    usual, why = max(1, epochs // 50), "about 50 times a run"
    if figures_every is None or figures_every % usual == 0:
        return usual, why
    # Figures are drawn where the held-out loss is measured.
    divisors = [every for every in range(1, usual + 1) if figures_every % every == 0]
    return divisors[-1], "so that figures fall on it"


def _figures_every(epochs: int, eval_every: int) -> tuple[object, str]:
    times = max(1, round(epochs / 20 / eval_every))
    return times * eval_every, f"about {max(1, epochs // (times * eval_every))} times a run"


def check_model(config: PretrainConfig) -> None:
    """Refuses a shape that cannot be built, before anything is.

    Raises:
        ConfigError: Where sizes do not divide, or nothing would be visible or hidden.
    """
    encoder, _ = config.model.encoder(), config.model.decoder()
    num_visible(encoder.grid.num_patches, config.masking.mask_ratio)


def _image_size(facts: Facts) -> tuple[object, str]:
    short = min(facts.height, facts.width)
    shown = f"the pictures' median is {facts.width}×{facts.height} px"
    if short < 36:
        side = max(8, 4 * round(short / 4))
        return (side, side), shown
    # A tenth of enlargement does no harm.
    side = max(side for side in _SIDES if side <= short * 1.1 or side == _SIDES[0])
    if facts.device == "cpu" and facts.cores < 16 and side > 96:
        return (96, 96), f"{shown}; on {facts.cores} CPU cores more would take days"
    return (side, side), shown


def _patch_size(image_size: tuple[int, int]) -> tuple[object, str]:
    height, width = image_size
    fitting = [p for p in _PATCHES if height % p == 0 and width % p == 0 and height * width > p * p]
    if not fitting:
        raise ConfigError(
            f"No patch size from 2 to 16 px divides an image of {height}×{width} px; give "
            "model.image_size "
            "and model.patch_size that fit."
        )
    patch = min(fitting, key=lambda p: abs(math.log(height * width / p**2 / _GOOD_PATCH_COUNT)))
    grid = Grid.of(image_size, patch)
    return patch, f"{grid.height}×{grid.width} patches an image"


def _model_size(facts: Facts) -> tuple[object, str]:
    if facts.device == "cpu":
        return "tiny", "there is no GPU"
    size: Literal["tiny", "small", "base"]
    size = "tiny" if facts.num_images < 5_000 else "small" if facts.num_images < 100_000 else "base"
    return size, f"for {facts.num_images:,} pictures"


def _batch_size(facts: Facts) -> tuple[object, str]:
    most = 256 if facts.device == "cpu" else 1024
    # At least sixteen steps an epoch where the pictures allow it: few steps learn little.
    wanted = max(8, min(most, facts.num_images // 16))
    batch = min(2 ** int(math.log2(wanted)), facts.num_images)
    batch -= batch % facts.processes
    if batch < 1:
        raise DataError(f"{facts.num_images} pictures are too few for {facts.processes} processes.")
    return (
        batch,
        f"for {facts.num_images:,} pictures, {-(-facts.num_images // batch)} steps an epoch",
    )


def activation_bytes(model: ModelConfig, mask_ratio: float, bytes_per_value: int) -> float:
    """Estimates the memory one image takes between forward and backward pass.

    A block keeps about sixteen values a token and width: inputs of its norms and linear layers,
    queries, keys, values, and both sides of the MLP's activation.
    """
    encoder, decoder = model.encoder(), model.decoder()
    every = encoder.grid.num_patches + int(encoder.class_token)
    seen = num_visible(encoder.grid.num_patches, mask_ratio) + int(encoder.class_token)
    per_block = 8 + 2 * encoder.mlp_ratio
    values = (
        seen * encoder.embed_dim * encoder.depth
        + every * decoder.decoder_dim * decoder.decoder_depth
    )
    return per_block * values * bytes_per_value


def _micro_batch_size(config: PretrainConfig, facts: Facts) -> tuple[object, str]:
    share = (config.train.batch_size or 1) // facts.processes
    size = 4 if config.runtime.precision == "float32" else 2
    per_image = activation_bytes(config.model, config.masking.mask_ratio, size)
    room = 0.5 * facts.memory_bytes / (facts.processes if facts.device == "cpu" else 1)
    fits = max(1, int(room / per_image))
    if fits >= share:
        return max(1, share), "a whole batch fits in the memory"
    while share % fits:  # equal parts
        fits -= 1
    return (
        fits,
        f"an image takes about {per_image / 1e6:.0f} MB; gradients add up over {share // fits} "
        "passes",
    )


def _epochs(config: PretrainConfig, facts: Facts) -> tuple[object, str]:
    grid = config.model.encoder().grid
    flops = training_flops(config.model, num_visible(grid.num_patches, config.masking.mask_ratio))
    if facts.device == "cpu":
        samples = _CPU_FLOPS_PER_CORE * facts.cores * _CPU_SECONDS / flops
        hours = _CPU_SECONDS / 3600
        why = f"some {hours:.0f} h on {facts.cores} cores (a guess, --plan measures)"
    else:
        samples, why = _GPU_SAMPLES, f"some {_GPU_SAMPLES / 1e6:.0f} million views"
    wanted = round(samples / facts.num_images)
    if wanted > 800:
        why = f"the most that are chosen; {why} would allow {wanted}"
    if wanted < 10:
        why = f"the fewest that are chosen; {why} would allow {wanted}"
    return int(min(800, max(10, wanted))), why


def _base_lr(config: PretrainConfig) -> tuple[object, str]:
    if (config.train.batch_size or 0) >= 1024:
        return 1.5e-4, "the paper's, for large batches"
    return 1e-3, "small batches take a higher one"


def _num_workers(facts: Facts) -> tuple[object, str]:
    if facts.device == "cpu":
        # The cores are busy with the network; one process to read ahead is what pays.
        return int(facts.cores > 1), f"the {facts.cores} cores compute as well"
    return min(16, max(1, facts.cores // facts.processes - 1)), f"of {facts.cores} cores"
