import os

import pytest
import torch

from maekit.errors import ConfigError
from maekit.processes import (
    World,
    _translate_slurm,
    from_main,
    needs_launch,
    once,
    process_group,
    together,
)
from maekit.runtime import RuntimeConfig

ALONE = World(0, 1, torch.device("cpu"))


def test_needs_launch__only_the_first_process(monkeypatch):
    assert needs_launch(RuntimeConfig(devices=2))
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")  # a batch script
    assert needs_launch(RuntimeConfig(devices=2))
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert not needs_launch(RuntimeConfig(devices=2))
    monkeypatch.delenv("SLURM_PROCID")
    monkeypatch.setenv("RANK", "0")
    assert not needs_launch(RuntimeConfig(devices=2))


def test_process_group__alone():
    with process_group("cpu") as world:
        assert world == ALONE
        assert world.is_main
        assert from_main(world, "x") == "x"
        assert together(world, 7) == 7


def test_slurm__variables_become_torchruns(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    slurm = {
        "PROCID": "3",
        "NTASKS": "4",
        "LOCALID": "1",
        "JOB_ID": "123456",
        "JOB_NODELIST": "node7",
    }
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    _translate_slurm()
    assert [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")] == ["3", "4", "1"]
    assert os.environ["MASTER_ADDR"] == "node7"
    assert 20_000 <= int(os.environ["MASTER_PORT"]) < 40_000
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        del os.environ[name]  # monkeypatch would bring it back afterwards


def test_once__alone_it_is_a_call():
    assert once(ALONE, lambda: 3) == 3
    with pytest.raises(ConfigError, match="why"):
        once(ALONE, lambda: (_ for _ in ()).throw(ConfigError("why")))
