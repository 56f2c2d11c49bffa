"""What a fine-tuning leaves behind, written while it trains."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from maekit.analysis.probes import accuracy
from maekit.config import to_dict
from maekit.data.sources import Source
from maekit.data.survey import Skip
from maekit.data.transforms import Preprocessing
from maekit.finetuning.config import FinetuneConfig
from maekit.log import JsonLines, finite, read_json_lines
from maekit.models.classifier import Classifier
from maekit.processes import World
from maekit.report.figures import draw_curve
from maekit.report.progress import TrainDisplay
from maekit.training.meter import StepRecord

logger = logging.getLogger(__name__)


class FinetuneFolder:
    """The hooks of a fine-tuning: numbers, the score that chooses, what a checkpoint holds."""

    def __init__(
        self,
        folder: Path,
        config: FinetuneConfig,
        judged: Classifier,
        trained: Classifier | None,
        described: dict[str, Any],
        world: World,
        train_names: Source,
        display: TrainDisplay,
        guess: Callable[[], Float[Tensor, "n classes"]],
        labels: Int[Tensor, " n"],
        steps_per_epoch: int,
    ) -> None:
        self.folder, self.config = folder, config
        self.judged, self.trained = judged, trained
        """What is tested; and the weights that are trained, where those are others."""
        self.described = described
        """What a checkpoint says besides weights: model, preprocessing, classes, fingerprint."""
        self.world, self.train_names, self.display = world, train_names, display
        self.guess, self.labels, self.steps_per_epoch = guess, labels, steps_per_epoch
        self.metrics = JsonLines(folder / "metrics.jsonl")
        self.skipped = JsonLines(folder / "skipped.jsonl")

    def on_record(self, record: StepRecord) -> None:
        """Shows and writes numbers of the training."""
        if not self.world.is_main:
            return
        for index, reason in record.replaced:
            name = self.train_names.name(index)
            logger.warning("%s can no longer be read (%s); the next stands in.", name, reason)
            self.skipped.write(Skip(name, reason)._asdict() | {"step": record.step})
        speed = record.speed
        self.display.update(record.step, record.epoch, f"loss {record.scalars['loss']:.4f}", speed)
        known = finite({**record.scalars, **speed})
        self.metrics.write({"step": record.step, "epoch": record.epoch, **known})

    def on_epoch(self, epoch: int) -> float | None:
        """Measures the pictures that are held out to choose by; less is better."""
        if not self.world.is_main:
            return None
        guessed = self.guess()
        top1 = accuracy(guessed.argmax(dim=1), self.labels)
        loss = float(F.nll_loss(guessed.double().clamp_min(1e-12).log(), self.labels))
        step = epoch * self.steps_per_epoch
        self.metrics.write({"step": step, "epoch": epoch, "val_top1": top1, "val_loss": loss})
        # Accuracy chooses; among equals, the one that is surer of the truth.
        return (1.0 - top1) + 1e-4 * loss / (1.0 + loss)

    def draw(self) -> None:
        """Draws the learning curve."""
        draw_curve(
            self.folder / "learning_curve.png",
            read_json_lines(self.metrics.path),
            {"val_top1": "top-1 on the pictures held out to choose by"},
        )

    def state(self) -> dict[str, Any]:
        """Returns weights, settings, preprocessing and classes."""
        beside = {} if self.trained is None else {"trained": _weights(self.trained)}
        return {
            "kind": "finetune",
            **_weights(self.judged),
            **beside,
            "config": to_dict(self.config),
            "torch": str(torch.__version__),
            **self.described,
        }


def _weights(classifier: Classifier) -> dict[str, Any]:
    return {"encoder": classifier.encoder.state_dict(), "head": classifier.head.state_dict()}


def described(
    model: dict[str, Any], preprocessing: Preprocessing, classes: list[str], fingerprint: str
) -> dict[str, Any]:
    """Returns what a checkpoint says of a classifier besides its weights and settings."""
    return {
        "model": model,
        "preprocessing": to_dict(preprocessing),
        "classes": classes,
        "data_fingerprint": fingerprint,
    }
