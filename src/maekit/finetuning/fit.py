"""One fine-tuning from initial weights to guesses on the test."""

from __future__ import annotations

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
from maekit.report.progress import TrainDisplay, counting
from maekit.runtime import World
from maekit.training.averaging import average_of
from maekit.training.keeper import Keeper
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
) -> Fitted:
    """Trains one classifier in its folder; the checkpoint that was chosen guesses the test.

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
    logger.info("Weights: %s", loaded)
    classifier.to(world.device)
    fingerprint = "+".join(found.fingerprint() for found in data.surveys)

    def tokens(source: Source, what: str) -> Tensor | None:
        with counting(f"Features of {what}") as progress:
            return cache_tokens(config, classifier, source, preprocessing, world.device, progress)

    cache = tokens(data.train.source, "training")
    val_tokens = None if cache is None else tokens(data.val.source, "validation")
    training = build_training(config, classifier, data, preprocessing, world, cache)
    average = None if config.ema is None else average_of(classifier, config.ema)
    # What is judged, kept and tested: the weights, or their running mean.
    judged = classifier
    if average is not None:
        assert isinstance(average.module, Classifier)
        judged = average.module
    keeper = Keeper(out / "checkpoints", 2)
    if config.resume is not None:
        saved = keeper.newest()
        if saved["data_fingerprint"] != fingerprint or saved["classes"] != data.classes:
            raise DataError(
                f"The pictures in {config.data.dir} are not those the run began with; bring them "
                "back, or start a new run."
            )
        _load_weights(judged, saved)
        training.load_state(saved)
        if average is not None:
            _load_weights(classifier, saved["trained"])
            average.n_averaged.fill_(training.progress.step)
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
        out, config, judged, None if average is None else classifier,
        described(state["model"], preprocessing, data.classes, fingerprint),
        data.train.source, display, guess, torch.from_numpy(data.val.labels), plan.steps_per_epoch,
    )  # fmt: skip
    batches = train_batches(
        config, data.train, preprocessing, plan, training.progress.step, cache is not None
    )
    classifier.train()

    def after_step() -> None:
        if average is not None:
            average.update_parameters(classifier)

    with display:
        train(training, batches, hooks, keeper, after_step)
    _load_weights(judged, checkpoint.load(out / "checkpoints" / "best.pt"))
    hooks.draw()
    val_top1 = accuracy(guess().argmax(1), hooks.labels)
    with counting("Testing") as progress:
        guessed = predict_source(
            config, judged, data.test.source, preprocessing, world.device, progress
        )
    return Fitted(guessed, val_top1, loaded)


def _silent(done: int, total: int) -> None:
    """Shows nothing."""


def _load_weights(classifier: Classifier, saved: dict[str, Any]) -> None:
    checkpoint.load_weights(classifier.encoder, saved["encoder"], "encoder")
    checkpoint.load_weights(classifier.head, saved["head"], "head")
