from pathlib import Path

import pytest

from maekit.data.labelled import LabelConfig
from maekit.errors import ConfigError
from maekit.finetuning.config import FinetuneConfig, RegularConfig, choose

DATA = LabelConfig(dir=Path("x"))


def config(**changes):
    return FinetuneConfig(data=DATA, init=Path("run"), **changes)


def test_choose__frozen_features_do_not_change_and_tuned_ones_follow_the_paper():
    frozen, full = choose(config(), 500, 3), choose(config(mode="full"), 500, 3)
    assert not frozen.augment.changes_pictures
    assert (full.augment.mixup, full.augment.cutmix, full.augment.randaugment) == (0.8, 1.0, 9)
    assert full.augment.changes_pictures
    assert choose(config(mode="full"), 500, 13).augment.randaugment == 0


def test_choose__what_is_given_stays():
    chosen = choose(config(mode="full", augment=RegularConfig(mixup=0.0)), 20, 3)
    assert chosen.augment.mixup == 0.0
    assert chosen.train.batch_size == 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"layer_decay": 0.0}, "layer_decay"), ({"tune_blocks": 0}, "tune_blocks")],
)
def test_config__refuses(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)
    with pytest.raises(ConfigError, match="init is needed"):
        FinetuneConfig(data=DATA)
    with pytest.raises(ConfigError, match="crop_scale"):
        RegularConfig(crop_scale=(0.5, 0.2))
