from pathlib import Path

import numpy as np
import pytest
import torch

from maekit.data.sources import ArraySource
from maekit.data.transforms import Preprocessing, Preprocessor
from maekit.features import extract
from maekit.models.vit import ViT, ViTConfig


@pytest.mark.parametrize("class_token", [True, False])
def test_extract__every_picture_in_order_as_the_encoder_says(class_token):
    images = np.random.default_rng(0).integers(0, 255, (7, 16, 16, 3)).astype(np.uint8)
    config = ViTConfig(
        image_size=(16, 16),
        patch_size=8,
        in_channels=3,
        embed_dim=16,
        depth=1,
        num_heads=2,
        class_token=class_token,
    )
    preprocessing = Preprocessing(
        image_size=(16, 16), in_channels=3, mean=(0.5,) * 3, std=(0.2,) * 3
    )
    encoder, told = ViT(config), []
    table = extract(
        encoder, ArraySource(Path("x.npy"), images), preprocessing, 0, torch.device("cpu"),
        lambda done, total: told.append((done, total)), batch_size=3,
    )  # fmt: skip
    assert told == [(3, 7), (6, 7), (7, 7)]
    with torch.no_grad():
        expected = encoder(Preprocessor(preprocessing)(list(images)))
    torch.testing.assert_close(table.mean, expected.patches.mean(1))
    assert (table.cls is None) != class_token
    if class_token:
        torch.testing.assert_close(table.cls, expected.cls)
