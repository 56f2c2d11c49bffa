"""What a run leaves behind, written while it trains."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from maekit.config import to_dict
from maekit.data.loader import Batch
from maekit.data.sources import Source
from maekit.data.survey import Skip
from maekit.data.transforms import Preprocessing, to_unit
from maekit.errors import DataError
from maekit.log import JsonLines, Tracker, finite, read_json_lines
from maekit.masking import random_mask
from maekit.pretraining.config import PretrainConfig
from maekit.pretraining.objective import PretrainObjective, evaluate, explained
from maekit.pretraining.reconstruction import note_for, reconstruct
from maekit.processes import World
from maekit.report.figures import draw_loss, draw_panels
from maekit.report.progress import TrainDisplay
from maekit.targets import Baselines
from maekit.training.meter import StepRecord

logger = logging.getLogger(__name__)
# The loss curve takes a fifth of a second to draw, and epochs of small data may take less.
_DRAW_EVERY_S = 5.0


class HeldOut:
    """The fixed pictures and masks by which epochs are compared."""

    def __init__(self, batches: Iterable[Batch], is_separate: bool, baselines: Baselines) -> None:
        self.batches = batches
        self.is_separate = is_separate
        """False where the pictures were too few to hold any out: then these are trained on."""
        self.baselines = baselines

    @property
    def what(self) -> str:
        """What a loss on them is called."""
        return "held-out" if self.is_separate else "training-picture"

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


class RunFolder:
    """The hooks of a pre-training run: numbers, figures, held-out loss, what a checkpoint holds."""

    def __init__(
        self,
        config: PretrainConfig,
        objective: PretrainObjective,
        preprocessing: Preprocessing,
        world: World,
        held_out: HeldOut,
        display: TrainDisplay,
        trackers: list[Tracker],
        train_names: Source,
        fingerprint: str,
        most_replaced: int,
        steps_per_epoch: int,
    ) -> None:
        assert config.out is not None
        self.folder = config.out
        self.config, self.objective, self.world = config, objective, world
        self.preprocessing, self.held_out = preprocessing, held_out
        self.display, self.trackers = display, trackers
        self.train_names, self.fingerprint, self.most_replaced = (
            train_names,
            fingerprint,
            most_replaced,
        )
        self.steps_per_epoch = steps_per_epoch
        self.metrics = JsonLines(self.folder / "metrics.jsonl")
        self.skipped = JsonLines(self.folder / "skipped.jsonl")
        self.replaced = 0
        self.last_record: StepRecord | None = None
        self.val_loss: float | None = None
        self._drawn_at = -math.inf

    def on_record(self, record: StepRecord) -> None:
        """Shows and writes numbers of the training."""
        self._note_replaced(record)
        if not self.world.is_main:
            return
        self.last_record = record
        share = explained(record.scalars["loss"], self.held_out.baselines)
        speed = record.speed
        shown = f"loss {record.scalars['loss']:.4f}  explained {share:.1%}"
        self.display.update(record.step, record.epoch, shown, speed)
        self._write(record.step, record.epoch, {**record.scalars, "explained": share, **speed})

    def _write(self, step: int, epoch: float, scalars: Mapping[str, float]) -> None:
        known = finite(scalars)
        self.metrics.write({"step": step, "epoch": round(epoch, 6), **known})
        for tracker in self.trackers:
            tracker.log(step, known)

    def _note_replaced(self, record: StepRecord) -> None:
        for index, reason in record.replaced:
            name = self.train_names.name(index)
            logger.warning(
                "%s can no longer be read (%s); the next picture stands in.", name, reason
            )
            self.skipped.write(Skip(name, reason)._asdict() | {"step": record.step})
        self.replaced += len(record.replaced)
        if self.replaced > self.most_replaced:
            raise DataError(
                f"{self.replaced} pictures broke since the scan, more than data.max_skipped "
                "allows; see "
                f"{self.skipped.path}. Mend the data, then --resume {self.folder}."
            )

    def on_epoch(self, epoch: int) -> float | None:
        """Measures the held-out loss and draws: the loss curve, every few epochs pictures too."""
        if not self.world.is_main:
            return None
        self.val_loss = evaluate(self.objective, self.held_out, self.world.device)
        share = explained(self.val_loss, self.held_out.baselines)
        step = epoch * self.steps_per_epoch
        self._write(step, epoch, {"val_loss": self.val_loss, "val_explained": share})
        logger.info(
            "Epoch %d: %s loss %.4f, explains %.1f %%.",
            epoch,
            self.held_out.what,
            self.val_loss,
            100 * share,
        )
        every = self.config.output.figures_every or 1
        if epoch % every == 0 or epoch == self.config.train.epochs:
            self.draw(epoch)
        is_last = epoch == self.config.train.epochs
        if is_last or time.monotonic() - self._drawn_at > _DRAW_EVERY_S:
            self._draw_loss()
        return self.val_loss

    def _draw_loss(self) -> None:
        self._drawn_at = time.monotonic()
        references = {
            "best single colour": self.held_out.baselines.mean_colour,
            "true mean of each patch": self.held_out.baselines.patch_mean,
        }
        draw_loss(self.folder / "loss.png", read_json_lines(self.metrics.path), references)

    def draw(self, epoch: int) -> None:
        """Draws reconstructions of the first held-out pictures under their fixed masks."""
        batch = next(iter(self.held_out))
        number, device = self.config.output.figure_images, self.world.device
        mask = random_mask(batch.noise[:number].to(device), self.config.masking.mask_ratio)
        mae, was_training = self.objective.mae, self.objective.training
        self.objective.eval()
        images = to_unit(batch.images[:number].to(device))
        panels = reconstruct(mae, self.objective.normalise, images, mask).panels
        self.objective.train(was_training)
        title = f"Epoch {epoch}: {self.config.masking.mask_ratio:.0%} of the patches hidden"
        if not self.held_out.is_separate:
            title += " (pictures it trains on)"
        path = self.folder / "figures" / f"epoch-{epoch:05d}.png"
        draw_panels(path, panels, title, note_for(self.config.model.target))

    def state(self) -> dict[str, Any]:
        """Returns weights, settings and preprocessing."""
        mae = self.objective.mae
        return {
            "kind": "pretrain",
            "encoder": mae.encoder.state_dict(),
            "decoder": mae.decoder.state_dict(),
            "model": to_dict(self.config.model),
            "preprocessing": to_dict(self.preprocessing),
            "config": to_dict(self.config),
            "data_fingerprint": self.fingerprint,
            "torch": str(torch.__version__),
        }
