import pytest
import torch

from maekit.errors import ConfigError
from maekit.models.vit import SIZES, ViT, ViTConfig
from maekit.patches import patchify

SMALL = {
    "image_size": (16, 24),
    "patch_size": 8,
    "in_channels": 3,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
}


@pytest.mark.parametrize("channels", [1, 3, 4, 13])
@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("positions", ["sincos_2d", "sincos_1d", "learned"])
def test_forward__shapes_on_rectangles(channels, class_token, positions):
    config = ViTConfig(
        **SMALL | {"in_channels": channels}, class_token=class_token, positions=positions
    )
    features = ViT(config)(torch.rand(2, channels, 16, 24))
    assert features.patches.shape == (2, 6, 16)
    assert (features.cls is None) != class_token
    if class_token:
        assert features.cls.shape == (2, 16)


def test_encode__visible_patches_come_in_their_order():
    vit = ViT(ViTConfig(**SMALL)).eval()
    patches = patchify(torch.rand(1, 3, 16, 24), 8)
    order = torch.tensor([[4, 1, 3, 0, 5, 2]])
    torch.testing.assert_close(
        vit.encode(patches, order).patches, vit.encode(patches).patches[:, order[0]]
    )


def test_patch_embed__equals_its_convolution():
    vit, images = ViT(ViTConfig(**SMALL)), torch.rand(2, 3, 16, 24)
    expected = vit.patch_embed.proj(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(vit.patch_embed(patchify(images, 8)), expected)


@pytest.mark.parametrize(
    ("positions", "trained"), [("sincos_2d", False), ("sincos_1d", False), ("learned", True)]
)
def test_positions__only_learned_ones_are_parameters_and_all_are_saved(positions, trained):
    vit = ViT(ViTConfig(**SMALL, positions=positions))
    assert ("pos_embed" in dict(vit.named_parameters())) == trained
    assert "pos_embed" in vit.state_dict()


def test_positions__wrong_width_for_sine_cosine():
    with pytest.raises(ConfigError, match="divisible by 4"):
        ViT(ViTConfig(**SMALL | {"embed_dim": 18}))


def test_forward__wrong_size_says_what_is_expected():
    with pytest.raises(ValueError, match=r"\(3, 16, 24\), got \(3, 24, 24\)"):
        ViT(ViTConfig(**SMALL))(torch.rand(1, 3, 24, 24))


def test_sizes__parameters_of_base_are_the_papers():
    base = SIZES["base"]
    config = ViTConfig(image_size=(224, 224), patch_size=16, in_channels=3, **base._asdict())
    with torch.device("meta"):
        vit = ViT(config)
    assert sum(tensor.numel() for tensor in vit.state_dict().values()) == pytest.approx(
        85.80e6, rel=1e-3
    )
    assert len(vit.state_dict()) == 150


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "embed_dim 16 does not divide into num_heads 3"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"patch_size": 7}, "not a multiple of the patch size"),
        ({"drop_path": 1.0}, r"drop_path must lie in \[0, 1\)"),
    ],
)
def test_config__refuses(change, message):
    with pytest.raises(ConfigError, match=message):
        ViTConfig(**SMALL | change)
