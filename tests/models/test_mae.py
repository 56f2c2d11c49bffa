"""Parity with the reference implementation, and what the masked autoencoder promises."""

import pytest
import torch

from maekit.errors import ConfigError
from maekit.masking import given_mask, num_visible, random_mask
from maekit.models.decoder import DECODERS
from maekit.models.mae import MaskedAutoencoder, ModelConfig, masked_loss, training_flops
from maekit.models.vit import SIZES

TOLERANCE = {"rtol": 0, "atol": 1e-5}
TINY = {
    "size": "tiny", "image_size": (32, 32), "patch_size": 8, "in_channels": 3,
    "embed_dim": 48, "depth": 3, "num_heads": 3,
    "decoder_dim": 32, "decoder_depth": 2, "decoder_num_heads": 4,
}  # fmt: skip


def reference(golden_weights, target="norm_pixel"):
    """Our network with the reference's weights: its decoder's names are ours already."""
    mae = MaskedAutoencoder(ModelConfig(**TINY, target=target))
    decoder = {
        k: v for k, v in golden_weights.items() if k.startswith("decoder") or k == "mask_token"
    }
    mae.decoder.load_state_dict(decoder)
    mae.encoder.load_state_dict({k: v for k, v in golden_weights.items() if k not in decoder})
    return mae


@pytest.mark.parametrize("target", ["norm_pixel", "pixel"])
@pytest.mark.parametrize("ratio", [0.75, 0.5])
def test_forward__equals_the_reference(golden_outputs, golden_weights, target, ratio):
    name = {"norm_pixel": "normpix", "pixel": "pixel"}[target]
    key = f"r{int(ratio * 100)}.{name}"
    mae = reference(golden_weights, target)
    mask = random_mask(golden_outputs["noise"], ratio)
    output = mae(golden_outputs["images"], mask)
    torch.testing.assert_close(output.loss, golden_outputs[f"{key}.loss"], **TOLERANCE)
    torch.testing.assert_close(output.prediction, golden_outputs[f"{key}.pred"], **TOLERANCE)
    features = mae.encoder.encode(golden_outputs["patchify"], mask.visible)
    latent = torch.cat([features.cls[:, None], features.patches], dim=1)
    torch.testing.assert_close(latent, golden_outputs[f"{key}.latent"], **TOLERANCE)


def test_backward__gradients_equal_the_reference(golden_outputs, golden_weights):
    mae = reference(golden_weights)
    mae(golden_outputs["images"], random_mask(golden_outputs["noise"], 0.75)).loss.backward()
    ours = dict(mae.encoder.named_parameters()) | dict(mae.decoder.named_parameters())
    expected = {
        k.removeprefix("grad."): v for k, v in golden_outputs.items() if k.startswith("grad.")
    }
    assert len(expected) == 6
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name].grad, gradient, **TOLERANCE)


def test_encoder__unmasked_features_equal_the_reference(golden_outputs, golden_weights):
    features = reference(golden_weights).encoder.eval()(golden_outputs["images"])
    tokens = torch.cat([features.cls[:, None], features.patches], dim=1)
    torch.testing.assert_close(tokens, golden_outputs["features_unmasked"], **TOLERANCE)


@pytest.mark.parametrize("size", SIZES)
def test_presets__build(size):
    with torch.device("meta"):
        mae = MaskedAutoencoder(
            ModelConfig(size=size, image_size=(224, 224), patch_size=14, in_channels=3)
        )
    assert len(mae.encoder.blocks) == SIZES[size].depth
    assert len(mae.decoder.decoder_blocks) == DECODERS[size].depth


def test_base__has_the_references_number_of_tensors():
    with torch.device("meta"):
        mae = MaskedAutoencoder(
            ModelConfig(size="base", image_size=(224, 224), patch_size=16, in_channels=3)
        )
    assert len(mae.encoder.state_dict()) + len(mae.decoder.state_dict()) == 254
    decoder = sum(tensor.numel() for tensor in mae.decoder.state_dict().values())
    assert decoder == pytest.approx(26.11e6, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (1, {}),
        (3, {"class_token": False}),
        (4, {"positions": "learned"}),
        (13, {"positions": "sincos_1d"}),
    ],
)
def test_learning__eight_pictures(channels, options):
    torch.manual_seed(0)
    config = ModelConfig(
        **TINY | {"in_channels": channels, "image_size": (16, 32)}, target="pixel", **options
    )
    mae = MaskedAutoencoder(config)
    ramp = torch.linspace(-1, 1, 32).expand(8, channels, 16, 32) * torch.randn(8, channels, 1, 1)
    optimizer = torch.optim.AdamW(mae.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(80):
        loss = mae(ramp, random_mask(torch.rand(8, 8, generator=generator), 0.5)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_masked_loss__counts_hidden_patches_only():
    target = torch.zeros(1, 3, 2)
    prediction = torch.tensor([[[9.0, 9.0], [1.0, 1.0], [2.0, 2.0]]])
    assert float(masked_loss(prediction, target, torch.tensor([[False, True, True]]))) == 2.5


def test_forward__takes_a_mask_of_ones_own(golden_outputs, golden_weights):
    masked = torch.zeros(4, 16, dtype=torch.bool)
    masked[:, :8] = True
    output = reference(golden_weights)(golden_outputs["images"], given_mask(masked))
    assert torch.equal(output.masked, masked)
    assert output.loss.isfinite()


def test_training_flops__base_is_near_58_gflop():
    config = ModelConfig(size="base", image_size=(224, 224), patch_size=16, in_channels=3)
    assert training_flops(config, num_visible(196, 0.75)) == pytest.approx(58e9, rel=0.05)


def test_config__says_what_is_missing():
    with pytest.raises(ConfigError, match=r"model\.patch_size is not set"):
        ModelConfig(size="tiny", image_size=(32, 32), in_channels=3).encoder()
