"""The parts of a run folder that `tests/tasks/test_pretrain.py` does not reach."""

import pytest
import torch

from maekit.config import build, given_python
from maekit.data.loader import Batch
from maekit.errors import DataError
from maekit.log import JsonLines
from maekit.pretraining.config import PretrainConfig
from maekit.pretraining.run_folder import HeldOut, RunFolder
from maekit.processes import World
from maekit.targets import Baselines
from maekit.training.meter import StepRecord


class Names:
    def __len__(self):
        return 9

    def name(self, index):
        return f"{index}.png"

    def read(self, index):
        raise AssertionError


def test_replaced_pictures__are_written_and_limited(tmp_path):
    config = build(PretrainConfig, given_python({"dir": "x", "out": tmp_path}, PretrainConfig))
    folder = RunFolder.__new__(RunFolder)
    folder.config, folder.world, folder.train_names = (
        config,
        World(1, 2, torch.device("cpu")),
        Names(),
    )
    folder.folder = tmp_path
    folder.replaced, folder.most_replaced = 0, 2

    folder.skipped = JsonLines(tmp_path / "skipped.jsonl")
    record = StepRecord(1, 0.1, {"loss": 1.0}, 1.0, 0.0, 1.0, [(3, "gone"), (4, "gone")])
    folder.on_record(record)
    assert (tmp_path / "skipped.jsonl").read_text().count("gone") == 2
    with pytest.raises(DataError, match="4 pictures broke since the scan"):
        folder.on_record(record)


def test_held_out__can_be_walked_again():
    batch = Batch(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1), torch.zeros(1, dtype=torch.long), [])
    held = HeldOut([batch], True, Baselines(1.0, 0.5))
    assert len(list(held)) == len(list(held)) == 1
