import pytest
import torch

from maekit.data.loader import Batch
from maekit.data.transforms import Normalise, Preprocessing
from maekit.finetuning.config import RegularConfig
from maekit.finetuning.objective import FinetuneObjective, class_weights
from maekit.models.classifier import Classifier, HeadConfig
from maekit.models.vit import ViT, ViTConfig

PREPROCESSING = Preprocessing(image_size=(8, 8), in_channels=1, mean=(0.5,), std=(0.2,))


def classifier(frozen=True, kind="linear"):
    torch.manual_seed(0)
    vit = ViT(
        ViTConfig(image_size=(8, 8), patch_size=4, in_channels=1, embed_dim=8, depth=2, num_heads=2)
    )
    return Classifier(vit, HeadConfig(kind=kind), num_classes=3, frozen=frozen)


@pytest.mark.parametrize("kind", ["linear", "mlp", "attentive"])
def test_objective__cached_and_uncached_agree(kind):
    model, normalise = classifier(kind=kind), Normalise(PREPROCESSING)
    images = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    cache = model.eval().select(normalise(images))
    model.train()
    indices = torch.tensor([4, 0, 3])
    losses = [
        FinetuneObjective(model, normalise, labels, RegularConfig(), cache=held)(
            Batch(images[indices], torch.empty(3, 0), indices, [])
        ).total
        for held in (None, cache)
    ]
    one, two = (loss.item() for loss in losses)
    assert one == pytest.approx(two, rel=1e-6)


def test_objective__mixes_and_weights():
    labels = torch.tensor([0, 0, 0, 1])
    weights = class_weights(labels, 3)
    assert weights[1] == pytest.approx(3 * float(weights[0]))
    assert float(weights.mean()) == pytest.approx(1.0)
    objective = FinetuneObjective(
        classifier(frozen=False), Normalise(PREPROCESSING), labels,
        RegularConfig(mixup=0.8, cutmix=1.0, label_smoothing=0.1), weights,
    )  # fmt: skip
    batch = Batch(torch.rand(4, 1, 8, 8), torch.empty(4, 0), torch.arange(4), [])
    losses = set()
    for seed in range(4):
        torch.manual_seed(seed)
        losses.add(objective(batch).total.item())
    assert len(losses) == 4
