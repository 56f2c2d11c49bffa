import numpy as np
import pytest
import torch

from loops import WORLD
from maekit.data.labelled import LabelConfig
from maekit.data.sources import ArraySource
from maekit.data.transforms import Preprocessing
from maekit.finetuning.config import FinetuneConfig
from maekit.finetuning.run_folder import FinetuneFolder, described
from maekit.log import read_json_lines
from maekit.models.classifier import Classifier, HeadConfig
from maekit.models.vit import ViT, ViTConfig
from maekit.report.progress import TrainDisplay
from maekit.training.meter import StepRecord


def classifier():
    shape = ViTConfig(
        image_size=(8, 8), patch_size=4, in_channels=3, embed_dim=12, depth=1, num_heads=3
    )
    return Classifier(ViT(shape), HeadConfig(), num_classes=2, frozen=True)


@pytest.fixture
def folder(tmp_path):
    def build(guesses=(), trained=None):
        left = iter(guesses)
        source = ArraySource(tmp_path / "a.npy", np.zeros((2, 8, 8, 3), np.uint8))
        config = FinetuneConfig(data=LabelConfig(dir=tmp_path), init=tmp_path)
        preprocessing = Preprocessing(
            image_size=(8, 8), in_channels=3, mean=(0.5,) * 3, std=(0.2,) * 3
        )
        return FinetuneFolder(
            tmp_path, config, classifier(), trained,
            described({}, preprocessing, ["a", "b"], "f"), WORLD, source,
            TrainDisplay(9, 3, 0), lambda: next(left), torch.tensor([0, 1]), 3,
        )  # fmt: skip

    return build


def test_on_epoch__accuracy_chooses_then_sureness(folder):
    half = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    right, surer = torch.tensor([[0.6, 0.4], [0.4, 0.6]]), torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    hooks = folder([half, right, surer])
    scores = [hooks.on_epoch(epoch) for epoch in (1, 2, 3)]
    assert scores[0] > scores[1] > scores[2]
    records = read_json_lines(hooks.metrics.path)
    assert [record["val_top1"] for record in records] == [0.5, 1.0, 1.0]
    assert [record["step"] for record in records] == [3, 6, 9]


def test_on_record__a_picture_that_broke_is_named(folder, tmp_path):
    record = StepRecord(4, 1.3, {"loss": 0.5}, 10.0, 0.1, 2.0, [(1, "cut short")])
    folder().on_record(record)
    (skipped,) = read_json_lines(tmp_path / "skipped.jsonl")
    assert (skipped["reason"], skipped["step"]) == ("cut short", 4)


def test_state__holds_the_weights_that_are_trained_where_others_are_judged(folder):
    assert "trained" not in folder().state()
    other = classifier()
    state = folder(trained=other).state()
    assert state["trained"]["head"]["head.weight"] is not state["head"]["head.weight"]
    assert torch.equal(state["trained"]["head"]["head.weight"], other.head.head.weight)
