"""The transformer block and its parts, under timm's names."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from maekit.errors import ConfigError

# torch's default is 1e-5; the reference uses this, and features differ visibly between the two.
LAYER_NORM_EPS = 1e-6


class LayerNorm(nn.LayerNorm):
    """Layer normalisation with the reference's epsilon."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=LAYER_NORM_EPS)


class DropPath(nn.Module):
    """Drops a whole residual branch for some samples of a batch while training.

    Source: Huang et al. 2016, "Deep Networks with Stochastic Depth".
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Scales kept samples up, so that the expectation stays that of `x`."""
        if not self.training or self.rate == 0.0:
            return x
        keep = x.new_empty(x.shape[0], 1, 1).bernoulli_(1.0 - self.rate)
        return x * keep / (1.0 - self.rate)


class Attention(nn.Module):
    """Multi-head self-attention with one joint projection for queries, keys and values."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ConfigError(f"A width of {dim} does not divide into {num_heads} heads.")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Mixes the tokens of each sample."""
        queries, keys, values = rearrange(
            self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.num_heads
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return self.proj(rearrange(mixed, "b h n d -> b n (h d)"))  # type: ignore[no-any-return]  # Module.__call__


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Float[Tensor, "*any d"]) -> Float[Tensor, "*any d"]:
        """Changes each token by itself."""
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]  # Module.__call__


class Block(nn.Module):
    """A pre-norm transformer block.

    Source: Dosovitskiy et al. 2021, section 3.1, equations 2 and 3.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Attention, then the MLP, each added to its input."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]  # Module.__call__


def init_weights(module: nn.Module) -> None:
    """Initialises linear layers and norms as the reference does; for `Module.apply`.

    Xavier-uniform weights and zero biases; norms start as the identity.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
