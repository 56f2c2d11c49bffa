import os
import signal
import subprocess
import sys

import pytest
import torch

from maekit.errors import ConfigError, TrainingError
from maekit.runtime import (
    Interrupts,
    RuntimeConfig,
    cache_folder,
    choose_device,
    choose_precision,
    mix,
    num_cores,
    replace_file,
    usable_memory,
    write_text,
)


def test_mix__spreads_and_repeats():
    seeds = {
        mix(seed, epoch, index) for seed in range(5) for epoch in range(20) for index in range(20)
    }
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix(1, 2) == mix(1, 2)


def test_replace_file__whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with replace_file(path) as file:
        file.write(b"old")

    def fail():
        with replace_file(path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_write_text__says_why_it_cannot(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="Cannot write"):
        write_text(tmp_path / "file" / "x", "text")


def test_choose__device_and_precision():
    assert choose_device(RuntimeConfig(device="cpu")) == "cpu"
    assert choose_precision(RuntimeConfig(), "cpu") == "float32"
    assert choose_precision(RuntimeConfig(precision="bfloat16"), "cpu") == "bfloat16"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_choose_device__no_gpu_is_said():
    with pytest.raises(ConfigError, match="torch finds no GPU"):
        choose_device(RuntimeConfig(device="cuda"))


def test_config__refuses():
    with pytest.raises(ConfigError, match="devices must be at least 1"):
        RuntimeConfig(devices=0)
    with pytest.raises(ConfigError, match="float16 needs a GPU"):
        RuntimeConfig(device="cpu", precision="float16")


def test_interrupts__notes_the_first_and_leaves_at_the_second():
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.received == signal.SIGTERM
    code = (
        "import os, signal; from maekit.runtime import Interrupts\n"
        "with Interrupts():\n    os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGINT)\n    print('here')"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=False)
    assert done.returncode == 130
    assert not done.stdout


def test_machine__is_described():
    assert num_cores() >= 1
    assert usable_memory(torch.device("cpu")) > 1 << 28
    assert cache_folder().name.startswith("cache")
