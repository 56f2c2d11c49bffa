"""Parameter groups, AdamW and the learning-rate rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from maekit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, by the paper's Table 8 where nothing else is given."""

    base_lr: float | None = None
    """Peak learning rate for a batch of 256 images; scaled to the batch in use. Chosen from
    the batch if not given."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the running mean of gradients and of their squares."""
    weight_decay: float = 0.05
    """Decoupled weight decay of matrices; biases and norms have none."""
    grad_clip: float | None = None
    """Greatest norm of the gradient; the paper does not clip."""

    def __post_init__(self) -> None:
        if self.base_lr is not None and self.base_lr <= 0:
            raise ConfigError(f"base_lr must be positive, got {self.base_lr}.")
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ConfigError(f"betas must lie in [0, 1), got {list(self.betas)}.")
        if self.weight_decay < 0:
            raise ConfigError(f"weight_decay must not be negative, got {self.weight_decay}.")
        if self.grad_clip is not None and self.grad_clip <= 0:
            raise ConfigError(f"grad_clip must be positive, got {self.grad_clip}.")


def scale_lr(base_lr: float, batch_size: int) -> float:
    """Scales a learning rate for 256 images to a batch, linearly.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD"; He et al. 2022, Table 8.

    >>> scale_lr(1.5e-4, 4096)
    0.0024
    """
    return base_lr * batch_size / 256


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies: to all but biases and one-dimensional parameters (norms).

    Class and mask tokens are decayed, as in the reference.
    """
    return parameter.ndim > 1 and not name.endswith(".bias")


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Splits trainable parameters by whether weight decay applies.

    Each group's `decays` says whether a schedule of the weight decay concerns it.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    return [
        {
            "params": [p for name, p in named if is_decayed(name, p) == decays],
            "weight_decay": weight_decay if decays else 0.0,
            "decays": decays,
        }
        for decays in (True, False)
    ]


class LayerRate(NamedTuple):
    """How a parameter of a classifier is tuned."""

    lr_scale: float
    """Its learning rate over that of the head."""
    decays: bool
    """Whether weight decay applies."""


def layer_rate(name: str, parameter: Tensor, depth: int, layer_decay: float) -> LayerRate:
    """Returns the rate of a parameter: the deeper in the encoder, the nearer to the head's.

    Embeddings are layer 0, block i is layer i + 1, and norm and head come last. Position
    embedding and class token have no weight decay, unlike in pre-training.

    Args:
        name: In the encoder, or of the head.
        parameter: Its tensor.
        depth: Blocks of the encoder.
        layer_decay: Rate of a layer over that of the next, in (0, 1].

    Source: Clark et al. 2020, "ELECTRA"; He et al. 2022, appendix A.1, "End-to-end fine-tuning".
    """
    leaf = name.removeprefix("encoder.")
    layer = depth + 1
    if leaf.startswith(("cls_token", "pos_embed", "patch_embed")):
        layer = 0
    elif leaf.startswith("blocks."):
        layer = int(leaf.split(".")[1]) + 1
    decays = is_decayed(leaf, parameter) and leaf not in ("cls_token", "pos_embed")
    return LayerRate(layer_decay ** (depth + 1 - layer), decays)


def layer_decay_groups(
    module: nn.Module, weight_decay: float, depth: int, layer_decay: float
) -> list[dict[str, Any]]:
    """Groups trainable parameters by learning rate and weight decay."""
    groups: dict[LayerRate, dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            rate = layer_rate(name, parameter, depth, layer_decay)
            group = groups.setdefault(
                rate,
                {
                    "params": [],
                    "weight_decay": weight_decay if rate.decays else 0.0,
                    **rate._asdict(),
                },
            )
            group["params"].append(parameter)
    return list(groups.values())


def build_optimizer(
    module: nn.Module, config: OptimConfig, groups: list[dict[str, Any]] | None = None
) -> torch.optim.AdamW:
    """Builds AdamW in its fused form, which can skip a step without the host looking.

    Args:
        module: Its trainable parameters are updated.
        config: How.
        groups: Their division; by weight decay alone if not given.
    """
    groups = groups or parameter_groups(module, config.weight_decay)
    # The rate is set before every step by the schedule; a forgotten one must not train.
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Sets what the schedules prescribe for the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
        if group["decays"]:
            group["weight_decay"] = weight_decay
