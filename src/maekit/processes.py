"""The processes of a run: started, joined, and told the same."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from maekit.errors import MaekitError
from maekit.runtime import RuntimeConfig, num_cores

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
# A process that waits longer than this for another one gives up with an error.
_PATIENCE = timedelta(minutes=30)


class World(NamedTuple):
    """This process among those of the run."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0


def needs_launch(config: RuntimeConfig) -> bool:
    """Whether this process has still to start the processes that will compute."""
    # A batch script of one task is started by SLURM too, and has its variables.
    by_slurm = "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1
    return config.devices > 1 and "RANK" not in os.environ and not by_slurm


def launch(devices: int, arguments: list[str]) -> None:
    """Runs `mae` with `arguments` in several processes, through torchrun's launcher.

    Raises:
        SystemExit: With 143 or 130 when it was told to stop, with 2 after a mistake of the user's.
        MaekitError: If a process failed; its own message stands above.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=f"mae-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    threads = str(max(1, num_cores() // devices))
    os.environ.setdefault("OMP_NUM_THREADS", threads)
    command = ["-P", "-m", "maekit", *arguments]
    # What it would say of a process that failed, that process has said itself.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        elastic_launch(config, sys.executable)(*command)
    except SignalException as stop:
        raise SystemExit(128 + int(stop.sigval)) from None
    except ChildFailedError as error:
        code = next(iter(error.failures.values())).exitcode
        if code in (2, 130, 143):  # a mistake of the user's has its line already
            raise SystemExit(code) from None
        raise MaekitError(
            f"One of the {devices} processes failed with exit code {code}; see above."
        ) from None


def run_in_processes(command: str, devices: int, settings: str) -> None:
    """Runs a command of `mae` with settings (YAML) in several processes; see `launch`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.yaml"
        file.write_text(settings, encoding="utf-8")
        launch(devices, [command, "--config", str(file)])


@contextlib.contextmanager
def process_group(device: str) -> Iterator[World]:
    """Joins the processes of the run: those of torchrun or SLURM, or this one alone."""
    import torch
    import torch.distributed as dist

    _translate_slurm()
    if "RANK" not in os.environ:
        yield World(0, 1, torch.device(device, 0) if device == "cuda" else torch.device(device))
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    here = torch.device(device)
    if device == "cuda":
        here = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(here)
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield World(rank, size, here)
    finally:
        dist.destroy_process_group()


def _translate_slurm() -> None:
    """Sets torchrun's variables from SLURM's, where SLURM started several tasks."""
    environment = os.environ
    if (
        "RANK" in environment
        or int(environment.get("SLURM_NTASKS", "1")) < 2
        or "SLURM_PROCID" not in environment
    ):
        return
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["WORLD_SIZE"] = environment["SLURM_NTASKS"]
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    # Every task of a job must meet at one port, and two jobs on a node at different ones.
    environment.setdefault("MASTER_PORT", str(20_000 + int(environment["SLURM_JOB_ID"]) % 20_000))
    if "MASTER_ADDR" not in environment:
        nodes = environment["SLURM_JOB_NODELIST"]
        if shutil.which("scontrol"):
            shown = subprocess.run(
                ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True
            )
            nodes = shown.stdout.split()[0]
        environment["MASTER_ADDR"] = nodes


def from_main(world: World, value: Any) -> Any:  # any picklable value
    """Gives every process the main process's value; the others pass None."""
    if world.size == 1:
        return value
    import torch.distributed as dist

    box = [value]
    dist.broadcast_object_list(
        box, src=0, device=world.device if world.device.type == "cuda" else None
    )
    return box[0]


def once(world: World, function: Callable[[], T]) -> T:
    """Calls a function on the main process; all get the same result, or end with the same error.

    Raises:
        MaekitError: On the main process, if the function did.
        SystemExit: With 2 on the others; the main process says why.
    """
    if world.size == 1:
        return function()
    outcome: T | MaekitError | None = None
    if world.is_main:
        try:
            outcome = function()
        except MaekitError as error:
            outcome = error
    outcome = from_main(world, outcome)
    if isinstance(outcome, MaekitError):
        if world.is_main:
            raise outcome
        raise SystemExit(2)
    return cast("T", outcome)


def together(world: World, flag: int) -> int:
    """Returns the greatest `flag` of all processes; waits for them."""
    if world.size == 1:
        return flag
    import torch
    import torch.distributed as dist

    value = torch.tensor(flag, device=world.device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return int(value)
