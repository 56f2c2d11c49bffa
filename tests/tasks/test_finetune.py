"""From an encoder to a classifier as a user meets it, and back from the classifier to pictures."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import maekit
from drawn import encoded, put
from maekit import checkpoint
from maekit.cli import main
from maekit.log import read_json_lines
from runs import start


@pytest.fixture(scope="session")
def coloured(tmp_path_factory):
    """Three classes that differ in colour: 12 pictures each to learn from, 6 to test."""
    root = tmp_path_factory.mktemp("labelled") / "d"
    random = np.random.default_rng(0)
    for split, number in (("train", 12), ("test", 6)):
        for channel, name in enumerate(("red", "green", "blue")):
            for index in range(number):
                pixels = random.integers(0, 120, (32, 32, 3))
                pixels[:, :, channel] += 100
                picture = Image.fromarray(pixels.astype(np.uint8))
                put(root / split / name / f"{index}.png", encoded(picture, "PNG"))
    return root


def arguments(coloured, finished, out, *changes):
    given = ["finetune", str(coloured), "--config", "mae_finetune_smoke", "--init", str(finished)]
    return [*given, "--out", str(out), *changes]


def test_finetune__what_a_run_leaves(coloured, finished, tmp_path, capsys):
    before = checkpoint.load(finished / "checkpoints" / "last.pt")["encoder"]
    assert main(arguments(coloured, finished, tmp_path / "f", "--train.epochs", "20")) == 0
    said = capsys.readouterr().err
    count = len(before)
    assert f"encoder {count}/{count}" in said
    assert "95 %" in said
    result = json.loads((tmp_path / "f" / "result.json").read_text())
    assert result["classes"] == ["blue", "green", "red"]
    assert result["test"]["top1"] >= 0.9
    assert 0.0 <= result["baseline_top1"] <= 1.0
    assert "seed 0" in result["protocol"]
    names = {path.name for path in (tmp_path / "f").iterdir()}
    assert names >= {
        "config.yaml", "metrics.jsonl", "log.txt", "skipped.jsonl", "per_class.csv",
        "confusion.png", "learning_curve.png", "checkpoints", "baseline",
    }  # fmt: skip
    after = checkpoint.load(tmp_path / "f" / "checkpoints" / "best.pt")["encoder"]
    assert all(torch.equal(before[name], after[name]) for name in before)  # frozen, to the bit

    classify = maekit.load_classifier(tmp_path / "f")
    guessed = classify([coloured / "test" / "red" / "0.png"])
    assert guessed.shape == (1, 3)
    assert classify.classes[int(guessed.argmax())] == "red"

    folder = shutil.copytree(coloured / "test", tmp_path / "new")
    put(folder / "broken.jpg", b"no picture")
    table = tmp_path / "p.csv"
    rows = maekit.predict(checkpoint=tmp_path / "f", images=[folder], out=table, num_workers=0)
    assert len(rows) == 19
    assert [row.reason for row in rows if row.label is None] == [
        "not a picture in any format that maekit reads"
    ]
    assert sum(row.label is not None and row.label in row.path for row in rows) >= 16
    assert table.read_text().splitlines()[0] == "path,class,probability,reason"


@pytest.mark.parametrize(
    "changes",
    [
        ["--mode", "full", "--layer_decay", "0.9"],
        ["--mode", "partial", "--tune_blocks", "1"],
        ["--mode", "scratch"],
        ["--head.kind", "attentive"],
        ["--ema", "0.9"],
        ["--head.kind", "mlp", "--head.layer", "1"],
    ],
    ids=lambda changes: "-".join(changes[1::2]),
)
@pytest.mark.slow
def test_finetune__every_mode_learns(coloured, finished, tmp_path, changes):
    changes += ["--train.epochs", "30", "--baseline", "false", "--base_lr", "3e-2"]
    changes += ["--mixup", "0", "--cutmix", "0", "--randaugment", "0", "--augment.drop_path", "0"]
    assert main(arguments(coloured, finished, tmp_path / "f", *changes)) == 0
    assert json.loads((tmp_path / "f" / "result.json").read_text())["test"]["top1"] >= 0.7


@pytest.mark.slow
@pytest.mark.parametrize("ema", [[], ["--ema", "0.99"]], ids=["weights", "ema"])
def test_finetune__resumes_exactly(coloured, finished, tmp_path, ema):
    changes = ["--baseline", "false", "--mode", "full", "--train.epochs", "2", *ema]
    assert main(arguments(coloured, finished, tmp_path / "a", *changes)) == 0
    run = shutil.copytree(tmp_path / "a", tmp_path / "b")
    (run / "checkpoints" / "last.pt").unlink()  # what is left is from after the first epoch
    (run / "checkpoints" / "best.pt").unlink()
    assert main(["finetune", "--resume", str(run)]) == 0
    one, two = (checkpoint.load(tmp_path / name / "checkpoints" / "last.pt") for name in "ab")
    assert one["progress"] == two["progress"]
    for part in ("encoder", "head"):
        assert all(torch.equal(one[part][name], two[part][name]) for name in one[part])
    records = [
        [record.get("loss") for record in read_json_lines(tmp_path / name / "metrics.jsonl")]
        for name in "ab"
    ]
    assert records[0] == records[1]
    assert main(["finetune", "--resume", str(run), "--train.epochs", "5"]) == 2


def test_finetune__what_contradicts_the_checkpoint_is_named(coloured, finished, tmp_path, capsys):
    changes = ["--model.patch_size", "4"]
    assert main(arguments(coloured, finished, tmp_path / "f", *changes)) == 2
    assert "model.patch_size is 4" in capsys.readouterr().err
    assert main(["finetune", str(coloured)]) == 2
    assert "init is needed" in capsys.readouterr().err
    state = checkpoint.load(finished / "checkpoints" / "last.pt")
    state["encoder"].pop("norm.weight")
    torch.save(state, tmp_path / "part.pt")
    assert main(arguments(coloured, tmp_path / "part.pt", tmp_path / "f")) == 2
    assert "missing norm.weight" in capsys.readouterr().err
    assert main(["predict", str(finished), str(coloured)]) == 2
    assert "holds no classifier" in capsys.readouterr().err


@pytest.mark.slow
def test_finetune__two_processes_train_as_one(coloured, finished, tmp_path, capsys):
    changes = ["--baseline", "false", "--mode", "full", "--train.epochs", "2", "--mixup", "0"]
    changes += ["--cutmix", "0", "--augment.drop_path", "0"]  # drawn by each process for itself
    assert main(arguments(coloured, finished, tmp_path / "one", *changes)) == 0
    process = start(arguments(coloured, finished, tmp_path / "two", *changes, "--devices", "2"))
    _, said = process.communicate(timeout=180)
    assert process.returncode == 0, said
    assert said.count("Weights: encoder") == 1
    one, two = (
        [r["loss"] for r in read_json_lines(tmp_path / name / "metrics.jsonl") if "loss" in r]
        for name in ("one", "two")
    )
    assert one == pytest.approx(two, rel=1e-4)
    assert json.loads((tmp_path / "two" / "result.json").read_text())["test"]["num_images"] == 18
    changes = ["--devices", "2", "--baseline", "false"]
    assert main(arguments(coloured, finished, tmp_path / "three", *changes)) == 2
    assert "devices must be 1 where the encoder is frozen" in capsys.readouterr().err
