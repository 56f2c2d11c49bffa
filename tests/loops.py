"""The smallest run there is: one square, made-up batches, hooks that remember."""

import itertools

import torch
from torch import nn

from maekit.data.loader import Batch
from maekit.processes import World
from maekit.training.config import LoopPlan
from maekit.training.objective import Losses
from maekit.training.optim import OptimConfig, build_optimizer
from maekit.training.schedule import Schedule
from maekit.training.state import Training

WORLD = World(0, 1, torch.device("cpu"))


class Square(nn.Module):
    """Loss (w - mean of the images)²; NaN where an image is."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(2, 2))

    def forward(self, batch):
        loss = (self.w - batch.images.mean()).square().mean()
        return Losses(loss, {"images": batch.images.detach().mean()})


class Hooks:
    def __init__(self, scores=()):
        self.records, self.epochs, self.scores = [], [], iter(scores)

    def on_record(self, record):
        self.records.append(record)

    def on_epoch(self, epoch):
        self.epochs.append(epoch)
        return next(self.scores, None)

    def state(self):
        return {"encoder": {}}


def plan(**changes):
    defaults = {
        "num_steps": 6, "steps_per_epoch": 2, "batch_size": 4, "micro_batches": [4], "grad_clip": None,
        "precision": "float32", "seed": 0, "log_every": 1, "max_nonfinite": 3, "eval_every": 1,
        "save_every_steps": None, "save_every_s": 1e9,
        "schedule": Schedule(kind="stable", peak_lr=0.1, min_lr=0.1, num_steps=6, warmup_steps=0),
    }  # fmt: skip
    return LoopPlan(**defaults | changes)


def training(**changes):
    objective = Square()
    return Training(
        objective, build_optimizer(objective, OptimConfig()), plan(**changes), WORLD, compiled=False
    )


def batches(*values, size=4):
    for value in itertools.chain(values, itertools.repeat(values[-1])):
        yield Batch(
            torch.full((size, 1, 1, 1), float(value)), torch.zeros(size, 1), torch.arange(size), []
        )
