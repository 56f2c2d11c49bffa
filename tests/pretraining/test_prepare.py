import contextlib

import pytest
import torch

from maekit.config import build, given_python
from maekit.errors import ConfigError
from maekit.pretraining.config import PretrainConfig
from maekit.pretraining.prepare import plan_loop, prepare
from maekit.processes import World

WORLD = World(0, 1, torch.device("cpu"))


@contextlib.contextmanager
def silent(title):
    yield lambda done, total: None


def config(**given):
    return build(PretrainConfig, given_python(given, PretrainConfig))


def test_prepare__leaves_nothing_open(pictures):
    prepared = prepare(config(dir=pictures, epochs=4, batch_size=6), WORLD, silent)
    plan = plan_loop(prepared.config, len(prepared.pictures.train), WORLD)
    assert (plan.num_steps, plan.steps_per_epoch, plan.micro_batches) == (16, 4, [6])
    assert prepared.preprocessing.mean == prepared.config.data.mean
    assert plan.schedule.peak_lr == pytest.approx(1e-3 * 6 / 256)


def test_prepare__sizes_are_refused_before_a_picture_is_opened(tmp_path):
    with pytest.raises(ConfigError, match="not a multiple of the patch size"):
        prepare(config(dir=tmp_path / "none", image_size=30, patch_size=8), WORLD, silent)


def test_prepare__given_colours_are_not_measured(pictures, monkeypatch):
    monkeypatch.setattr("maekit.pretraining.prepare.channel_statistics", None)
    prepared = prepare(config(dir=pictures, mean=[0.5] * 3, std=[0.2] * 3, epochs=1), WORLD, silent)
    assert prepared.preprocessing.std == (0.2, 0.2, 0.2)
