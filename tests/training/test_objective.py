import torch

from maekit.training.objective import Losses


def test_losses__total_and_parts():
    losses = Losses(torch.tensor(1.0), {"pixels": torch.tensor(0.5)})
    assert losses.total == 1.0
    assert losses.parts.keys() == {"pixels"}
