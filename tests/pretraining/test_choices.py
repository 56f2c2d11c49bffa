from dataclasses import replace
from pathlib import Path

import pytest

from maekit.data.loader import DataConfig
from maekit.errors import ConfigError, DataError
from maekit.models.mae import ModelConfig
from maekit.pretraining.choices import Facts, activation_bytes, choose
from maekit.pretraining.config import OutputConfig, PretrainConfig
from maekit.training.config import TrainConfig

CONFIG = PretrainConfig(data=DataConfig(dir=Path("x")))
LAPTOP = Facts(5000, 64, 64, 3, "cpu", 4, 16 << 30, 1)
SERVER = Facts(300_000, 400, 500, 3, "cuda", 32, 24 << 30, 2)


def chosen(facts, config=CONFIG):
    return choose(config, facts).config


def test_choose__a_laptop():
    config = chosen(LAPTOP)
    assert (config.model.size, config.model.image_size, config.model.patch_size) == (
        "tiny",
        (64, 64),
        8,
    )
    assert config.train.batch_size == 256
    assert 10 <= config.train.epochs <= 800
    assert config.data.num_workers == 1


def test_choose__two_gpus_and_many_photographs():
    config = chosen(SERVER)
    assert (config.model.size, config.model.image_size, config.model.patch_size) == (
        "base",
        (224, 224),
        16,
    )
    assert config.train.batch_size == 1024
    assert config.train.epochs == 200
    assert config.optim.base_lr == 1.5e-4
    share = config.train.batch_size // 2
    assert share % config.train.micro_batch_size == 0


@pytest.mark.parametrize(
    ("side", "size", "patch"),
    [(28, 28, 4), (32, 32, 4), (64, 64, 8), (100, 96, 8), (180, 160, 16), (900, 224, 16)],
)
def test_choose__sizes_from_the_pictures(side, size, patch):
    config = chosen(SERVER._replace(height=side, width=side))
    assert (config.model.image_size, config.model.patch_size) == ((size, size), patch)


def test_choose__without_a_gpu_large_pictures_are_made_small():
    assert chosen(LAPTOP._replace(height=900, width=900)).model.image_size == (96, 96)


def test_choose__what_is_given_is_kept_and_every_choice_has_a_reason():
    given = replace(
        CONFIG, model=ModelConfig(size="small", image_size=(32, 64)), train=TrainConfig(epochs=3)
    )
    config, choices = choose(given, LAPTOP)
    assert (config.model.size, config.model.image_size, config.train.epochs) == (
        "small",
        (32, 64),
        3,
    )
    assert not {"model.size", "model.image_size", "train.epochs"} & {
        choice.name for choice in choices
    }
    assert all(choice.reason for choice in choices)


@pytest.mark.parametrize("number", [1, 2, 7, 20, 100])
def test_choose__few_pictures_still_make_a_batch(number):
    config = chosen(LAPTOP._replace(num_images=number))
    assert 1 <= config.train.batch_size <= number


def test_choose__refuses_what_cannot_be():
    with pytest.raises(
        ConfigError, match="No patch size from 2 to 16 px divides an image of 97×97"
    ):
        chosen(LAPTOP, replace(CONFIG, model=ModelConfig(image_size=(97, 97))))
    with pytest.raises(DataError, match="A batch of 9000 is more than the 5000"):
        chosen(LAPTOP, replace(CONFIG, train=TrainConfig(batch_size=9000)))
    with pytest.raises(ConfigError, match="does not fall evenly to 2 processes"):
        chosen(SERVER, replace(CONFIG, train=TrainConfig(batch_size=101)))
    with pytest.raises(DataError, match="too few for 4 processes"):
        chosen(LAPTOP._replace(num_images=3, processes=4))


def test_activation_bytes__grows_with_the_model():
    small = ModelConfig(size="small", image_size=(224, 224), patch_size=16, in_channels=3)
    assert activation_bytes(small, 0.75, 4) < activation_bytes(replace(small, size="base"), 0.75, 4)


@pytest.mark.parametrize(
    "given", [{}, {"figures_every": 30}, {"figures_every": 7}, {"eval_every": 9}]
)
def test_choose__figures_fall_on_evaluations(given):
    config = replace(CONFIG, train=TrainConfig(epochs=800), output=OutputConfig(**given))
    output = chosen(LAPTOP, config).output
    assert output.figures_every % output.eval_every == 0
    assert {name: getattr(output, name) for name in given} == given


def test_choose__says_when_epochs_are_capped():
    (few,) = (
        c.reason
        for c in choose(CONFIG, LAPTOP._replace(num_images=20)).choices
        if c.name == "train.epochs"
    )
    assert few.startswith("the most that are chosen; some 1 h")
