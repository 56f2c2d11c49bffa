import numpy as np
import pytest
import torch

from maekit.data.labelled import Labelled, LabelledData
from maekit.data.sources import ArraySource
from maekit.data.transforms import Preprocessing
from maekit.models.vit import ViT, ViTConfig
from maekit.probing import measure as module
from maekit.probing.measure import KS, Measuring, measure


def part(tmp_path, number, seed):
    labels = np.arange(number) % 2
    pictures = np.random.default_rng(seed).integers(0, 80, (number, 16, 16, 3))
    pictures += 150 * labels[:, None, None, None]
    return Labelled(ArraySource(tmp_path / "a.npy", pictures.astype(np.uint8)), labels)


@pytest.fixture
def how(tmp_path):
    parts = (part(tmp_path, number, seed) for seed, number in enumerate((24, 8, 12)))
    return Measuring(
        data=LabelledData(["dark", "light"], *parts, surveys=[], notes=[], leaked=0),
        preprocessing=Preprocessing(
            image_size=(16, 16), in_channels=3, mean=(0.5,) * 3, std=(0.25,) * 3
        ),
        methods=("attentive",), ks=KS, temperature=0.07, seed=0, num_workers=0,
        device=torch.device("cpu"),
    )  # fmt: skip


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return ViT(
        ViTConfig(
            image_size=(16, 16), patch_size=4, in_channels=3, embed_dim=24, depth=3, num_heads=3
        )
    )


@pytest.mark.slow
def test_measure__attentive_within_its_memory(how, encoder, monkeypatch):
    (score,) = measure(how, encoder, "pre-trained")
    assert (score.method, score.features) == ("attentive", "patches")
    assert score.chosen in ("block 2 of 2, 3", "block 3 of 2, 3")
    assert score.test.top1 == 1.0
    one = 16 * 24 * 2  # bytes of a picture's tokens of one block
    monkeypatch.setattr(module, "_MOST_BYTES", 20 * one)
    (score,) = measure(how, encoder, "pre-trained")
    assert "searched on 10, trained on 20 pictures" in score.chosen
