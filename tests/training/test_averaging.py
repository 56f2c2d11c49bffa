import pytest
import torch
from torch import nn

from maekit.training.averaging import average_of


def test_average__by_hand():
    module = nn.Linear(1, 1, bias=False)
    average = average_of(module, 0.9)
    expected = 0.0
    for number, value in enumerate((1.0, 2.0, 4.0)):
        nn.init.constant_(module.weight, value)
        average.update_parameters(module)
        share = min(0.9, (1 + number) / (10 + number))
        expected = value if number == 0 else share * expected + (1 - share) * value
    assert average.module.weight.item() == pytest.approx(expected)


def test_average__decays_as_asked_in_the_long_run():
    module = nn.Linear(1, 1, bias=False)
    average = average_of(module, 0.9)
    average.n_averaged.fill_(1000)
    with torch.no_grad():
        average.module.weight.fill_(0.0)
        module.weight.fill_(1.0)
    average.update_parameters(module)
    assert average.module.weight.item() == pytest.approx(0.1)
