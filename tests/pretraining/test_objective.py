import pytest
import torch

from maekit.data.loader import Batch
from maekit.data.transforms import Preprocessing
from maekit.models.mae import MaskedAutoencoder, ModelConfig
from maekit.pretraining.objective import PretrainObjective, baselines, evaluate, explained
from maekit.targets import Baselines

MODEL = ModelConfig(
    size="tiny",
    image_size=(16, 16),
    patch_size=4,
    in_channels=3,
    depth=1,
    decoder_depth=1,
    target="pixel",
    drop_path=0.5,
)


@pytest.fixture
def objective():
    torch.manual_seed(0)
    preprocessing = Preprocessing(
        image_size=(16, 16), in_channels=3, mean=(0.5,) * 3, std=(0.29,) * 3
    )
    return PretrainObjective(MaskedAutoencoder(MODEL), preprocessing, 0.75)


def batches(number=3, size=4):
    torch.manual_seed(1)
    return [
        Batch(
            torch.randint(0, 255, (size, 3, 16, 16), dtype=torch.uint8),
            torch.rand(size, 16),
            torch.arange(size),
            [],
        )
        for _ in range(number)
    ]


def test_evaluate__is_a_mean_over_pictures_in_eval_mode(objective):
    one = evaluate(objective, batches(), torch.device("cpu"))
    assert evaluate(objective, batches(), torch.device("cpu")) == one
    assert objective.training  # put back
    objective.eval()
    expected = sum(float(objective(batch).total.detach()) for batch in batches()) / 3
    assert one == pytest.approx(expected, rel=1e-5)


def test_baselines__of_noise_are_its_variance(objective):
    found = baselines(objective, batches())
    assert found.mean_colour == pytest.approx(1.0, abs=0.05)
    assert found.patch_mean == pytest.approx(1.0 * 15 / 16, abs=0.05)


def test_explained__of_the_baselines():
    assert explained(0.25, Baselines(1.0, 0.5)) == 0.75
    assert explained(2.0, Baselines(1.0, 0.5)) == -1.0
