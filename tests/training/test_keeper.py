import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from maekit import checkpoint
from maekit.errors import CheckpointError
from maekit.training.keeper import Keeper


def state(step):
    return {"encoder": {"w": torch.full((8,), float(step))}, "progress": {"step": step}}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_save__keeps_the_last_few_and_the_best(tmp_path):
    keeper = Keeper(tmp_path, keep_last=3)
    for step in range(8, 20):
        keeper.save(state(step), step, is_best=step == 9)
    assert names(tmp_path) == ["best.pt", "last.pt", "step-00000017.pt", "step-00000018.pt"]
    assert checkpoint.load(tmp_path / "best.pt")["progress"]["step"] == 9
    assert checkpoint.load(tmp_path / "last.pt")["progress"]["step"] == 19


def test_save__only_one(tmp_path):
    keeper = Keeper(tmp_path, keep_last=1)
    for step in (1, 2, 2):
        keeper.save(state(step), step, is_best=False)
    assert names(tmp_path) == ["last.pt"]


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.999])
def test_newest__passes_over_a_truncated_last(tmp_path, share, caplog):
    keeper = Keeper(tmp_path, keep_last=3)
    for step in (1, 2, 3):
        keeper.save(state(step), step, is_best=step == 1)
    os.truncate(tmp_path / "last.pt", int((tmp_path / "last.pt").stat().st_size * share))
    fresh = Keeper(tmp_path, keep_last=3)
    assert fresh.newest()["progress"]["step"] == 2
    assert "Going on from" in caplog.text
    fresh.save(state(4), 4, is_best=False)
    assert checkpoint.load(tmp_path / "last.pt")["progress"]["step"] == 4
    assert (tmp_path / "last.damaged.pt").exists()


def test_newest__a_flipped_bit_is_a_checksum_mismatch(tmp_path, caplog):
    keeper = Keeper(tmp_path, keep_last=2)
    big = state(2) | {"encoder": {"w": torch.rand(10_000)}}
    keeper.save(state(1), 1, is_best=False)
    keeper.save(big, 2, is_best=False)
    data = bytearray((tmp_path / "last.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "last.pt").write_bytes(data)
    assert Keeper(tmp_path, keep_last=2).newest()["progress"]["step"] == 1
    assert "checksum mismatch" in caplog.text


def test_newest__nothing_usable(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint to resume from"):
        Keeper(tmp_path, keep_last=2).newest()
    (tmp_path / "last.pt").write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"No checkpoint in .* is usable\. .*last\.pt is empty"
    ):
        Keeper(tmp_path, keep_last=2).newest()


def test_start__removes_what_a_killed_process_left_unfinished(tmp_path):
    (tmp_path / ".next.pt.123.tmp").write_bytes(b"half")
    Keeper(tmp_path, keep_last=2)
    assert names(tmp_path) == []


def test_resume__finishes_a_rename_that_a_kill_prevented(tmp_path):
    keeper = Keeper(tmp_path, keep_last=2)
    keeper.save(state(1), 1, is_best=False)
    checkpoint.save(tmp_path / "next.pt", state(2))
    fresh = Keeper(tmp_path, keep_last=2)
    assert fresh.newest()["progress"]["step"] == 2
    assert names(tmp_path) == [
        "last.pt",
        "step-00000001.pt",
    ]  # the whole last one is no damaged one
    fresh.save(state(3), 3, is_best=False)
    assert fresh.newest()["progress"]["step"] == 3


@pytest.mark.slow
def test_save__killed_at_any_moment_leaves_a_good_checkpoint(tmp_path):
    code = (
        "import sys, torch; from pathlib import Path; from maekit.training.keeper import Keeper\n"
        "keeper = Keeper(Path(sys.argv[1]), keep_last=2)\n"
        "start = keeper.newest()['progress']['step'] if list(Path(sys.argv[1]).glob('*.pt')) else 0\n"
        "print('ready', flush=True)\n"
        "for step in range(start + 1, 10**6):\n"
        "    keeper.save({'encoder': {'w': torch.rand(500_000)}, 'progress': {'step': step}}, step, step % 3 == 0)\n"
    )
    before = 0
    for attempt in range(12):
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", code, str(tmp_path)], stdout=subprocess.PIPE
        )
        child.stdout.readline()
        time.sleep(0.05 + 0.013 * attempt)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        step = Keeper(tmp_path, keep_last=2).newest()["progress"]["step"]
        assert step >= before
        before = step
    assert before > 12
