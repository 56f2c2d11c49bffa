"""The main job as a user meets it: what it writes, what it says, what it refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import maekit
from drawn import put, write_messy_folder, write_pictures
from maekit.cli import main
from maekit.log import read_json_lines
from runs import assert_same_run, tree

REPOSITORY = Path(__file__).parents[2]


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_profile__trace_and_table(smoke, tmp_path):
    assert main([*smoke, "--profile", "3"]) == 0
    assert json.loads((tmp_path / "run" / "trace.json").read_text())["traceEvents"]
    assert "aten::" in (tmp_path / "run" / "profile.txt").read_text()


@pytest.mark.slow
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


@pytest.mark.slow
def test_data__a_picture_that_breaks_after_the_scan_is_counted(
    pictures, smoke, tmp_path, monkeypatch
):
    import maekit.tasks.pretrain as task

    own = shutil.copytree(pictures, tmp_path / "own")
    prepared = task.prepare

    def break_one(*arguments):
        result = prepared(*arguments)
        put(own / result.pictures.train.name(3), b"gone")
        return result

    monkeypatch.setattr(task, "prepare", break_one)
    assert main([smoke[0], str(own), *smoke[2:]]) == 0
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
