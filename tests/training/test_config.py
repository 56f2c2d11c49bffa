import pytest

from maekit.errors import ConfigError
from maekit.training.config import TrainConfig


@pytest.mark.parametrize(
    "name", ["epochs", "batch_size", "micro_batch_size", "log_every", "max_nonfinite"]
)
def test_config__refuses(name):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1"):
        TrainConfig(**{name: 0})
