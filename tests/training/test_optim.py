import pytest
import torch

from maekit.errors import ConfigError
from maekit.models.mae import MaskedAutoencoder, ModelConfig
from maekit.training.optim import (
    OptimConfig,
    build_optimizer,
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
