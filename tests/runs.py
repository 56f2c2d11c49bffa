"""Runs of the command, as tests start, watch and compare them."""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import torch

from maekit.log import read_json_lines


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
