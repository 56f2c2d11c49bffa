"""From an encoder's tokens to classes: which layer, which pooling, which head."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from maekit.errors import ConfigError
from maekit.models.layers import LAYER_NORM_EPS, LayerNorm, Mlp
from maekit.models.vit import ViT


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What stands on the encoder."""

    kind: Literal["linear", "mlp", "attentive"] = "linear"
    """One linear layer; an MLP of one hidden layer; or learned queries that attend to the patches,
    then a linear layer."""
    pool: Literal["mean", "cls"] = "mean"
    """Mean of the patch tokens or class token; the attentive head takes every patch."""
    layer: int | None = None
    """Block whose output is used, counted from 1; the last if not given. Masked autoencoders often
    have their best features before it."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP over that of the encoder."""

    def __post_init__(self) -> None:
        if self.layer is not None and self.layer < 1:
            raise ConfigError(f"layer must be at least 1, got {self.layer}.")
        if self.mlp_ratio <= 0:
            raise ConfigError(f"mlp_ratio must be positive, got {self.mlp_ratio}.")


class AttentivePool(nn.Module):
    """A learned query that attends to all patch tokens, each head to its share of the channels.

    Source: Psomas et al. 2025, "Attention, Please! Revisiting Attentive Probing Through the Lens
    of Efficiency", section 3: keys are the tokens themselves, queries are learned, values have one
    projection.
    """

    def __init__(self, dim: int, num_queries: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(num_queries, dim))
        nn.init.trunc_normal_(self.queries, std=0.02)
        self.value = nn.Linear(dim, dim)

    def forward(self, patches: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """Pools the tokens."""
        dim, number = patches.shape[-1], len(self.queries)
        weights = (patches @ self.queries.T * dim**-0.5).softmax(dim=1)
        pooled = weights.transpose(1, 2) @ patches
        # The projection is linear and the weights sum to one: to project what was pooled is the
        # same as to pool what was projected, and there is far less of it.
        projection = rearrange(self.value.weight, "(q e) d -> q e d", q=number)
        values: Tensor = rearrange(
            torch.einsum("bqd,qed->bqe", pooled, projection), "b q e -> b (q e)"
        )
        return values + self.value.bias


class Head(nn.Module):
    """Class scores from tokens.

    Frozen features are standardised by a batch norm without affine, for their channels differ in
    scale by orders of magnitude (He et al. 2022, appendix A.1, "Linear probing"). An encoder that
    is tuned gets a new layer norm instead (the reference's `fc_norm`).
    """

    def __init__(self, config: HeadConfig, dim: int, num_classes: int, frozen: bool) -> None:
        super().__init__()
        self.config = config
        self.attention: AttentivePool | None = None
        if config.kind == "attentive":
            queries = next(q for q in (8, 6, 4, 3, 2, 1) if dim % q == 0)
            self.attention = AttentivePool(dim, queries)
        self.fc_norm: nn.Module = (
            nn.BatchNorm1d(dim, affine=False, eps=LAYER_NORM_EPS) if frozen else LayerNorm(dim)
        )
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio)) if config.kind == "mlp" else None
        self.head = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.01 if frozen else 2e-5)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Float[Tensor, "b k d"]) -> Float[Tensor, "b classes"]:
        """Returns scores before the softmax.

        Args:
            tokens: What `select` returns: one pooled token, or every patch for attention.
        """
        if self.attention is None:
            pooled = self.fc_norm(tokens[:, 0])
        elif isinstance(self.fc_norm, nn.BatchNorm1d):
            # Each token is standardised, then pooled.
            standard = self.fc_norm(rearrange(tokens, "b k d -> (b k) d"))
            pooled = self.attention(standard.view_as(tokens))
        else:
            pooled = self.attention(self.fc_norm(tokens))
        if self.mlp is not None:
            pooled = pooled + self.mlp(pooled)
        return self.head(pooled)  # type: ignore[no-any-return]  # Module.__call__


class Classifier(nn.Module):
    """An encoder with a head."""

    def __init__(self, encoder: ViT, config: HeadConfig, num_classes: int, frozen: bool) -> None:
        super().__init__()
        depth = encoder.config.depth
        if config.layer is not None and config.layer > depth:
            raise ConfigError(f"head.layer is {config.layer}, but the encoder has {depth} blocks.")
        if config.pool == "cls" and not encoder.config.class_token:
            raise ConfigError("head.pool is cls, but the encoder has no class token; use mean.")
        self.encoder, self.frozen = encoder, frozen
        self.layer = config.layer or depth
        self.head = Head(config, encoder.config.embed_dim, num_classes, frozen)
        if frozen:
            encoder.requires_grad_(requires_grad=False)

    def select(self, images: Float[Tensor, "b c height width"]) -> Float[Tensor, "b k d"]:
        """Returns the tokens that the head takes, for normalised images."""
        if self.frozen:
            features = self.encoder.features_at(images, [self.layer])[self.layer]
        else:
            features = next(itertools.islice(self.encoder.layers(images), self.layer - 1, None))
        if self.head.config.kind == "attentive":
            return features.patches
        if self.head.config.pool == "cls":
            assert features.cls is not None
            return features.cls[:, None]
        return features.patches.mean(dim=1, keepdim=True)

    def forward(self, images: Float[Tensor, "b c height width"]) -> Float[Tensor, "b classes"]:
        """Returns scores before the softmax, for normalised images."""
        if self.frozen:
            with torch.no_grad():
                tokens = self.select(images)
        else:
            tokens = self.select(images)
        return self.head(tokens)  # type: ignore[no-any-return]  # Module.__call__

    def train(self, mode: bool = True) -> Classifier:
        """A frozen encoder stays in eval mode, whatever is asked."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


def probabilities(scores: Float[Tensor, "b classes"]) -> Float[Tensor, "b classes"]:
    """Turns scores into probabilities, in float32."""
    return F.softmax(scores.float(), dim=1)
