import subprocess
import sys
import time

import pytest

from maekit import __version__
from maekit.cli import collect, find_recipe, main, split_arguments
from maekit.errors import ConfigError
from maekit.tasks import TASKS
from maekit.tasks.pretrain import TASK


def test_main__overview_and_version(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in TASKS)
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("name", TASKS)
def test_main__help_of_every_command(name, capsys):
    assert main([name, "--help"]) == 0
    assert TASKS[name] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["pretrian"], "There is no command 'pretrian'. Did you mean 'pretrain'?"),
        (["pretrain"], "data.dir is required"),
        (["pretrain", "/none/such"], "There is no folder or file /none/such"),
        (["pretrain", "a", "b"], "Too many arguments: b."),
        (
            ["pretrain", "a", "--epoch", "3"],
            "Unknown setting 'epoch' (--epoch). Did you mean 'train.epochs'?",
        ),
        (["pretrain", "a", "--epochs"], "--epochs needs a value."),
        (
            ["pretrain", "a", "--epochs", "many"],
            "train.epochs (--epochs) must be a whole number, got 'many'.",
        ),
        (["pretrain", "a", "--config", "mae_pretrain_33"], "Shipped recipes: mae_finetune_224_16"),
        (["pretrain", "--resume", "/none"], "/none is no run folder"),
        (
            ["pretrain", "a", "--image_size", "30", "--patch_size", "8"],
            "not a multiple of the patch size",
        ),
        (["pretrain", "a", "--mask_ratio", "1.0"], "mask_ratio must lie between 0 and 1"),
        (["reconstruct", "/none", "x.jpg"], "There is no checkpoint or run folder /none."),
        (["check", "/none"], "There is no folder or file /none"),
    ],
)
def test_main__a_mistake_is_one_line_and_exit_code_2(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())  # nothing was written


def test_main__debug_shows_the_traceback():
    with pytest.raises(ConfigError):
        main(["pretrain", "--debug"])


def test_main__logging_config(tmp_path, capsys):
    assert main(["pretrain", "/none", "--logging_config", str(tmp_path / "none.yaml")]) == 2
    assert "Cannot use the logging config" in capsys.readouterr().err
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 7\n")
    assert main(["pretrain", "/none", "--logging_config", str(bad)]) == 2
    assert "does not follow logging.config.dictConfig" in capsys.readouterr().err


def test_collect__flags_over_file(tmp_path):
    config = tmp_path / "a.yaml"
    config.write_text("train:\n  epochs: 3\n  batch_size: 4\n")
    argv = ["photos", "--config", str(config), "--train.epochs=5", "--plan", "--devices", "2"]
    given, logging_config = collect(TASK, split_arguments(argv))
    values = {name: value.value for name, value in given.items()}
    assert values == {
        "train.epochs": 5,
        "train.batch_size": 4,
        "plan": True,
        "runtime.devices": 2,
        "data.dir": "photos",
    }
    assert logging_config is None


def test_collect__a_switch_before_the_folder():
    given, _ = collect(TASK, split_arguments(["--plan", "photos", "--flip", "false"]))
    assert given["data.dir"].value == "photos"
    assert (given["plan"].value, given["augment.flip"].value) == (True, False)


def test_find_recipe__by_name_or_path(tmp_path):
    assert find_recipe("mae_pretrain_smoke").name == "mae_pretrain_smoke.yaml"
    assert find_recipe(str(tmp_path / "x.yaml")) == tmp_path / "x.yaml"


def test_import__needs_no_torch_and_help_is_quick():
    code = "import sys, maekit, maekit.cli; maekit.cli.main([]); assert 'torch' not in sys.modules, 'torch'"
    code += "; assert 'numpy' not in sys.modules and 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code], check=True, stdout=subprocess.DEVNULL)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-P", "-m", "maekit", "--help"], check=True, stdout=subprocess.DEVNULL
        )
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.3
