"""Child processes that open pictures for a scan, and are started again when they die."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maekit.errors import DataError

Progress = Callable[[int, int], None]
"""Called with the number of pictures done and their total."""

_SECONDS_PER_FILE = 20.0


class _Child:
    """A decoding process that is started again whenever it dies."""

    def __init__(self, max_pixels: int) -> None:
        # -P: a file `queue.py` in the current folder must not shadow the standard library.
        self.command = [sys.executable, "-P", "-m", "maekit.data.scan_worker", str(max_pixels)]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, path: Path) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        watchdog = threading.Timer(_SECONDS_PER_FILE, self.process.kill)
        watchdog.start()
        try:
            self.process.stdin.write(json.dumps(str(path)) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late = not watchdog.is_alive()
            watchdog.cancel()
        if line:
            return json.loads(line)  # type: ignore[no-any-return]  # the worker's dict
        code = self.process.wait()
        self.close()
        self.process = self._start()
        if late:
            return {"reason": f"took over {_SECONDS_PER_FILE:.0f} s to decode", "lasting": False}
        return {"reason": f"crashes the decoder (exit code {code})", "lasting": False}

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def examine_all(
    paths: list[Path],
    max_pixels: int,
    workers: int,
    keep: Callable[[int, dict[str, Any]], None],
    progress: Progress,
) -> None:
    """Asks `workers` children about all paths; answers are kept in whatever order they come."""
    positions: queue.SimpleQueue[int] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[int, dict[str, Any]] | None] = queue.SimpleQueue()
    for position in range(len(paths)):
        positions.put(position)

    def serve() -> None:
        child = _Child(max_pixels)
        try:
            while True:
                position = positions.get_nowait()
                answers.put((position, child.ask(paths[position])))
        except queue.Empty:
            pass
        finally:
            child.close()
            answers.put(None)

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(min(workers, len(paths)))]
    for thread in threads:
        thread.start()
    done, running = 0, len(threads)
    try:
        while running:
            answer = answers.get()
            if answer is None:
                running -= 1
                continue
            keep(*answer)
            done += 1
            progress(done, len(paths))
    finally:
        while not positions.empty():  # an interrupted scan: let the children finish and end
            positions.get()
        for thread in threads:
            thread.join()
    if done < len(paths):
        raise DataError("The scan's decoding processes ended early; run it again with --debug.")
