"""What all tests share: drawn pictures, small settings, no network, a cache of their own."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from drawn import drawn, encoded, put, write_pictures
from maekit.cli import main

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Not the user's. One for all tests: what is cached has its path for a name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAEKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Only this machine may be talked to."""
    connect = socket.socket.connect

    def guarded(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"a test wants to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _plain_logging():
    """A test that configures logging leaves no trace."""
    logger = logging.getLogger("maekit")
    before = logger.handlers[:], logger.level, logger.propagate
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.INFO)
    yield
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Networks of tests are tiny: threads would only wait for each other."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of 24 pictures, 40×32 px, in two sub-folders; shared, so never to be changed."""
    return write_pictures(tmp_path_factory.mktemp("shared") / "pictures", number=24)


def smoke_arguments(pictures: Path, out: Path) -> list[str]:
    """A run that takes a second or two: 5 steps an epoch, 2 epochs."""
    arguments = ["pretrain", str(pictures), "--config", "mae_pretrain_smoke", "--out", str(out)]
    arguments += ["--batch_size", "4", "--trackers.tensorboard", "false", "--figures_every", "100"]
    return arguments


@pytest.fixture
def smoke(pictures, tmp_path):
    """Arguments of a run of its own, into `tmp_path / "run"`."""
    return smoke_arguments(pictures, tmp_path / "run")


@pytest.fixture(scope="session")
def _finished_run(pictures, tmp_path_factory, _one_thread):
    run = tmp_path_factory.mktemp("finished") / "run"
    assert main(smoke_arguments(pictures, run)) == 0
    return run


@pytest.fixture
def finished(_finished_run, tmp_path):
    """A copy of one finished run over `pictures`, in `tmp_path / "run"`."""
    shutil.copytree(_finished_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def labelled(tmp_path):
    """Two classes that colour alone tells apart."""
    for split, number in (("train", 10), ("test", 5)):
        for name, colour in (("dark", 40), ("light", 220)):
            for index in range(number):
                image = Image.blend(
                    drawn(index, 40, 32), Image.new("RGB", (40, 32), (colour,) * 3), 0.8
                )
                put(tmp_path / "labelled" / split / name / f"{index}.png", encoded(image, "PNG"))
    return tmp_path / "labelled"


@pytest.fixture(scope="session")
def golden_outputs():
    return load_file(GOLDEN / "mae_tiny_outputs.safetensors")


@pytest.fixture(scope="session")
def golden_weights():
    return load_file(GOLDEN / "mae_tiny_weights.safetensors")


@pytest.fixture(scope="session")
def golden_rates():
    return json.loads((GOLDEN / "lr_schedule.json").read_text())


def shared_data(name: str) -> Path:
    """Returns a folder of real pictures, or skips the test that wants it."""
    folder = SHARED / name
    if not folder.exists():
        pytest.skip(f"the real pictures {folder} are not on this machine")
    return folder
