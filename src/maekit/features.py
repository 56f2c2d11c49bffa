"""A frozen encoder over pictures: one row of features each, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float16
from torch import Tensor

from maekit.data.loader import Views, build_loader, in_order
from maekit.data.scan_pool import Progress
from maekit.data.sources import Source
from maekit.data.transforms import EvalTransform, Normalise, Preprocessing
from maekit.models.vit import ViT


class FeatureTable(NamedTuple):
    """Features of many pictures, on the CPU in float32."""

    cls: Float[Tensor, "n d"] | None
    """Class tokens; None from an encoder without one."""
    mean: Float[Tensor, "n d"]
    """Means of the patch tokens."""


@torch.no_grad()
def extract(
    encoder: ViT,
    source: Source,
    preprocessing: Preprocessing,
    num_workers: int,
    device: torch.device,
    progress: Progress,
    batch_size: int = 64,
) -> FeatureTable:
    """Encodes every picture of a source, whole, in order."""
    encoder = encoder.to(device).eval()
    tokens: list[Tensor] = []
    means: list[Tensor] = []
    for images in whole_views(source, preprocessing, num_workers, device, progress, batch_size):
        features = encoder(images)
        if features.cls is not None:
            tokens.append(features.cls.float().cpu())
        means.append(features.patches.float().mean(dim=1).cpu())
    return FeatureTable(torch.cat(tokens) if tokens else None, torch.cat(means))


@torch.no_grad()
def extract_patches(
    encoder: ViT,
    source: Source,
    layers: Sequence[int],
    preprocessing: Preprocessing,
    num_workers: int,
    device: torch.device,
    progress: Progress,
    batch_size: int = 64,
) -> dict[int, Float16[Tensor, "n patches d"]]:
    """Returns the patch tokens of every picture, whole, in order, after some blocks.

    Half precision halves the memory; the rounding is far below the spread of the tokens.
    """
    encoder = encoder.to(device).eval()
    shape = encoder.config
    # Filled in place: lists of batches that are joined at the end need twice the memory.
    tables = {
        layer: torch.empty(
            len(source), shape.grid.num_patches, shape.embed_dim, dtype=torch.float16
        )
        for layer in layers
    }
    done = 0
    for images in whole_views(source, preprocessing, num_workers, device, progress, batch_size):
        for layer, features in encoder.features_at(images, layers).items():
            tables[layer][done : done + len(images)] = features.patches.half().cpu()
        done += len(images)
    return tables


def whole_views(
    source: Source,
    preprocessing: Preprocessing,
    num_workers: int,
    device: torch.device,
    progress: Progress,
    batch_size: int = 64,
) -> Iterator[Float[Tensor, "b c height width"]]:
    """Yields every picture of a source, whole, normalised, in order, on the device."""
    views = Views(
        source, EvalTransform(preprocessing.image_size), preprocessing.in_channels, 1, seed=0
    )
    normalise = Normalise(preprocessing).to(device)
    done = 0
    for batch in build_loader(views, in_order(len(source), batch_size), num_workers):
        yield normalise(batch.images.to(device))
        done += len(batch.indices)
        progress(done, len(source))
