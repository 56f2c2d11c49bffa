"""What of a run a checkpoint keeps."""

import torch

from loops import Hooks, batches, training
from maekit.training.keeper import Keeper
from maekit.training.loop import train


def test_state__counts_steps_left_out_since_the_last_record(tmp_path):
    run = training(num_steps=4, steps_per_epoch=2, log_every=4, eval_every=1)
    train(run, batches(float("nan"), 0.0), Hooks(), Keeper(tmp_path, 5))
    saved = torch.load(tmp_path / "step-00000002.pt", weights_only=True)
    assert saved["progress"]["nonfinite_steps"] == 1
    assert run.progress.nonfinite_steps == 1
