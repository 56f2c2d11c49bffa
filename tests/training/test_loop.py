"""The loop on a network of one weight, where every number can be worked out."""

import pytest
import torch

from loops import Hooks, batches, plan, training
from maekit.errors import TrainingError
from maekit.training.keeper import Keeper
from maekit.training.loop import train


def test_train__records_epochs_and_steps(tmp_path):
    hooks, run = Hooks([3.0, 1.0, 2.0]), training()
    train(run, batches(0.0), hooks, Keeper(tmp_path, 3))
    assert [record.step for record in hooks.records] == [1, 2, 3, 4, 5, 6]
    assert hooks.epochs == [1, 2, 3]
    assert run.progress.best == 1.0
    losses = [record.scalars["loss"] for record in hooks.records]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == 1.0
    assert torch.load(tmp_path / "best.pt", weights_only=True)["progress"]["step"] == 4


def test_train__micro_batches_add_up_to_the_batch():
    whole, parts = training(), training(micro_batches=[2, 2])
    train(whole, batches(0.5), Hooks(), None)
    train(parts, batches(0.5, size=2), Hooks(), None)
    torch.testing.assert_close(whole.objective.w, parts.objective.w)


def test_train__a_nan_step_is_left_out_and_counted():
    run, clean, hooks = training(num_steps=3), training(num_steps=2), Hooks()
    train(run, batches(0.0, float("nan"), 0.0), hooks, None)
    train(clean, batches(0.0), Hooks(), None)
    assert torch.equal(run.objective.w, clean.objective.w)
    assert run.progress.nonfinite_steps == 1
    assert hooks.records[2].scalars["loss"] < 1.0


def test_train__a_run_of_nans_stops_with_a_finite_checkpoint(tmp_path):
    run = training(num_steps=40)
    with pytest.raises(TrainingError, match="not finite in 3 steps in a row, up to step 7"):
        train(run, batches(0, 0, 0, 0, float("nan")), Hooks(), Keeper(tmp_path, 3))
    saved = torch.load(tmp_path / "last.pt", weights_only=True)
    assert saved["progress"]["step"] in (4, 6)
    assert run.objective.w.isfinite().all()


def test_save__never_writes_weights_that_are_not_finite(tmp_path):
    run = training(num_steps=2, max_nonfinite=50)
    with torch.no_grad():
        run.objective.w[0, 0] = float("inf")
    with pytest.raises(TrainingError, match="weights are no longer finite"):
        train(run, batches(0.0), Hooks(), Keeper(tmp_path, 3))
    assert not (tmp_path / "last.pt").exists()


def test_train__grad_clip_bounds_the_update():
    free, clipped = Hooks(), Hooks()
    train(training(), batches(100.0), free, None)
    run = training(grad_clip=1e-3)
    train(run, batches(100.0), clipped, None)
    assert (
        clipped.records[0].scalars["grad_norm"] == free.records[0].scalars["grad_norm"]
    )  # before clipping


def test_train__resumes_where_the_state_says():
    straight = training()
    train(straight, batches(0.3), Hooks(), None)
    first = training(num_steps=4, schedule=plan().schedule)
    train(first, batches(0.3), Hooks(), None)
    second = training()
    second.objective.load_state_dict(first.objective.state_dict())
    second.load_state(first.state())
    train(second, batches(0.3), Hooks(), None)
    assert torch.equal(second.objective.w, straight.objective.w)


def test_train__no_step_and_no_broken_picture_is_lost_where_epochs_and_records_do_not_meet():
    def breaking():
        for number, batch in enumerate(batches(0.0)):
            yield batch._replace(replaced=[(number, "gone")])

    run, hooks = training(num_steps=6, steps_per_epoch=2, log_every=4), Hooks()
    train(run, breaking(), hooks, None)
    assert [record.step for record in hooks.records] == [4, 6]
    assert [index for record in hooks.records for index, _ in record.replaced] == list(range(6))
    assert run.progress.replaced == 6


def test_train__saves_within_an_epoch_where_asked(tmp_path):
    run = training(num_steps=6, steps_per_epoch=6, save_every_steps=2)
    train(run, batches(0.0), Hooks(), Keeper(tmp_path, 9))
    assert {path.name for path in tmp_path.iterdir()} == {
        "last.pt",
        "step-00000002.pt",
        "step-00000004.pt",
    }
