import json

import pytest
import torch

from conftest import GOLDEN
from maekit.errors import ConfigError
from maekit.models.classifier import Classifier, HeadConfig
from maekit.models.mae import MaskedAutoencoder, ModelConfig
from maekit.models.vit import ViT, ViTConfig
from maekit.training.optim import (
    OptimConfig,
    build_optimizer,
    layer_decay_groups,
    layer_rate,
    parameter_groups,
    scale_lr,
    set_rates,
)

MODEL = ModelConfig(
    size="tiny", image_size=(16, 16), patch_size=8, in_channels=3, depth=1, decoder_depth=1
)


def test_parameter_groups__as_the_reference():
    mae = MaskedAutoencoder(MODEL)
    names = {id(parameter): name for name, parameter in mae.named_parameters()}
    decayed, free = parameter_groups(mae, 0.05)
    without = {names[id(parameter)] for parameter in free["params"]}
    with_decay = {names[id(parameter)] for parameter in decayed["params"]}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    assert all(name.endswith(".bias") or "norm" in name for name in without)
    assert {
        "encoder.cls_token",
        "decoder.mask_token",
        "encoder.patch_embed.proj.weight",
    } <= with_decay
    # Every parameter once: fixed positions are buffers, tokens and norms are trained.
    assert len(without) + len(with_decay) == len(list(mae.parameters()))


def test_build_optimizer__fused_adamw_with_the_papers_betas():
    optimizer = build_optimizer(MaskedAutoencoder(MODEL), OptimConfig())
    assert isinstance(optimizer, torch.optim.AdamW)
    assert all(group["betas"] == (0.9, 0.95) and group["fused"] for group in optimizer.param_groups)


def test_set_rates__leaves_undecayed_parameters_so():
    optimizer = build_optimizer(MaskedAutoencoder(MODEL), OptimConfig())
    set_rates(optimizer, 0.5, 0.1)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [
        (0.5, 0.1),
        (0.5, 0.0),
    ]


def test_scale_lr__the_papers():
    assert scale_lr(1.5e-4, 4096) == pytest.approx(2.4e-3)


@pytest.mark.parametrize(
    "settings",
    [{"base_lr": 0.0}, {"betas": (0.9, 1.0)}, {"weight_decay": -1.0}, {"grad_clip": 0.0}],
)
def test_config__refuses(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        OptimConfig(**settings)


def test_layer_rate__golden():
    """The reference's groups for four blocks and a decay of 0.65."""
    golden = json.loads((GOLDEN / "layer_decay_0.65_depth4.json").read_text())
    assert len(golden) > 50
    for name, expected in golden.items():
        matrix = name.endswith("weight") and "norm" not in name
        shape = (1, 1, 4) if name in ("cls_token", "pos_embed") else (4, 4) if matrix else (4,)
        rate = layer_rate(f"encoder.{name}", torch.zeros(shape), depth=4, layer_decay=0.65)
        assert rate.lr_scale == pytest.approx(expected["lr_scale"], rel=1e-12), name
        assert (0.05 if rate.decays else 0.0) == expected["weight_decay"], name


def test_layer_decay_groups__hold_every_parameter_once_and_set_their_rates():
    vit = ViT(
        ViTConfig(image_size=(8, 8), patch_size=4, in_channels=1, embed_dim=8, depth=2, num_heads=2)
    )
    model = Classifier(vit, HeadConfig(), num_classes=3, frozen=False)
    groups = layer_decay_groups(model, 0.05, depth=2, layer_decay=0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    optimizer = build_optimizer(model, OptimConfig(), groups)
    set_rates(optimizer, 1.0, 0.1)
    assert {group["lr"] for group in optimizer.param_groups} == {1.0, 0.5, 0.25, 0.125}
