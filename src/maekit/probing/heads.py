"""Heads trained on features that were computed once, through the package's training loop."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from maekit.data.loader import Batch, BatchPlan, StepSampler, index_batches
from maekit.models.classifier import Head, HeadConfig, probabilities
from maekit.models.layers import LAYER_NORM_EPS
from maekit.processes import World
from maekit.training.config import TrainConfig, plan_loop
from maekit.training.loop import train
from maekit.training.meter import StepRecord
from maekit.training.objective import Losses
from maekit.training.optim import OptimConfig, build_optimizer
from maekit.training.schedule import ScheduleConfig
from maekit.training.state import Training

logger = logging.getLogger(__name__)

# Rates for a batch of 256 to choose from. The paper's 0.1 is LARS's, which scales by layer.
SGD_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_SGD_EPOCHS, _SGD_WARMUP = 90, 10
_ATTENTIVE_LR = 1e-3


class Examples(NamedTuple):
    """Features of pictures whose classes are known."""

    features: Float[Tensor, "n ..."]
    labels: Int[Tensor, " n"]


class _OnFeatures(nn.Module):
    """Heads with the sum of their losses; each batch looks its features up."""

    def __init__(self, heads: nn.ModuleList, norm: nn.Module, examples: Examples) -> None:
        super().__init__()
        self.heads, self.norm, self.examples = heads, norm, examples

    def forward(self, batch: Batch) -> Losses:
        device = next(self.parameters()).device
        features = self.examples.features[batch.indices].to(device, torch.float32)
        target = self.examples.labels[batch.indices].to(device)
        features = self.norm(features)
        losses = [F.cross_entropy(head(features), target) for head in self.heads]
        return Losses(torch.stack(losses).sum(), {})


class _Quiet:
    """Hooks of a training that leaves nothing behind."""

    def on_record(self, record: StepRecord) -> None:
        """Shows nothing."""

    def on_epoch(self, epoch: int) -> None:
        """Measures nothing."""

    def state(self) -> dict[str, Any]:
        """Nothing is kept."""
        return {}


def fit_sgd_probes(
    examples: Examples,
    num_classes: int,
    rates: tuple[float, ...],
    seed: int,
    device: torch.device,
) -> nn.ModuleList:
    """Trains a batch norm without affine and a linear layer on it, once for each learning rate.

    90 epochs, 10 of them warm-up, cosine to zero, momentum 0.9, no weight decay.

    Source: He et al. 2022, appendix A.1, "Linear probing", with SGD for LARS (which the paper says
    works similarly) and features of whole pictures instead of random crops.
    """
    torch.manual_seed(seed)
    dim = examples.features.shape[1]
    norm = nn.BatchNorm1d(dim, affine=False, eps=LAYER_NORM_EPS)
    heads = [nn.Linear(dim, num_classes) for _ in rates]
    groups: list[dict[str, Any]] = []
    for head, rate in zip(heads, rates, strict=True):
        nn.init.trunc_normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
        groups.append({"params": list(head.parameters()), "lr_scale": rate, "decays": False})
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9, fused=True)
    number = len(examples.labels)
    config = TrainConfig(
        epochs=_SGD_EPOCHS,
        batch_size=_batch_size(number, 512),
        seed=seed,
        log_every=10**9,
    )
    schedule = ScheduleConfig(warmup_epochs=_SGD_WARMUP)
    optim = OptimConfig(base_lr=1.0, weight_decay=0.0)
    _train(
        _OnFeatures(nn.ModuleList(heads), norm, examples),
        optimizer,
        config,
        optim,
        schedule,
        device,
    )
    return nn.ModuleList(nn.Sequential(norm, head) for head in heads)


def fit_attentive_probe(
    examples: Examples, num_classes: int, num_steps: int, seed: int, device: torch.device
) -> nn.Module:
    """Trains an attentive head on patch tokens: 10 to 100 epochs, of about `num_steps` steps.

    Source: Psomas et al. 2025, "Attention, Please!", section 3.
    """
    torch.manual_seed(seed)
    number, dim = len(examples.labels), examples.features.shape[-1]
    head = Head(HeadConfig(kind="attentive"), dim, num_classes, frozen=True)
    batch_size = _batch_size(number, 256)
    epochs = min(100, max(10, round(num_steps * batch_size / number)))
    config = TrainConfig(epochs=epochs, batch_size=batch_size, seed=seed, log_every=10**9)
    # AdamW's rate needs no scaling by the batch.
    optim = OptimConfig(
        base_lr=_ATTENTIVE_LR * 256 / batch_size, weight_decay=0.05, betas=(0.9, 0.999)
    )
    optimizer = build_optimizer(head, optim)
    objective = _OnFeatures(nn.ModuleList([head]), nn.Identity(), examples)
    _train(objective, optimizer, config, optim, ScheduleConfig(), device)
    return head


def _batch_size(number: int, most: int) -> int:
    """With few pictures small, or there would be a step or two an epoch."""
    return min(number, most, max(16, number // 8))


def _train(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    optim: OptimConfig,
    schedule: ScheduleConfig,
    device: torch.device,
) -> None:
    """Runs the loop to its end."""
    assert isinstance(objective, _OnFeatures)
    assert config.batch_size is not None
    number = len(objective.examples.labels)
    objective.to(device).train()
    plan = plan_loop(
        config, optim, schedule, number, 1,
        precision="float32", eval_every=10**9, save_every_steps=None, save_every_s=1e9,
    )  # fmt: skip
    training = Training(objective, optimizer, plan, World(0, 1, device), compiled=False)
    batches = BatchPlan(config.batch_size, config.batch_size)
    sampler = StepSampler(number, batches, config.seed, range(plan.num_steps))
    train(training, index_batches(sampler), _Quiet(), None)
    objective.eval()


@torch.no_grad()
def guess(
    head: nn.Module, features: Float[Tensor, "n ..."], device: torch.device
) -> Float[Tensor, "n classes"]:
    """Returns the probability of each class, on the CPU."""
    parts = [head(part.to(device, torch.float32)) for part in torch.split(features, 256)]
    return probabilities(torch.cat(parts)).cpu()
