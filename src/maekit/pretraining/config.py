"""The settings of a pre-training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from maekit.data.loader import DataConfig
from maekit.data.transforms import AugmentConfig
from maekit.errors import ConfigError
from maekit.log import TrackerConfig
from maekit.masking import MaskingConfig
from maekit.models.mae import ModelConfig
from maekit.runtime import RuntimeConfig
from maekit.training.config import TrainConfig
from maekit.training.optim import OptimConfig
from maekit.training.schedule import ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """What a run leaves on the disk, and how often."""

    keep_last: int = 3
    """Checkpoints to keep; the best and the last one are never deleted."""
    eval_every: int | None = None
    """Epochs between two evaluations on held-out pictures, each with a checkpoint; about 50 a
    run if not given."""
    save_every_steps: int | None = None
    """Steps between two checkpoints besides."""
    save_every_minutes: float = 10.0
    """Minutes without a checkpoint after which one is written in mid-epoch."""
    figures_every: int | None = None
    """Epochs between two figures of reconstructions; about 20 a run if not given."""
    figure_images: int = 6
    """Held-out pictures in a figure."""

    def __post_init__(self) -> None:
        for name in (
            "keep_last",
            "eval_every",
            "save_every_steps",
            "figures_every",
            "figure_images",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}.")
        if self.figures_every and self.eval_every and self.figures_every % self.eval_every:
            raise ConfigError(
                f"figures_every {self.figures_every} must be a multiple of eval_every "
                f"{self.eval_every}: figures are drawn where the held-out loss is measured."
            )
        if self.save_every_minutes <= 0:
            raise ConfigError(
                f"save_every_minutes must be positive, got {self.save_every_minutes}."
            )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Pre-trains a masked autoencoder on a folder of unlabelled pictures."""

    data: DataConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    trackers: TrackerConfig = field(default_factory=TrackerConfig)
    out: Path | None = None
    """Folder of the run; runs/DATE-TIME if not given."""
    init: Path | None = None
    """Checkpoint or run folder whose weights a new run starts from."""
    resume: Path | None = None
    """Run folder to go on with, exactly where it stopped; its settings are used."""
    plan: bool = False
    """Only print what would happen, with measured speed and memory."""
    profile: int | None = None
    """Steps to trace with torch.profiler, after two of warm-up."""

    def __post_init__(self) -> None:
        if self.profile is not None and self.profile < 1:
            raise ConfigError(f"profile must be at least 1, got {self.profile}.")


# A resumed run may change these: they move where and how it computes, not what.
SAFE_TO_CHANGE = (
    "data.dir",  # a folder may move; that its pictures are the same is checked by content
    "data.num_workers",
    "runtime.device",
    "runtime.devices",
    "runtime.compile",
    "output.",
    "trackers.",
    "train.log_every",
    "train.micro_batch_size",
    "train.max_nonfinite",
    "data.max_skipped",
    "out",
    "resume",
    "plan",
    "profile",
)
