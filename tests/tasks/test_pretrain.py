"""The main job as a user meets it: what it writes, how it resumes, how it stops, what it refuses."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import maekit
from drawn import drawn, encoded, put, write_messy_folder, write_pictures
from maekit.cli import main
from maekit.log import read_json_lines

REPOSITORY = Path(__file__).parents[2]


def tree(folder):
    """What a folder holds, to the byte."""
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def weights(run):
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    moments = {
        f"{n}.{k}": v for n, entry in state["optimizer"]["state"].items() for k, v in entry.items()
    }
    return state["encoder"] | state["decoder"] | moments


def assert_same_run(one, two):
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    times = ("images_per_s", "data_wait", "seconds_left")
    records = [
        [
            {k: v for k, v in record.items() if k not in times}
            for record in read_json_lines(run / "metrics.jsonl")
        ]
        for run in (one, two)
    ]
    assert records[0] == records[1]


def command(arguments):
    return [sys.executable, "-P", "-m", "maekit", *arguments]


def start(arguments, **options):
    return subprocess.Popen(
        command(arguments), stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def wait_for_steps(run, number, process):
    while len(read_json_lines(run / "metrics.jsonl")) < number:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def children(pid):
    """Processes of the group that are left."""
    alive = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == pid and fields[0] != "Z":
                alive.append(int(entry.name))
    return alive


def test_pretrain__what_a_run_leaves(pictures, smoke, tmp_path, capsys):
    before = tree(pictures)
    assert main([*smoke, "--figures_every", "1", "--trackers.tensorboard", "true"]) == 0
    run = tmp_path / "run"
    names = {path.name for path in run.iterdir()}
    assert {
        "config.yaml", "metrics.jsonl", "log.txt", "figures", "loss.png", "checkpoints", "skipped.jsonl", "result.json"
    } <= names  # fmt: skip
    assert [path.name for path in sorted((run / "figures").iterdir())] == [
        f"epoch-{epoch:05d}.png" for epoch in range(3)
    ]
    result = json.loads((run / "result.json").read_text())
    assert result["steps"] == 10
    assert result["num_images"] == 20
    assert result["val_loss"] > 0
    steps = [
        record["step"] for record in read_json_lines(run / "metrics.jsonl") if "loss" in record
    ]
    assert steps == list(range(1, 11))
    assert tree(pictures) == before
    assert "loss to beat" in capsys.readouterr().err


def test_pretrain__from_python_and_back(pictures, tmp_path):
    result = maekit.pretrain(
        dir=pictures,
        out=tmp_path / "run",
        epochs=1,
        batch_size=8,
        model={"size": "tiny", "depth": 1},
        num_workers=0,
    )
    encoder = maekit.load_encoder(result.out)
    features = encoder(
        encoder.preprocess([pictures / "class0" / "000.png", pictures / "class1" / "001.png"])
    )
    assert features.cls.shape == (2, 192)
    assert features.patches.shape[0] == 2


def test_pretrain__its_config_repeats_it(smoke, tmp_path):
    main(smoke)
    again = [
        "pretrain",
        "--config",
        str(tmp_path / "run" / "config.yaml"),
        "--out",
        str(tmp_path / "again"),
    ]
    assert main(again) == 0
    assert_same_run(tmp_path / "run", tmp_path / "again")


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


def test_resume__other_pictures_are_noticed(smoke, pictures, tmp_path, capsys):
    main(smoke)
    put(pictures / "new.png", encoded(drawn(77), "PNG"))
    assert main(["pretrain", "--resume", str(tmp_path / "run")]) == 2
    assert "are not those the run began with" in capsys.readouterr().err


def test_resume__from_the_checkpoint_before_a_damaged_one(finished, tmp_path, capsys):
    os.truncate(tmp_path / "run" / "checkpoints" / "last.pt", 1000)
    assert main(["pretrain", "--resume", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert "last.pt is damaged" in said
    assert "Going on from" in said


def test_out__is_never_overwritten(smoke, pictures, tmp_path, capsys):
    main(smoke)
    before = tree(tmp_path / "run")
    assert main(smoke) == 2
    assert f"--resume {tmp_path / 'run'}" in capsys.readouterr().err
    assert tree(tmp_path / "run") == before
    assert main([*smoke, "--out", str(pictures / "run")]) == 2
    assert "inside the pictures' folder" in capsys.readouterr().err


def test_init__starts_a_new_run_from_weights(smoke, tmp_path):
    main(smoke)
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


def test_init__and_resume_are_never_confused(smoke, tmp_path, capsys):
    main(smoke)
    run = str(tmp_path / "run")
    capsys.readouterr()
    checkpoint = str(tmp_path / "run" / "checkpoints" / "last.pt")
    assert main(["pretrain", "--resume", checkpoint]) == 2
    assert "use --init" in capsys.readouterr().err
    assert main(["pretrain", smoke[1], "--init", run, "--resume", run]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert main([*smoke, "--init", run, "--out", str(tmp_path / "x"), "--embed_dim", "96"]) == 2
    assert "The weights do not fit" in capsys.readouterr().err


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


def test_resume__from_another_folder(smoke, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(pictures.parent)
    assert main(["pretrain", pictures.name, *smoke[2:]]) == 0
    (tmp_path / "run" / "checkpoints" / "last.pt").unlink()
    monkeypatch.chdir("/")
    assert main(["pretrain", "--resume", str(tmp_path / "run")]) == 0


def test_metrics__held_out_losses_stand_at_their_steps(smoke, tmp_path):
    assert main([*smoke, "--train.log_every", "4"]) == 0
    records = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert [r["step"] for r in records if "val_loss" in r] == [0, 5, 10]


def test_plan__for_two_processes_is_measured_in_one(smoke, capsys, monkeypatch):
    monkeypatch.setattr("maekit.pretraining.estimate._LOAD_SECONDS", 0.1)
    monkeypatch.setattr("maekit.pretraining.estimate._COMPUTE_SECONDS", 0.1)
    assert main([*smoke, "--plan", "--devices", "2"]) == 0
    assert "with 2 in all" in capsys.readouterr().err


def test_plan__trains_nothing_and_says_much(smoke, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("maekit.pretraining.estimate._LOAD_SECONDS", 0.2)
    monkeypatch.setattr("maekit.pretraining.estimate._COMPUTE_SECONDS", 0.2)
    assert main([*smoke, "--plan"]) == 0
    said = capsys.readouterr().err
    for part in (
        "20 to train on",
        "parameters",
        "FLOP an image",
        "learning rate",
        "10 steps",
        "memory",
        "to go",
    ):
        assert part in said
    assert "load" in said
    assert "compute" in said
    assert not (tmp_path / "run").exists()


def test_profile__trace_and_table(smoke, tmp_path):
    assert main([*smoke, "--profile", "3"]) == 0
    assert json.loads((tmp_path / "run" / "trace.json").read_text())["traceEvents"]
    assert "aten::" in (tmp_path / "run" / "profile.txt").read_text()


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


@pytest.mark.parametrize("workers", ["0", "2"])
def test_data__messy_folder(tmp_path, workers):
    folder = write_messy_folder(tmp_path / "m")
    before = tree(folder)
    arguments = [
        "pretrain",
        str(folder),
        "--config",
        "mae_pretrain_smoke",
        "--batch_size",
        "4",
        "--epochs",
        "1",
    ]
    assert (
        main(
            [
                *arguments,
                "--val_images",
                "2",
                "--num_workers",
                workers,
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )
    skipped = {line["name"] for line in read_json_lines(tmp_path / "run" / "skipped.jsonl")}
    assert skipped == {"zero.jpg", "html.jpg", "trunc.jpg", "bitflip.png"}
    assert json.loads((tmp_path / "run" / "result.json").read_text())["num_skipped"] == 4
    assert tree(folder) == before


def test_data__a_picture_that_breaks_after_the_scan_is_counted(
    pictures, smoke, tmp_path, monkeypatch
):
    import maekit.tasks.pretrain as task

    prepared = task.prepare

    def break_one(*arguments):
        result = prepared(*arguments)
        put(pictures / result.pictures.train.name(3), b"gone")
        return result

    monkeypatch.setattr(task, "prepare", break_one)
    assert main(smoke) == 0
    (line, *_) = read_json_lines(tmp_path / "run" / "skipped.jsonl")
    assert line["reason"] == "not a picture in any format that maekit reads"
    assert json.loads((tmp_path / "run" / "result.json").read_text())["num_skipped"] >= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--batch_size", "500"], "A batch of 500 is more than the 20 pictures"),
        (["--val_images", "24"], "leaves nothing to train on"),
        (["--warmup_epochs", "9"], "longer than the run of 10 steps"),
        (["--dir", "other"], "data.dir is given twice"),
        (["--in_channels", "4"], "has 3 channels where 4 are expected"),
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--device", "cpu", "--precision", "float16"], "float16 needs a GPU"),
        (["--mean", "0.5"], "mean and std must be given together"),
        (["--mean", "0.5", "--std", "0.2"], "one value for each of 3 channels"),
    ],
)
def test_refusals__before_anything_is_written(smoke, tmp_path, capsys, changes, message):
    assert main([*smoke, *changes]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [2, 3])
def test_data__a_handful_of_pictures_trains_or_says_why(tmp_path, number, capsys):
    folder = write_pictures(tmp_path / "few", number)
    arguments = [
        "pretrain",
        str(folder),
        "--epochs",
        "2",
        "--out",
        str(tmp_path / "run"),
        "--model.depth",
        "1",
    ]
    assert main([*arguments, "--num_workers", "0"]) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] > 0


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_data__arrays_of_any_channels(tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 60_000, (24, channels, 20, 30)).astype(np.uint16)
    np.save(tmp_path / "stack.npy", images)
    arguments = [
        "pretrain",
        str(tmp_path / "stack.npy"),
        "--config",
        "mae_pretrain_smoke",
        "--epochs",
        "1",
    ]
    assert (
        main(
            [
                *arguments,
                "--image_size",
                "16x24",
                "--array_layout",
                "nchw",
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )
    assert maekit.load_encoder(tmp_path / "run").config.in_channels == channels


@pytest.mark.parametrize("recipe", ["224_16", "96_8", "64_8", "32_4", "smoke"])
@pytest.mark.slow
def test_recipes__run_a_few_steps(pictures, tmp_path, recipe):
    small = [
        "--batch_size",
        "2",
        "--micro_batch_size",
        "2",
        "--epochs",
        "1",
        "--embed_dim",
        "48",
        "--depth",
        "1",
    ]
    small += [
        "--num_heads",
        "3",
        "--decoder_dim",
        "32",
        "--decoder_depth",
        "1",
        "--decoder_num_heads",
        "2",
    ]
    small += [
        "--val_images",
        "18",
        "--warmup_epochs",
        "0.5",
        "--num_workers",
        "0",
        "--figure_images",
        "1",
    ]
    config = f"configs/pretrain/mae_pretrain_{recipe}.yaml"
    logging_config = "configs/pretrain/logging_pretrain.yaml"
    script = [
        sys.executable,
        "pretrain.py",
        str(pictures),
        "--config",
        config,
        "--logging_config",
        logging_config,
    ]
    done = subprocess.run(
        [*script, *small, "--out", str(tmp_path / "run")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "result.json").exists()


def test_choices__no_config_at_all(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        main(["pretrain", str(pictures), "--epochs", "1", "--depth", "1", "--num_workers", "0"])
        == 0
    )
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "result.json").exists()
    said = capsys.readouterr().err
    assert "model.image_size" in said
    assert "the pictures' median is 40×32 px" in said


@pytest.mark.slow
def test_learning__the_loss_falls_below_the_best_single_colour(tmp_path):
    folder = write_pictures(tmp_path / "p", 16)
    result = maekit.pretrain(
        dir=folder, out=tmp_path / "run", model={"size": "tiny", "depth": 2, "target": "pixel", "image_size": 32},
        epochs=80, batch_size=16, val_images=0, optim={"base_lr": 2e-2}, num_workers=0,
        output={"eval_every": 30, "figures_every": 30},
    )  # fmt: skip
    assert result.val_loss < result.baseline_mean_colour
    assert result.explained > 0.1
