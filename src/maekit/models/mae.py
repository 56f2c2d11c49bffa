"""The masked autoencoder: encoder, decoder, target, and the loss on hidden patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from maekit.errors import ConfigError
from maekit.masking import Mask
from maekit.models.decoder import DECODERS, Decoder, DecoderConfig
from maekit.models.vit import SIZES, ViT, ViTConfig
from maekit.patches import patchify
from maekit.targets import TARGETS

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of the masked autoencoder: a preset, and what departs from it."""

    size: Literal["tiny", "small", "base", "large", "huge"] | None = None
    """Preset of encoder and decoder; chosen from the number of pictures and the machine if not
    given."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels, or one number for both; chosen from the pictures if not given."""
    patch_size: int | None = None
    """Side of a patch in pixels; chosen from the image size if not given."""
    in_channels: int | None = None
    """Channels of an image; found in the pictures if not given."""
    embed_dim: int | None = None
    """Width of the encoder; the preset's if not given."""
    depth: int | None = None
    """Blocks of the encoder; the preset's if not given."""
    num_heads: int | None = None
    """Attention heads of the encoder; the preset's if not given."""
    mlp_ratio: float = 4.0
    """Hidden width of every MLP over the width of its block."""
    drop_path: float = 0.0
    """Dropped residual branches in the encoder's last block, in [0, 1). The paper has none."""
    positions: Literal["sincos_2d", "sincos_1d", "learned"] = "sincos_2d"
    """Position embedding of encoder and decoder."""
    class_token: bool = True
    """Whether encoder and decoder carry a class token."""
    decoder_dim: int | None = None
    """Width of the decoder; the preset's if not given."""
    decoder_depth: int | None = None
    """Blocks of the decoder; the preset's if not given."""
    decoder_num_heads: int | None = None
    """Attention heads of the decoder; the preset's if not given."""
    target: Literal["norm_pixel", "pixel"] = "norm_pixel"
    """What is predicted: pixels less their patch's mean over its deviation, or plain pixels."""

    def encoder(self) -> ViTConfig:
        """Returns the encoder's shape.

        Raises:
            ConfigError: If a number is neither given nor in the preset.
        """
        size = SIZES[self._given("size", self.size)]
        return ViTConfig(
            image_size=self._given("image_size", self.image_size),
            patch_size=self._given("patch_size", self.patch_size),
            in_channels=self._given("in_channels", self.in_channels),
            embed_dim=self.embed_dim or size.embed_dim,
            depth=self.depth or size.depth,
            num_heads=self.num_heads or size.num_heads,
            mlp_ratio=self.mlp_ratio,
            drop_path=self.drop_path,
            positions=self.positions,
            class_token=self.class_token,
        )

    def decoder(self) -> DecoderConfig:
        """Returns the decoder's shape."""
        size = DECODERS[self._given("size", self.size)]
        return DecoderConfig(
            decoder_dim=self.decoder_dim or size.embed_dim,
            decoder_depth=self.decoder_depth or size.depth,
            decoder_num_heads=self.decoder_num_heads or size.num_heads,
        )

    @staticmethod
    def _given(name: str, value: T | None) -> T:
        if value is None:
            raise ConfigError(f"model.{name} is not set.")
        return value


class MAEOutput(NamedTuple):
    """What one forward pass yields."""

    loss: Float[Tensor, ""]
    """Mean squared error over the hidden patches."""
    prediction: Float[Tensor, "b n t"]
    """Predicted target of every patch, visible ones included."""
    masked: Bool[Tensor, "b n"]
    """True where a patch was hidden from the encoder."""


class MaskedAutoencoder(nn.Module):
    """Hides patches, encodes the rest, rebuilds the hidden ones.

    Source: He et al. 2022, section 3.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ViT(config.encoder())
        self.decoder = Decoder(config.decoder(), config.encoder())

    def forward(self, images: Float[Tensor, "b c height width"], mask: Mask) -> MAEOutput:
        """Rebuilds `images` from the patches that `mask` leaves visible.

        Args:
            images: Normalised by the channel means and deviations of the data.
            mask: Which patches to hide; an equal number in every image.
        """
        patches = patchify(images, self.encoder.config.patch_size)
        features = self.encoder.encode(patches, mask.visible)
        prediction = self.decoder(features, mask.visible, patches.shape[1])
        target = TARGETS[self.config.target].encode(patches)
        return MAEOutput(masked_loss(prediction, target, mask.masked), prediction, mask.masked)


def masked_loss(
    prediction: Float[Tensor, "b n t"], target: Float[Tensor, "b n t"], masked: Bool[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """Mean squared error of the hidden patches, in float32 whatever the precision of training.

    Source: He et al. 2022, section 3, "Reconstruction target".
    """
    per_patch = (prediction.float() - target.float()).square().mean(dim=-1)
    return (per_patch * masked).sum() / masked.sum()


def training_flops(config: ModelConfig, num_visible: int) -> float:
    """Floating-point operations to train on one image: forward, and twice that backward.

    Counts the matrix products (a multiplication and an addition each); norms and activations,
    which are a few per cent, are left out.
    """
    encoder, decoder = config.encoder(), config.decoder()
    extra = int(encoder.class_token)
    patch_values = encoder.patch_size**2 * encoder.in_channels
    seen, every = num_visible + extra, encoder.grid.num_patches + extra

    def blocks(tokens: int, dim: int, depth: int) -> float:
        linear = 2 * tokens * dim * dim * (4 + 2 * encoder.mlp_ratio)
        return depth * (linear + 4 * tokens**2 * dim)

    forward = (
        2 * num_visible * patch_values * encoder.embed_dim
        + blocks(seen, encoder.embed_dim, encoder.depth)
        + 2 * seen * encoder.embed_dim * decoder.decoder_dim
        + blocks(every, decoder.decoder_dim, decoder.decoder_depth)
        + 2 * every * decoder.decoder_dim * patch_values
    )
    return 3.0 * forward
