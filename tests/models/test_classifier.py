import pytest
import torch

from maekit.errors import ConfigError
from maekit.models.classifier import Classifier, HeadConfig, probabilities
from maekit.models.vit import ViT, ViTConfig


def encoder(**changes):
    shape = {
        "image_size": (16, 16), "patch_size": 4, "in_channels": 3,
        "embed_dim": 24, "depth": 2, "num_heads": 3,
    }  # fmt: skip
    return ViT(ViTConfig(**shape | changes))


@pytest.mark.parametrize("kind", ["linear", "mlp", "attentive"])
@pytest.mark.parametrize("pool", ["mean", "cls"])
@pytest.mark.parametrize("layer", [None, 1])
@pytest.mark.parametrize("frozen", [True, False])
def test_classifier__every_head(kind, pool, layer, frozen):
    config = HeadConfig(kind=kind, pool=pool, layer=layer)
    model = Classifier(encoder(), config, num_classes=5, frozen=frozen)
    images = torch.randn(4, 3, 16, 16)
    scores = model(images)
    assert scores.shape == (4, 5)
    assert probabilities(scores).sum(1).tolist() == pytest.approx([1.0] * 4)
    scores.square().sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert any(name.startswith("encoder.") for name in trained) == (not frozen)
    assert any(name.startswith("head.") for name in trained)


def test_classifier__a_frozen_encoder_stays_in_eval_mode():
    model = Classifier(encoder(drop_path=0.5), HeadConfig(), num_classes=2, frozen=True).train()
    assert not model.encoder.training
    assert model.head.training


def test_layers__the_last_one_normed_is_what_forward_gives():
    vit, images = encoder().eval(), torch.randn(2, 3, 16, 16)
    *_, last = vit.layers(images)
    assert torch.equal(vit.norm(last.patches), vit(images).patches)


def test_classifier__refuses_what_the_encoder_has_not():
    with pytest.raises(ConfigError, match="has 2 blocks"):
        Classifier(encoder(), HeadConfig(layer=3), num_classes=2, frozen=True)
    with pytest.raises(ConfigError, match="no class token"):
        Classifier(encoder(class_token=False), HeadConfig(pool="cls"), num_classes=2, frozen=True)
