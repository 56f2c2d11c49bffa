from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maekit.config import to_dict
from maekit.data.labelled import LabelConfig
from maekit.finetuning.build import build_classifier
from maekit.finetuning.config import FinetuneConfig, choose
from maekit.models.mae import ModelConfig
from maekit.models.vit import ViT

MODEL = ModelConfig(
    size="tiny", image_size=(8, 8), patch_size=4, in_channels=1, embed_dim=8, depth=3, num_heads=2
)


def built(mode, random=False):
    config = FinetuneConfig(data=LabelConfig(dir=Path("x")), init=Path("y"), mode=mode)
    config = replace(choose(config, 9, 1), tune_blocks=1)
    state = {"model": to_dict(MODEL), "encoder": ViT(MODEL.encoder()).state_dict()}
    classifier, loaded = build_classifier(config, state, 2, random)
    same = torch.equal(classifier.encoder.norm.weight, state["encoder"]["norm.weight"]) and (
        torch.equal(
            classifier.encoder.blocks[0].mlp.fc1.weight, state["encoder"]["blocks.0.mlp.fc1.weight"]
        )
    )
    return classifier, loaded, same


@pytest.mark.parametrize(
    ("mode", "trained"),
    [("frozen", set()), ("partial", {"blocks.2"}), ("full", None), ("scratch", None)],
)
def test_build_classifier__what_is_trained(mode, trained):
    classifier, loaded, same = built(mode)
    names = {name for name, p in classifier.encoder.named_parameters() if p.requires_grad}
    if trained is None:
        assert {"pos_embed", "cls_token", "blocks.0.norm1.weight"} <= names
    else:
        assert {".".join(name.split(".")[:2]) for name in names} == trained
    assert same == (mode != "scratch")
    assert loaded.startswith("encoder" if same else "random")


def test_build_classifier__random_weights_for_the_baseline():
    _, loaded, same = built("frozen", random=True)
    assert loaded == "random"
    assert not same
