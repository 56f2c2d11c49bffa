"""The settings of a fine-tuning run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from maekit.data.labelled import LabelConfig
from maekit.errors import ConfigError
from maekit.models.classifier import HeadConfig
from maekit.models.mae import ModelConfig
from maekit.runtime import RuntimeConfig
from maekit.training.config import TrainConfig, check_batch
from maekit.training.optim import OptimConfig
from maekit.training.schedule import ScheduleConfig

Mode = Literal["frozen", "partial", "full", "scratch"]


@dataclass(frozen=True, kw_only=True)
class RegularConfig:
    """Random changes to pictures and labels. What is not given follows the mode.

    Frozen encoders get none, so that their features are computed once. Tuned ones get those of
    He et al. 2022, appendix A.1, "End-to-end fine-tuning".
    """

    crop_scale: tuple[float, float] | None = None
    """Least and greatest share of a picture's area in a random crop; whole pictures if 1 and 1."""
    flip: bool | None = None
    """Whether to mirror half of the pictures."""
    randaugment: int | None = None
    """Magnitude of RandAugment, 0 (off) to 30; for 8-bit pictures of one or three channels."""
    erase: float | None = None
    """Share of pictures of which a rectangle is replaced by noise, in [0, 1]."""
    mixup: float | None = None
    """Alpha of mixup; 0 for none."""
    cutmix: float | None = None
    """Alpha of cutmix; 0 for none. With both, each batch gets one of them."""
    label_smoothing: float | None = None
    """Share of the label spread over all classes, in [0, 1)."""
    drop_path: float | None = None
    """Dropped residual branches in the encoder's last block, in [0, 1)."""

    def __post_init__(self) -> None:
        if self.crop_scale is not None and not 0.0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ConfigError(f"crop_scale must rise within (0, 1], got {list(self.crop_scale)}.")
        for name, most in (("erase", 1.0), ("label_smoothing", 0.999), ("drop_path", 0.999)):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= most:
                raise ConfigError(f"{name} must lie between 0 and 1, got {value}.")
        for name in ("mixup", "cutmix", "randaugment"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"{name} must not be negative, got {value}.")

    @property
    def changes_pictures(self) -> bool:
        """Whether a picture looks different every time, so that its features cannot be kept."""
        whole = self.crop_scale in (None, (1.0, 1.0))
        return not whole or bool(
            self.flip or self.randaugment or self.erase or self.mixup or self.cutmix
        )


_NONE = RegularConfig(
    crop_scale=(1.0, 1.0), flip=False, randaugment=0, erase=0.0, mixup=0.0, cutmix=0.0,
    label_smoothing=0.0, drop_path=0.0,
)  # fmt: skip
_PAPER = RegularConfig(
    crop_scale=(0.2, 1.0), flip=True, randaugment=9, erase=0.25, mixup=0.8, cutmix=1.0,
    label_smoothing=0.1, drop_path=0.1,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Turns a pre-trained encoder into a classifier."""

    data: LabelConfig
    init: Path | None = None
    """Checkpoint or run folder with the encoder; its size and preprocessing are used."""
    mode: Mode = "frozen"
    """Train the head alone; the last blocks too; everything; or everything from random weights."""
    tune_blocks: int = 4
    """Of `partial`: last blocks that are trained."""
    layer_decay: float = 0.65
    """Of tuned encoders: learning rate of a block over that of the next, in (0, 1]."""
    ema: float | None = None
    """Decay of a running mean of the weights that is kept and tested in their place, in (0, 1),
    e.g. 0.999; none if not given."""
    class_weights: bool = False
    """Whether rare classes weigh more in the loss, so that all classes weigh the same."""
    baseline: bool = True
    """Whether the same is trained from random weights too, to tell what pre-training brings."""
    head: HeadConfig = field(default_factory=HeadConfig)
    augment: RegularConfig = field(default_factory=RegularConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    """The encoder's; taken from the checkpoint, which a given value must not contradict."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(betas=(0.9, 0.999)))
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    out: Path | None = None
    """Folder of the run; runs/finetune-DATE-TIME if not given."""
    resume: Path | None = None
    """Run folder to go on with, exactly where it stopped; its settings are used."""

    def __post_init__(self) -> None:
        if self.init is None and self.resume is None:
            raise ConfigError("init is needed: the checkpoint or run folder of the encoder.")
        if not 0.0 < self.layer_decay <= 1.0:
            raise ConfigError(f"layer_decay must lie in (0, 1], got {self.layer_decay}.")
        if self.ema is not None and not 0.0 < self.ema < 1.0:
            raise ConfigError(f"ema must lie between 0 and 1, got {self.ema}.")
        if self.tune_blocks < 1:
            raise ConfigError(f"tune_blocks must be at least 1, got {self.tune_blocks}.")
        if self.runtime.devices > 1 and self.frozen:
            raise ConfigError(
                "devices must be 1 where the encoder is frozen: what it says of every picture is "
                "computed once."
            )

    @property
    def frozen(self) -> bool:
        """Whether the encoder's weights stay as they are."""
        return self.mode == "frozen"


# A resumed run may change these: they move where and how it computes, not what.
SAFE_TO_CHANGE = (
    "data.dir",
    "data.num_workers",
    "data.max_skipped",
    "runtime.device",
    "runtime.devices",
    "runtime.compile",
    "train.log_every",
    "train.micro_batch_size",
    "train.max_nonfinite",
    "baseline",
    "init",
    "out",
    "resume",
)


def choose(
    config: FinetuneConfig, num_images: int, channels: int, processes: int = 1
) -> FinetuneConfig:
    """Fills in what is left open, by mode and number of pictures.

    Args:
        config: As given.
        num_images: Pictures to train on.
        channels: Of the encoder.
        processes: That share a batch.

    Raises:
        MaekitError: If the batch does not suit the pictures or the processes.
    """
    usual = _NONE if config.frozen else _PAPER
    if channels not in (1, 3):
        usual = replace(usual, randaugment=0)
    augment = replace(
        config.augment,
        **{
            name: value
            for name, value in vars(usual).items()
            if getattr(config.augment, name) is None
        },
    )
    train, optim = config.train, config.optim
    train = replace(
        train,
        epochs=train.epochs or (100 if config.frozen else 50),
        batch_size=train.batch_size or min(64, num_images) // processes * processes,
    )
    assert train.batch_size is not None
    check_batch(train.batch_size, num_images, processes)
    steps = -(-num_images // train.batch_size)
    train = replace(train, log_every=train.log_every or max(1, min(10, steps // 4)))
    # At 64 pictures a step these are rates of 1e-3 and 2.5e-4.
    optim = replace(optim, base_lr=optim.base_lr or (4e-3 if config.frozen else 1e-3))
    return replace(config, augment=augment, train=train, optim=optim)
