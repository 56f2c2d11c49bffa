"""From settings and labelled data to a classifier, its batches, and its guesses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maekit import checkpoint
from maekit.config import from_dict
from maekit.data.labelled import Labelled, LabelledData
from maekit.data.loader import Batch, StepSampler, Views, build_loader, index_batches
from maekit.data.scan_pool import Progress
from maekit.data.sources import Source
from maekit.data.transforms import EvalTransform, Normalise, Preprocessing
from maekit.features import whole_views
from maekit.finetuning.config import FinetuneConfig
from maekit.finetuning.objective import FinetuneObjective, class_weights
from maekit.finetuning.transforms import FinetuneTransform
from maekit.models.classifier import Classifier, probabilities
from maekit.models.mae import ModelConfig
from maekit.models.vit import ViT
from maekit.processes import World
from maekit.runtime import mix, num_cores
from maekit.training.config import LoopPlan, batch_plan, plan_loop
from maekit.training.optim import build_optimizer, layer_decay_groups
from maekit.training.state import Training

# Tells the seed of the initial weights from the other uses of the seed.
_WEIGHTS = 5
# Tokens that are kept in memory instead of being computed again.
_MOST_CACHED_BYTES = 4 << 30


def build_classifier(
    config: FinetuneConfig, state: dict[str, Any], num_classes: int, random: bool = False
) -> tuple[Classifier, str]:
    """Builds the classifier with its initial weights; says which.

    Raises:
        CheckpointError: If the encoder of the checkpoint is not complete.
    """
    torch.manual_seed(mix(config.train.seed, _WEIGHTS))
    shape = from_dict(ModelConfig, state["model"], "checkpoint").encoder()
    encoder = ViT(replace(shape, drop_path=config.augment.drop_path or 0.0))
    loaded = "random"
    if config.mode != "scratch" and not random:
        loaded = checkpoint.load_weights(encoder, state["encoder"], "encoder")
    classifier = Classifier(encoder, config.head, num_classes, config.frozen)
    if config.mode == "partial":
        encoder.requires_grad_(requires_grad=False)
        used = encoder.blocks[: classifier.layer]
        for block in used[-config.tune_blocks :]:
            block.requires_grad_()
    elif not config.frozen and "pos_embed" in dict(encoder.named_buffers()):
        # Positions are tuned too, as in the reference.
        positions = encoder.pos_embed.clone()
        del encoder.pos_embed
        encoder.register_parameter("pos_embed", torch.nn.Parameter(positions))
    # What comes after the tokens that the head takes has no gradient, and processes would wait
    # for it: the last norm (the head has its own), and blocks behind the one that is used.
    for unused in (encoder.norm, *encoder.blocks[classifier.layer :]):
        unused.requires_grad_(requires_grad=False)
    return classifier, loaded


def build_training(
    config: FinetuneConfig,
    classifier: Classifier,
    data: LabelledData,
    preprocessing: Preprocessing,
    world: World,
    cache: Float[Tensor, "n k d"] | None,
) -> Training:
    """Builds objective, optimiser and the loop's plan."""
    labels = torch.from_numpy(data.train.labels)
    weights = class_weights(labels, len(data.classes)) if config.class_weights else None
    objective = FinetuneObjective(
        classifier,
        Normalise(preprocessing),
        labels,
        config.augment,
        None if weights is None else weights.to(world.device),
        cache,
    ).to(world.device)
    depth = classifier.encoder.config.depth
    groups = layer_decay_groups(
        classifier, config.optim.weight_decay, depth, 1.0 if config.frozen else config.layer_decay
    )
    optimizer = build_optimizer(classifier, config.optim, groups)
    assert config.train.epochs is not None
    plan = plan_loop(
        config.train,
        config.optim,
        config.schedule,
        len(labels),
        world.size,
        precision=config.runtime.precision or "float32",
        eval_every=max(1, config.train.epochs // 50),
        save_every_steps=None,
        save_every_s=600.0,
    )
    return Training(objective, optimizer, plan, world, config.runtime.compile)


def train_batches(
    config: FinetuneConfig,
    train: Labelled,
    preprocessing: Preprocessing,
    plan: LoopPlan,
    first_step: int,
    world: World,
    cached: bool,
) -> Iterator[Batch]:
    """Yields batches from a step to the end; of indices alone where tokens are cached."""
    steps = range(first_step, plan.num_steps)
    sampler = StepSampler(
        len(train), batch_plan(config.train), plan.seed, steps, world.rank, world.size
    )
    if cached:
        return index_batches(sampler)
    transform = (
        FinetuneTransform(preprocessing.image_size, config.augment)
        if config.augment.changes_pictures
        else EvalTransform(preprocessing.image_size)
    )
    views = Views(train.source, transform, preprocessing.in_channels, 1, plan.seed)
    return iter(build_loader(views, sampler, _workers(config)))


def _workers(config: FinetuneConfig) -> int:
    given = config.data.num_workers
    return num_cores() - 1 if given is None else given


def cache_tokens(
    config: FinetuneConfig,
    classifier: Classifier,
    source: Source,
    preprocessing: Preprocessing,
    device: torch.device,
    progress: Progress,
) -> Float[Tensor, "n k d"] | None:
    """Computes once what the head takes; None where pictures change or memory does not suffice."""
    if not config.frozen or config.augment.changes_pictures:
        return None
    shape = classifier.encoder.config
    tokens = shape.grid.num_patches if config.head.kind == "attentive" else 1
    if len(source) * tokens * shape.embed_dim * 4 > _MOST_CACHED_BYTES:
        return None
    return _over_source(
        config, classifier.select, classifier, source, preprocessing, device, progress
    )


def predict_source(
    config: FinetuneConfig,
    classifier: Classifier,
    source: Source,
    preprocessing: Preprocessing,
    device: torch.device,
    progress: Progress,
) -> Float[Tensor, "n classes"]:
    """Returns the probability of each class for whole pictures, in order, on the CPU."""

    def guess(images: Tensor) -> Tensor:
        return probabilities(classifier(images))

    return _over_source(config, guess, classifier, source, preprocessing, device, progress)


@torch.no_grad()
def _over_source(
    config: FinetuneConfig,
    function: Callable[[Tensor], Tensor],
    classifier: Classifier,
    source: Source,
    preprocessing: Preprocessing,
    device: torch.device,
    progress: Progress,
) -> Tensor:
    was_training = classifier.training
    classifier.eval()
    views = whole_views(source, preprocessing, _workers(config), device, progress)
    rows = torch.cat([function(images).float().cpu() for images in views])
    classifier.train(was_training)
    return rows
