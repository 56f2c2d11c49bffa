"""One fine-tuning from initial weights to guesses on the test."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maekit import checkpoint
from maekit.analysis.probes import accuracy
from maekit.data.labelled import LabelledData
from maekit.data.sources import Source
from maekit.errors import DataError
from maekit.finetuning.build import (
    build_classifier,
    build_training,
    cache_tokens,
    predict_source,
    train_batches,
)
from maekit.finetuning.config import FinetuneConfig
from maekit.finetuning.run_folder import FinetuneFolder, described
from maekit.log import JsonLines
from maekit.models.classifier import Classifier, probabilities
from maekit.processes import World, from_main
from maekit.report.progress import TrainDisplay, counting
from maekit.training.averaging import average_of
from maekit.training.keeper import Keeper, has_checkpoint
from maekit.training.loop import train

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """What a fine-tuning came to, before it is scored."""

    guessed: Float[Tensor, "n classes"]
    """Probabilities on the test."""
    val_top1: float
    loaded: str
    """Which weights it started from."""


def fit(
    config: FinetuneConfig,
    state: dict[str, Any],
    data: LabelledData,
    world: World,
    out: Path,
    random: bool = False,
) -> Fitted | None:
    """Trains one classifier in its folder; the checkpoint that was chosen guesses the test.

    Only the main process writes, judges and returns something.

    Args:
        config: Settings in which nothing is left open.
        state: Checkpoint with the encoder.
        data: Pictures and classes.
        world: Where it runs.
        out: Folder of the run.
        random: Whether the encoder gets random weights instead, even a frozen one.

    Raises:
        DataError: If a resumed run finds other pictures than it began with.
    """
    preprocessing = checkpoint.preprocessing_of(state)
    classifier, loaded = build_classifier(config, state, len(data.classes), random)
    if world.is_main:
        logger.info("Weights: %s", loaded)
    classifier.to(world.device)
    fingerprint = "+".join(found.fingerprint() for found in data.surveys)

    def tokens(source: Source, what: str) -> Tensor | None:
        with counting(f"Features of {what}") as progress:
            return cache_tokens(config, classifier, source, preprocessing, world.device, progress)

    cache = tokens(data.train.source, "training")
    val_tokens = None if cache is None else tokens(data.val.source, "validation")
    training = build_training(config, classifier, data, preprocessing, world, cache)
    weights = _Weights(classifier, config.ema)
    judged = weights.judged
    keeper = Keeper(out / "checkpoints", 2) if world.is_main else None
    if config.resume is not None and has_checkpoint(out):
        saved = from_main(world, keeper.newest() if keeper else None)
        if saved["data_fingerprint"] != fingerprint or saved["classes"] != data.classes:
            raise DataError(
                f"The pictures in {config.data.dir} are not those the run began with; bring them "
                "back, or start a new run."
            )
        weights.load(saved)
        training.load_state(saved)
        if world.is_main:
            JsonLines(out / "metrics.jsonl").keep(training.progress.step)

    def guess() -> Tensor:
        if val_tokens is None:
            return predict_source(
                config, judged, data.val.source, preprocessing, world.device, _silent
            )
        judged.eval()
        with torch.no_grad():
            guessed = probabilities(judged.head(val_tokens.to(world.device))).cpu()
        judged.train()
        return guessed

    plan = training.plan
    display = TrainDisplay(plan.num_steps, config.train.epochs or 0, training.progress.step)
    hooks = FinetuneFolder(
        out, config, judged, None if weights.average is None else classifier,
        described(state["model"], preprocessing, data.classes, fingerprint),
        world, data.train.source, display, guess, torch.from_numpy(data.val.labels),
        plan.steps_per_epoch,
    )  # fmt: skip
    batches = train_batches(
        config, data.train, preprocessing, plan, training.progress.step, world, cache is not None
    )
    classifier.train()
    with display if world.is_main else contextlib.nullcontext():
        train(training, batches, hooks, keeper, weights.after_step)
    if not world.is_main:
        return None
    _load_weights(judged, checkpoint.load(out / "checkpoints" / "best.pt"))
    hooks.draw()
    val_top1 = accuracy(guess().argmax(1), hooks.labels)
    with counting("Testing") as progress:
        guessed = predict_source(
            config, judged, data.test.source, preprocessing, world.device, progress
        )
    return Fitted(guessed, val_top1, loaded)


class _Weights:
    """What is trained, and what is judged, kept and tested: the same, or its running mean."""

    def __init__(self, classifier: Classifier, ema: float | None) -> None:
        self.trained = self.judged = classifier
        self.average = None if ema is None else average_of(classifier, ema)
        if self.average is not None:
            assert isinstance(self.average.module, Classifier)
            self.judged = self.average.module

    def after_step(self) -> None:
        """Follows the weights that are trained."""
        if self.average is not None:
            self.average.update_parameters(self.trained)

    def load(self, saved: dict[str, Any]) -> None:
        """Takes back what a checkpoint holds."""
        _load_weights(self.judged, saved)
        if self.average is not None:
            _load_weights(self.trained, saved["trained"])
            self.average.n_averaged.fill_(saved["progress"]["step"])


def _silent(done: int, total: int) -> None:
    """Shows nothing."""


def _load_weights(classifier: Classifier, saved: dict[str, Any]) -> None:
    checkpoint.load_weights(classifier.encoder, saved["encoder"], "encoder")
    checkpoint.load_weights(classifier.head, saved["head"], "head")
