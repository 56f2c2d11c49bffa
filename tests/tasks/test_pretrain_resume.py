"""How a run stops, goes on, begins from weights, and is the same in two processes."""

import os
import re
import shutil
import signal
import time

import pytest
import torch

import maekit
from drawn import drawn, encoded, put
from maekit.cli import main
from maekit.log import read_json_lines
from runs import assert_same_run, children, start, tree, wait_for_steps, weights


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_resume__after_kill_9_is_the_same_run(smoke, tmp_path, workers):
    arguments = [*smoke, "--num_workers", workers, "--save_every_steps", "3", "--eval_every", "2"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert main([*arguments, "--out", str(straight)]) == 0
    process = start([*arguments, "--out", str(killed), "--train.log_every", "1"])
    wait_for_steps(killed, 6, process)  # in mid-epoch: an epoch has five steps
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert main(["pretrain", "--resume", str(killed)]) == 0
    assert_same_run(straight, killed)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("to_group", [False, True])
def test_interrupt__saves_leaves_and_goes_on(smoke, tmp_path, number, code, to_group):
    run, straight = tmp_path / "run", tmp_path / "straight"
    arguments = [*smoke, "--num_workers", "2", "--epochs", "16"]
    process = start([*arguments, "--out", str(run)])
    wait_for_steps(run, 4, process)
    (os.killpg if to_group else os.kill)(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in said
    assert "Stopped at step" in said
    time.sleep(0.5)
    assert not children(process.pid)
    saved = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["progress"]["step"]
    assert 3 <= saved < 80
    if to_group and number == signal.SIGTERM:
        assert main(["pretrain", "--resume", str(run)]) == 0
        assert main([*arguments, "--out", str(straight)]) == 0
        assert_same_run(straight, run)


def test_resume__a_finished_run_stays_as_it_is(finished, tmp_path):
    before = tree(tmp_path / "run" / "checkpoints")
    result = maekit.pretrain(resume=tmp_path / "run")
    assert result.steps == 10
    assert "is finished" in (tmp_path / "run" / "log.txt").read_text()
    assert tree(tmp_path / "run" / "checkpoints") == before


def test_resume__changed_settings_are_listed(finished, tmp_path, capsys):
    run = finished
    capsys.readouterr()
    assert (
        main(
            [
                "pretrain",
                "--resume",
                str(run),
                "--epochs",
                "9",
                "--model.depth",
                "3",
                "--num_workers",
                "1",
            ]
        )
        == 2
    )
    said = capsys.readouterr().err
    assert "train.epochs: 2 → 9" in said
    assert "model.depth: 2 → 3" in said
    assert "num_workers" not in said


def test_resume__other_pictures_are_noticed(finished, pictures, tmp_path, capsys):
    changed = shutil.copytree(pictures, tmp_path / "changed")
    put(changed / "new.png", encoded(drawn(77), "PNG"))
    assert main(["pretrain", str(changed), "--resume", str(finished)]) == 2
    assert "are not those the run began with" in capsys.readouterr().err


def test_resume__from_the_checkpoint_before_a_damaged_one(finished, tmp_path, capsys):
    os.truncate(tmp_path / "run" / "checkpoints" / "last.pt", 1000)
    assert main(["pretrain", "--resume", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert "last.pt is damaged" in said
    assert "Going on from" in said


def test_out__is_never_overwritten(finished, smoke, pictures, tmp_path, capsys):
    before = tree(tmp_path / "run")
    assert main(smoke) == 2
    assert f"--resume {tmp_path / 'run'}" in capsys.readouterr().err
    assert tree(tmp_path / "run") == before
    assert main([*smoke, "--out", str(pictures / "run")]) == 2
    assert "inside the pictures' folder" in capsys.readouterr().err


@pytest.mark.slow
def test_init__starts_a_new_run_from_weights(finished, smoke, tmp_path):
    arguments = [
        smoke[0],
        smoke[1],
        "--init",
        str(tmp_path / "run"),
        "--out",
        str(tmp_path / "next"),
    ]
    assert main([*arguments, "--epochs", "1", "--batch_size", "4", "--num_workers", "0"]) == 0
    old, new = (read_json_lines(tmp_path / name / "metrics.jsonl") for name in ("run", "next"))
    assert new[0]["val_loss"] == pytest.approx(
        old[-1]["val_loss"], rel=1e-4
    )  # same weights at the start
    log = (tmp_path / "next" / "log.txt").read_text()
    assert re.search(r"Weights: from .*last\.pt: encoder (\d+)/\1, decoder (\d+)/\2", log)


def test_init__and_resume_are_never_confused(finished, smoke, tmp_path, capsys):
    run = str(tmp_path / "run")
    capsys.readouterr()
    checkpoint = str(tmp_path / "run" / "checkpoints" / "last.pt")
    assert main(["pretrain", "--resume", checkpoint]) == 2
    assert "use --init" in capsys.readouterr().err
    assert main(["pretrain", smoke[1], "--init", run, "--resume", run]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert main([*smoke, "--init", run, "--out", str(tmp_path / "x"), "--embed_dim", "96"]) == 2
    assert "The weights do not fit" in capsys.readouterr().err


@pytest.mark.slow
def test_resume__of_a_run_that_began_with_init_needs_no_init(finished, smoke, tmp_path, capsys):
    second = tmp_path / "second"
    arguments = [*smoke, "--out", str(second), "--init", str(finished)]
    assert main([*arguments, "--save_every_steps", "3"]) == 0
    shutil.rmtree(finished)
    (second / "checkpoints" / "last.pt").unlink()
    (second / "checkpoints" / "best.pt").unlink()
    assert main(["pretrain", "--resume", str(second)]) == 0
    assert weights(second)
    assert main(["pretrain", "--resume", str(second), "--out", str(tmp_path / "other")]) == 2
    assert "cannot write to" in capsys.readouterr().err


@pytest.mark.slow
def test_resume__from_another_folder(smoke, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(pictures.parent)
    assert main(["pretrain", pictures.name, *smoke[2:]]) == 0
    (tmp_path / "run" / "checkpoints" / "last.pt").unlink()
    monkeypatch.chdir("/")
    assert main(["pretrain", "--resume", str(tmp_path / "run")]) == 0


@pytest.mark.slow
def test_two_processes__same_loss_curve_as_one(smoke, tmp_path):
    """Through the launcher, on the CPU: global batch, gradients and logged means agree."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert main([*smoke, "--out", str(one)]) == 0
    process = start([*smoke, "--out", str(two), "--devices", "2"])
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    curves = [
        [r["loss"] for r in read_json_lines(run / "metrics.jsonl") if "loss" in r]
        for run in (one, two)
    ]
    assert len(curves[0]) == 10
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)
    first, second = weights(one), weights(two)
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


@pytest.mark.slow
def test_two_processes__an_error_is_said_once_and_sigterm_saves(smoke, tmp_path):
    process = start([*smoke, "--devices", "2", "--batch_size", "5"])
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert said.count("does not fall evenly to 2 processes") == 1
    run = tmp_path / "run"
    process = start([*smoke, "--devices", "2", "--epochs", "200"])
    wait_for_steps(run, 4, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert (run / "checkpoints" / "last.pt").exists()
    assert not children(process.pid)


@pytest.mark.slow
def test_resume__of_a_run_that_was_killed_before_it_saved(finished, smoke, tmp_path, capsys):
    run = tmp_path / "run"
    twin = [*smoke, "--out", str(tmp_path / "twin"), "--init", str(finished)]
    assert main(twin) == 0
    early = shutil.copytree(tmp_path / "twin", tmp_path / "early")
    shutil.rmtree(early / "checkpoints")
    assert main(["pretrain", "--resume", str(early)]) == 0
    assert "starts again" in capsys.readouterr().err
    assert_same_run(tmp_path / "twin", early)
    assert main(["pretrain", "--resume", str(run), "--precision", "bfloat16"]) == 2
    assert "runtime.precision" in capsys.readouterr().err


def test_init__has_a_size_of_its_own(finished, smoke, tmp_path, capsys):
    assert (
        main(
            [*smoke[:-2], "--out", str(tmp_path / "x"), "--init", str(finished), "--size", "small"]
        )
        == 2
    )
    assert "the widths come from the weights" in capsys.readouterr().err
