import pytest
import torch

from maekit.errors import ConfigError
from maekit.models.decoder import DECODERS, Decoder, DecoderConfig
from maekit.models.vit import SIZES, Features, ViTConfig

ENCODER = ViTConfig(
    image_size=(16, 16), patch_size=8, in_channels=2, embed_dim=16, depth=1, num_heads=2
)
SMALL = DecoderConfig(decoder_dim=8, decoder_depth=1, decoder_num_heads=2)


def test_forward__predicts_every_patch_wherever_the_visible_stand():
    decoder = Decoder(SMALL, ENCODER)
    features = Features(torch.randn(3, 16), torch.randn(3, 2, 16))
    visible = torch.tensor([[0, 1], [2, 3], [3, 0]])
    assert decoder(features, visible, 4).shape == (3, 4, 8 * 8 * 2)


def test_forward__tokens_go_to_their_places():
    decoder = Decoder(SMALL, ENCODER).eval()
    patches = torch.randn(1, 2, 16)
    cls = torch.randn(1, 16)
    forward = decoder(Features(cls, patches), torch.tensor([[2, 0]]), 4)
    swapped = decoder(Features(cls, patches.flip(1)), torch.tensor([[0, 2]]), 4)
    torch.testing.assert_close(forward, swapped)


def test_mask_token__gets_a_gradient():
    decoder = Decoder(SMALL, ENCODER)
    decoder(
        Features(torch.randn(1, 16), torch.randn(1, 1, 16)), torch.tensor([[1]]), 4
    ).sum().backward()
    assert decoder.mask_token.grad.abs().sum() > 0


def test_presets__one_for_every_encoder():
    assert DECODERS.keys() == SIZES.keys()


def test_config__heads_must_divide():
    with pytest.raises(ConfigError, match="decoder_dim 8 does not divide into decoder_num_heads 3"):
        DecoderConfig(decoder_dim=8, decoder_depth=1, decoder_num_heads=3)
