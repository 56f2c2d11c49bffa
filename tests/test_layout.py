"""Every module has its test file, every command its file, every recipe its place."""

import ast
import importlib
from pathlib import Path

import pytest

import maekit
from maekit.config import Given, Task, build, read_yaml, settings
from maekit.finetuning.config import FinetuneConfig
from maekit.pretraining.config import PretrainConfig
from maekit.tasks import TASKS

SOURCE = Path(maekit.__file__).parent
TESTS = Path(__file__).parent
RECIPES = sorted((TESTS.parent / "configs" / "pretrain").glob("mae_*.yaml"))
# Modules that other tests cover whole.
ELSEWHERE = {
    "__main__.py",
    "pretraining/config.py",
    "pretraining/build.py",
    "pretraining/describe.py",
}


def modules():
    found = [path.relative_to(SOURCE) for path in SOURCE.rglob("*.py")]
    return sorted(
        path for path in found if path.name != "__init__.py" and str(path) not in ELSEWHERE
    )


@pytest.mark.parametrize("module", modules(), ids=str)
def test_module__has_a_test_file(module):
    assert (TESTS / module.parent / f"test_{module.name}").is_file()


def test_tasks__are_the_files_with_their_summaries():
    files = {path.stem: path for path in (SOURCE / "tasks").glob("*.py") if path.stem != "__init__"}
    assert TASKS.keys() == files.keys()
    for name, path in files.items():
        assert ast.get_docstring(ast.parse(path.read_text())).splitlines()[0] == TASKS[name]
        assert isinstance(importlib.import_module(f"maekit.tasks.{name}").TASK, Task)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe__is_valid(recipe):
    config = build(PretrainConfig, read_yaml(recipe, PretrainConfig))
    assert config.model.image_size
    assert config.model.patch_size


@pytest.mark.parametrize("name", ["224_16", "smoke"])
def test_finetune_recipe__is_valid(name):
    recipe = TESTS.parent / "configs" / "finetune" / f"mae_finetune_{name}.yaml"
    given = read_yaml(recipe, FinetuneConfig)
    assert build(FinetuneConfig, {**given, "init": Given("run", "test")}).mode == "frozen"


def test_recipes__are_the_promised_ones():
    names = {path.stem.removeprefix("mae_pretrain_") for path in RECIPES}
    assert names == {"224_16", "96_8", "64_8", "32_4", "smoke"}


def test_surface__is_the_frozen_one():
    """Names and flags are a promise: a change must show in this file's neighbour."""
    lines = [f"maekit.{name}" for name in maekit.__all__]
    for name in TASKS:
        task = importlib.import_module(f"maekit.tasks.{name}").TASK
        lines += [f"mae {name} --{setting}" for setting in settings(task.config)]
    assert "\n".join(lines) + "\n" == (TESTS / "surface.txt").read_text()
