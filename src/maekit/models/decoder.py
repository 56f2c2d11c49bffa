"""The decoder: rebuilds every patch from the encoder's tokens and mask tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from maekit.errors import ConfigError
from maekit.models.layers import Block, LayerNorm, init_weights
from maekit.models.vit import Features, Size, ViTConfig, build_positions

# Which decoder goes with which encoder. The paper has one for base to huge (section 3); the
# smaller ones keep its proportion: about half the encoder's width or less, and shallow.
DECODERS: dict[str, Size] = {
    "tiny": Size(128, 2, 4),
    "small": Size(256, 4, 8),
    "base": Size(512, 8, 16),
    "large": Size(512, 8, 16),
    "huge": Size(512, 8, 16),
}


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Shape of a decoder, every number given."""

    decoder_dim: int
    """Width of a token."""
    decoder_depth: int
    """Number of blocks."""
    decoder_num_heads: int
    """Attention heads; must divide `decoder_dim`."""

    def __post_init__(self) -> None:
        for name in ("decoder_dim", "decoder_depth", "decoder_num_heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.decoder_dim % self.decoder_num_heads:
            raise ConfigError(
                f"decoder_dim {self.decoder_dim} does not divide into decoder_num_heads "
                f"{self.decoder_num_heads}."
            )


class Decoder(nn.Module):
    """A small transformer over all patches, in which hidden ones start as one learned token.

    Source: He et al. 2022, section 3, "MAE decoder".
    """

    decoder_pos_embed: Tensor

    def __init__(self, config: DecoderConfig, encoder: ViTConfig) -> None:
        super().__init__()
        dim = config.decoder_dim
        self.class_token = encoder.class_token
        self.decoder_embed = nn.Linear(encoder.embed_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        nn.init.normal_(self.mask_token, std=0.02)
        positions = build_positions(encoder.positions, encoder.grid, dim, encoder.class_token)
        if isinstance(positions, nn.Parameter):
            self.decoder_pos_embed = positions
        else:
            self.register_buffer("decoder_pos_embed", positions)
        self.decoder_blocks = nn.ModuleList(
            Block(dim, config.decoder_num_heads, encoder.mlp_ratio)
            for _ in range(config.decoder_depth)
        )
        self.decoder_norm = LayerNorm(dim)
        self.decoder_pred = nn.Linear(dim, encoder.patch_size**2 * encoder.in_channels)
        self.apply(init_weights)

    def forward(
        self, features: Features, visible: Int[Tensor, "b k"], num_patches: int
    ) -> Float[Tensor, "b n t"]:
        """Predicts the target of every patch, visible ones included.

        Args:
            features: The encoder's tokens of the visible patches.
            visible: Where they stand; the order of `features.patches`.
            num_patches: Patches of a whole image.
        """
        shown = self.decoder_embed(features.patches)
        tokens: Tensor = repeat(self.mask_token, "1 1 d -> b n d", b=len(shown), n=num_patches)
        places = repeat(visible, "b k -> b k d", d=shown.shape[-1])
        # Under autocast the embedding is bfloat16 and the mask token float32.
        tokens = tokens.to(shown.dtype).scatter(1, places, shown)
        if features.cls is not None:
            tokens = torch.cat([self.decoder_embed(features.cls)[:, None], tokens], dim=1)
        tokens = tokens + self.decoder_pos_embed
        for block in self.decoder_blocks:
            tokens = block(tokens)
        prediction = self.decoder_pred(self.decoder_norm(tokens))
        return prediction[:, int(self.class_token) :]  # type: ignore[no-any-return]  # Module.__call__
