"""The encoder: a Vision Transformer that can be shown some of the patches or all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from maekit.errors import ConfigError
from maekit.masking import take
from maekit.models.layers import Block, LayerNorm, init_weights
from maekit.patches import Grid, patchify
from maekit.positions import sincos_1d, sincos_2d


class Size(NamedTuple):
    """Width, depth and heads of an encoder."""

    embed_dim: int
    depth: int
    num_heads: int


SIZES: dict[str, Size] = {
    "tiny": Size(192, 12, 3),
    "small": Size(384, 12, 6),
    "base": Size(768, 12, 12),
    "large": Size(1024, 24, 16),
    "huge": Size(1280, 32, 16),
}


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Shape of an encoder, every number given."""

    image_size: tuple[int, int]
    """Height and width, in pixels; both multiples of `patch_size`."""
    patch_size: int
    """Side of a patch, in pixels."""
    in_channels: int
    """Channels of an image."""
    embed_dim: int
    """Width of a token."""
    depth: int
    """Number of blocks."""
    num_heads: int
    """Attention heads; must divide `embed_dim`."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP over `embed_dim`."""
    drop_path: float = 0.0
    """Rate of dropped residual branches in the last block, in [0, 1); rises linearly from 0."""
    positions: Literal["sincos_2d", "sincos_1d", "learned"] = "sincos_2d"
    """Position embedding: fixed in two dimensions, fixed in one, or learned."""
    class_token: bool = True
    """Whether a class token stands before the patches."""

    @property
    def grid(self) -> Grid:
        """The patch grid of an image."""
        return Grid.of(self.image_size, self.patch_size)

    def __post_init__(self) -> None:
        for name in ("patch_size", "in_channels", "embed_dim", "depth", "num_heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.embed_dim % self.num_heads:
            raise ConfigError(
                f"embed_dim {self.embed_dim} does not divide into num_heads {self.num_heads}."
            )
        if not 0.0 <= self.drop_path < 1.0:
            raise ConfigError(f"drop_path must lie in [0, 1), got {self.drop_path}.")
        _ = self.grid  # raises where the image does not divide into patches


class Features(NamedTuple):
    """What the encoder returns."""

    cls: Float[Tensor, "b d"] | None
    """The class token, or None in a network without one."""
    patches: Float[Tensor, "b k d"]
    """The patch tokens: all `n` in reading order, or those that were shown, as they were given."""


class PatchEmbed(nn.Module):
    """A linear map of each patch.

    `proj` holds the weights in the shape of a convolution, the form that published weights have;
    they are applied to patches that are cut already, so hidden patches are never embedded.
    """

    def __init__(self, patch_size: int, in_channels: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dim, patch_size, stride=patch_size)
        # The reference: Xavier over the (out, in * p * p) view; the bias keeps torch's default.
        nn.init.xavier_uniform_(self.proj.weight.view(embed_dim, -1))

    def forward(self, patches: Float[Tensor, "b k ppc"]) -> Float[Tensor, "b k d"]:
        """Embeds patches in the order of `patchify`."""
        weight = rearrange(self.proj.weight, "d c p1 p2 -> d (p1 p2 c)")
        return F.linear(patches, weight, self.proj.bias)


def build_positions(
    kind: Literal["sincos_2d", "sincos_1d", "learned"], grid: Grid, dim: int, class_token: bool
) -> nn.Parameter | Tensor:
    """Builds a position embedding of shape (1, n [+ 1], dim); the class token's row is zero.

    Returns:
        A parameter where it is learned, a plain tensor (for a buffer) where it is fixed, so that
        what is frozen is never registered as trainable.
    """
    if kind == "learned":
        rows = grid.num_patches + int(class_token)
        return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, rows, dim), std=0.02))
    table = sincos_2d(grid, dim) if kind == "sincos_2d" else sincos_1d(grid, dim)
    if class_token:
        table = torch.cat([torch.zeros(1, dim), table])
    return table[None]


class ViT(nn.Module):
    """A Vision Transformer without a head, attributes named as in timm.

    Source: Dosovitskiy et al. 2021, section 3; initialisation as He et al. 2022, appendix A.1.
    """

    pos_embed: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        # Set by `load_encoder`: pictures (paths, PIL images or arrays) to a batch for `forward`.
        self.preprocess: Callable[[object], Tensor] | None = None
        if config.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
            nn.init.normal_(self.cls_token, std=0.02)
        positions = build_positions(config.positions, config.grid, dim, config.class_token)
        if isinstance(positions, nn.Parameter):
            self.pos_embed = positions
        else:
            self.register_buffer("pos_embed", positions)
        last = max(config.depth - 1, 1)
        rates = [config.drop_path * number / last for number in range(config.depth)]
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio, rate) for rate in rates
        )
        self.norm = LayerNorm(dim)
        self.apply(init_weights)
        self.patch_embed = PatchEmbed(config.patch_size, config.in_channels, dim)

    def forward(self, images: Float[Tensor, "b c height width"]) -> Features:
        """Encodes whole images; nothing is ever hidden.

        Raises:
            ValueError: If the images are not of the size or channels the encoder was built for.
        """
        expected = (self.config.in_channels, *self.config.image_size)
        if tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"This encoder takes images of (channels, height, width) {expected}, "
                f"got {tuple(images.shape[1:])}."
            )
        return self.encode(patchify(images, self.config.patch_size))

    def layers(self, images: Float[Tensor, "b c height width"]) -> Iterator[Features]:
        """Yields the tokens of whole images after each block, before the last norm."""
        tokens = self._embed(patchify(images, self.config.patch_size), None)
        for block in self.blocks:
            tokens = block(tokens)
            yield self._divide(tokens)

    def features_at(
        self, images: Float[Tensor, "b c height width"], layers: Sequence[int]
    ) -> dict[int, Features]:
        """Returns the tokens of whole images after some blocks, counted from 1.

        After the last block they are normed, as `forward` gives them; after others they are not.
        """
        wanted: dict[int, Features] = {}
        for layer, features in enumerate(self.layers(images), start=1):
            if layer in layers:
                wanted[layer] = features
            if len(wanted) == len(layers):
                break
        last = self.config.depth
        if last in wanted:
            cls, patches = wanted[last]
            wanted[last] = Features(None if cls is None else self.norm(cls), self.norm(patches))
        return wanted

    def encode(
        self, patches: Float[Tensor, "b n ppc"], visible: Int[Tensor, "b k"] | None = None
    ) -> Features:
        """Encodes the patches listed in `visible`, or all of them.

        Args:
            patches: All patches of each image, as `patchify` cuts them.
            visible: Indices of the patches to show; their order is kept.
        """
        tokens = self._embed(patches, visible)
        for block in self.blocks:
            tokens = block(tokens)
        return self._divide(self.norm(tokens))

    def _embed(
        self, patches: Float[Tensor, "b n ppc"], visible: Int[Tensor, "b k"] | None
    ) -> Float[Tensor, "b tokens d"]:
        positions = self.pos_embed[:, int(self.config.class_token) :]
        if visible is None:
            tokens = self.patch_embed(patches) + positions
        else:
            shown = positions.expand(len(patches), -1, -1)
            tokens = self.patch_embed(take(patches, visible)) + take(shown, visible)
        if self.config.class_token:
            cls = self.cls_token + self.pos_embed[:, :1]
            tokens = torch.cat([repeat(cls, "1 1 d -> b 1 d", b=len(tokens)), tokens], dim=1)
        return tokens  # type: ignore[no-any-return]  # Module.__call__

    def _divide(self, tokens: Float[Tensor, "b tokens d"]) -> Features:
        if self.config.class_token:
            return Features(tokens[:, 0], tokens[:, 1:])
        return Features(None, tokens)
