"""The machine: device, precision, seeds, processes, signals, and files that are never half."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, Literal

from maekit.errors import ConfigError, TrainingError, explain_write

if TYPE_CHECKING:
    import torch

_MASK64 = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where and how a run computes. None of these changes what is computed, but for rounding."""

    device: Literal["cpu", "cuda"] | None = None
    """Kind of device; a GPU where there is one if not given."""
    devices: int = 1
    """Processes on this machine, one a GPU; on the CPU they share the cores."""
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    """Arithmetic of the forward pass; bfloat16 on GPUs that have it and float32 on the CPU if
    not given."""
    compile: bool = False
    """Whether to compile the model with torch.compile: a slower start, faster steps on a GPU."""

    def __post_init__(self) -> None:
        if self.devices < 1:
            raise ConfigError(f"devices must be at least 1, got {self.devices}.")
        if self.device == "cpu" and self.precision == "float16":
            raise ConfigError("float16 needs a GPU; on the CPU use float32 or bfloat16.")


def mix(*values: int) -> int:
    """Mixes integers into one seed of 63 bits; a change of any one changes all of it.

    Source: Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators" (SplitMix64).

    >>> mix(0, 1, 2) == mix(0, 1, 2), mix(0, 1, 2) == mix(0, 2, 1)
    (True, False)
    """
    state = 0
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & _MASK64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK64
        state ^= state >> 31
    return state >> 1


def num_cores() -> int:
    """Returns the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_folder() -> Path:
    """Returns where scans and statistics are cached: `$MAEKIT_CACHE`, else the user's cache."""
    if named := os.environ.get("MAEKIT_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "maekit"


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file that takes the place of `path` only when it is complete and on the disk.

    A crash, a full disk or a `kill -9` leaves the old file as it was.

    Raises:
        OSError: If it cannot be written; the unfinished file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Writes a small file whole or not at all.

    Raises:
        TrainingError: If it cannot be written; a full disk is called that.
    """
    try:
        with replace_file(path) as file:
            file.write(text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise TrainingError(explain_write(path, error)) from error


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a small JSON file whole or not at all.

    Raises:
        TrainingError: If it cannot be written.
    """
    write_text(path, json.dumps(values, indent=2) + "\n")


def sync_folder(folder: Path) -> None:
    """Makes renames within a folder survive a power cut, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def choose_device(config: RuntimeConfig) -> str:
    """Returns the kind of device to use.

    Raises:
        ConfigError: If a GPU is asked for and there is none, or not as many as asked for.
    """
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "cuda" and not found:
        raise ConfigError("runtime.device is cuda, but torch finds no GPU here; use cpu.")
    kind = config.device or ("cuda" if found else "cpu")
    if kind == "cuda" and "RANK" not in os.environ and config.devices > found:
        raise ConfigError(f"runtime.devices is {config.devices}, but there are {found} GPUs.")
    if kind == "cpu" and config.devices > num_cores():
        raise ConfigError(
            f"runtime.devices is {config.devices}, more than the {num_cores()} cores there are."
        )
    return kind


def choose_precision(
    config: RuntimeConfig, device: str
) -> Literal["float32", "bfloat16", "float16"]:
    """Returns the precision of the forward pass."""
    import torch

    if config.precision is not None:
        return config.precision
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "float32"


class Interrupts:
    """Notes SIGTERM and Ctrl-C, so that a loop can stop at a good moment.

    A second one stops at once.
    """

    def __init__(self) -> None:
        self.received = 0
        """Signal number, 0 for none."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):  # only the main thread may set handlers
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.received:
            os._exit(128 + number)
        self.received = number


def ignore_signals() -> None:
    """Leaves SIGTERM and Ctrl-C to the parent; for worker processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def usable_memory(device: torch.device) -> int:
    """Returns the bytes of memory of a device, or of the machine."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 8 << 30
