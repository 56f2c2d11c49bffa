import pytest
import torch

from maekit.errors import ConfigError
from maekit.finetuning.config import RegularConfig
from maekit.finetuning.transforms import FinetuneTransform

PAPER = RegularConfig(crop_scale=(0.5, 1.0), flip=True, randaugment=9, erase=1.0)


def test_transform__same_seed_same_view():
    image = torch.randint(256, (3, 40, 50), dtype=torch.uint8)
    views = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        views.append(FinetuneTransform((32, 32), PAPER)(image.clone()))
    assert views[0].shape == (3, 32, 32)
    assert views[0].dtype == torch.uint8
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])


def test_transform__many_channels():
    config = RegularConfig(crop_scale=(0.5, 1.0), erase=1.0)
    assert FinetuneTransform((16, 16), config)(torch.rand(13, 20, 20)).shape == (13, 16, 16)
    with pytest.raises(ConfigError, match="8-bit pictures"):
        FinetuneTransform((16, 16), PAPER)(torch.rand(13, 20, 20))
