"""Every picture is opened once before training: what is usable, what is skipped and why.

The result is cached by path, size and time of change, so that a second scan reads no picture.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maekit.data.decode import cache_key
from maekit.data.sources import ArraySource, FileSource, Listing, PathTable, spread
from maekit.errors import DataError
from maekit.runtime import cache_folder, replace_file, write_text

Progress = Callable[[int, int], None]
"""Called with the number of pictures done and their total."""

_SECONDS_PER_FILE = 20.0
_ARRAY_SAMPLE = 64
# What is kept of each picture, in flat arrays.
_COLUMNS = {
    "height": np.int32,
    "width": np.int32,
    "channels": np.int16,
    "bits": np.int8,
    "several_frames": np.bool_,
    "digest": np.uint64,
}


class Skip(NamedTuple):
    """A picture that is not used."""

    name: str
    reason: str


def write_skips(path: Path, skips: Iterable[Skip]) -> None:
    """Writes skipped pictures and reasons, a JSON object a line."""
    write_text(path, "".join(json.dumps(skip._asdict()) + "\n" for skip in skips))


@dataclass(frozen=True)
class Survey:
    """What a scan found, one row a listed picture."""

    place: Path
    names: PathTable
    columns: dict[str, NDArray[Any]]
    """`height`, `width`, `channels`, `bits`, `several_frames`, `digest`; 0 where not usable."""
    modes: dict[str, int]
    """Colour mode → number of usable pictures."""
    reasons: dict[int, str]
    """Row → why it is skipped."""
    sizes: NDArray[np.int64]
    """Bytes."""
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def usable(self) -> NDArray[np.int64]:
        """Rows of the usable pictures, in order."""
        rows = np.ones(len(self.names), dtype=bool)
        rows[list(self.reasons)] = False
        return np.flatnonzero(rows)

    @property
    def skips(self) -> list[Skip]:
        """What is skipped and why, in order."""
        return [Skip(self.names[row], self.reasons[row]) for row in sorted(self.reasons)]

    def of_usable(self, column: str) -> NDArray[Any]:
        """Returns a column's values of the usable pictures."""
        values: NDArray[Any] = self.columns[column][self.usable]
        return values

    def skipping_other_channels(self, channels: int) -> Survey:
        """Skips pictures that cannot be given `channels`; grey and colour stand for each other."""
        have = self.columns["channels"]
        alike = np.isin(have, (1, 3)) if channels in (1, 3) else have == channels
        other = {
            int(row): f"has {have[row]} channels where {channels} are expected (model.in_channels)"
            for row in self.usable
            if not alike[row]
        }
        return replace(self, reasons=self.reasons | other)

    def fingerprint(self) -> str:
        """Identifies the data: number, names, sizes and contents of all listed pictures."""
        digest = hashlib.blake2b(self.columns["digest"].tobytes(), digest_size=16)
        for name, size in zip(self.names, self.sizes, strict=True):
            digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
        return f"{len(self.names)}-{digest.hexdigest()}"

    def check_skips(self, max_skipped: float) -> None:
        """Refuses data of which too much is broken, or all.

        Args:
            max_skipped: Share of all pictures that may be skipped; ten always may.

        Raises:
            DataError: With the first reasons.
        """
        first = "; ".join(f"{skip.name}: {skip.reason}" for skip in self.skips[:3])
        if not len(self.usable):
            raise DataError(
                f"None of the {len(self.names)} pictures in {self.place} can be used. {first}."
            )
        if len(self.reasons) > max(10, max_skipped * len(self.names)):
            raise DataError(
                f"{len(self.reasons)} of {len(self.names)} pictures in {self.place} cannot be "
                f"used, more than data.max_skipped = {max_skipped} allows. {first}. See them all "
                "with `mae check`."
            )

    def duplicates(self) -> list[list[int]]:
        """Groups of usable rows whose files are equal, byte for byte."""
        if "array" in self.modes:
            return []  # one file; its pictures share one digest
        rows, digests = self.usable, self.of_usable("digest")
        order = np.argsort(digests, kind="stable")
        groups = np.split(rows[order], np.flatnonzero(np.diff(digests[order])) + 1)
        return [
            sorted(group.tolist())
            for group in groups
            if len(group) > 1 and self.columns["digest"][group[0]]
        ]


def survey_files(
    listing: Listing, place: Path, max_pixels: int, workers: int, progress: Progress
) -> Survey:
    """Opens every picture of a listing that the cache does not know.

    Args:
        listing: What to open.
        place: What the user named, for messages and the cache's name.
        max_pixels: Pictures with more are skipped.
        workers: Processes that decode.
        progress: Told how far it is.
    """
    cache = _cache_file(place, max_pixels)
    columns: dict[str, NDArray[Any]] = {
        name: np.zeros(len(listing), dtype=kind) for name, kind in _COLUMNS.items()
    }
    modes: list[str] = [""] * len(listing)
    reasons: dict[int, str] = {}
    todo = _fill_from_cache(cache, listing, columns, modes, reasons)
    passing: set[int] = set()
    paths = [listing.root / listing.paths[row] for row in todo]

    def keep(position: int, answer: dict[str, Any]) -> None:
        row = todo[position]
        if "reason" in answer:
            reasons[row] = answer["reason"]
            if not answer["lasting"]:
                passing.add(row)
            return
        modes[row] = answer["mode"]
        for name, column in columns.items():
            column[row] = answer[name]

    try:
        _examine_all(paths, max_pixels, workers, keep, progress)
    finally:
        # Also after Ctrl-C: what was opened need not be opened again.
        if todo:
            # A reason that is not the file's own, e.g. a missing package, is asked for again.
            done = [
                bool(mode) or (row in reasons and row not in passing)
                for row, mode in enumerate(modes)
            ]
            _write_cache(cache, listing, columns, modes, reasons, np.array(done))
    counts = Counter(mode for mode in modes if mode)
    return Survey(
        place, listing.paths, columns, dict(counts), reasons, listing.sizes, listing.notes
    )


def survey_array(source: ArraySource) -> Survey:
    """Describes an array, whose pictures are all alike."""
    number = len(source)
    if not number:
        raise DataError(f"{source.path} holds no picture.")
    pixels = source.read(0)
    # To read all of a large array takes minutes; some pictures tell one array from another.
    content = hashlib.blake2b(digest_size=8)
    for index in spread(number, _ARRAY_SAMPLE).tolist():
        content.update(source.read(index).tobytes())
    digest = int.from_bytes(content.digest(), "little")
    facts = (*pixels.shape, pixels.dtype.itemsize * 8, False, digest)
    values = dict(zip(_COLUMNS, facts, strict=True))
    columns: dict[str, NDArray[Any]] = {
        name: np.full(number, values[name], dtype=kind) for name, kind in _COLUMNS.items()
    }
    names = PathTable.of([source.name(index) for index in range(number)])
    sizes = np.full(number, pixels.nbytes, dtype=np.int64)
    return Survey(source.path, names, columns, {"array": number}, {}, sizes)


def file_source(listing: Listing, survey: Survey, max_pixels: int) -> FileSource:
    """Returns the usable pictures as a source."""
    usable = survey.usable
    paths = listing.paths
    if len(usable) < len(paths):
        paths = PathTable.of([paths[int(row)] for row in usable])
    return FileSource(listing.root, paths, max_pixels)


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


def _examine_all(
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


def _cache_file(place: Path, max_pixels: int) -> Path:
    name = hashlib.blake2b(f"{place.resolve()} {max_pixels} {cache_key()}".encode(), digest_size=12)
    return cache_folder() / f"scan-{name.hexdigest()}.npz"


def _fill_from_cache(
    cache: Path,
    listing: Listing,
    columns: dict[str, NDArray[Any]],
    modes: list[str],
    reasons: dict[int, str],
) -> list[int]:
    """Fills in what the cache knows of unchanged files; returns the rows that it does not know."""
    try:
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            old = {name: stored[name] for name in stored.files}
        text = json.loads(bytes(old["text"]))
        paths = PathTable(bytes(old["blob"]), old["ends"])
        rows = {path: row for row, path in enumerate(paths) if old["done"][row]}
    except FileNotFoundError:
        return list(range(len(listing)))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return list(range(len(listing)))  # damaged: it is only a cache, and is made anew
    todo = []
    for row, path in enumerate(listing.paths):
        was = rows.get(path)
        if was is None or (old["sizes"][was], old["mtimes"][was]) != (
            listing.sizes[row],
            listing.mtimes[row],
        ):
            todo.append(row)
            continue
        if (reason := text["reasons"].get(str(was))) is not None:
            reasons[row] = reason
        else:
            modes[row] = text["modes"][old["mode"][was]]
            for name, column in columns.items():
                column[row] = old[name][was]
    return todo


def _write_cache(
    cache: Path,
    listing: Listing,
    columns: dict[str, NDArray[Any]],
    modes: list[str],
    reasons: dict[int, str],
    done: NDArray[np.bool_],
) -> None:
    names = sorted(set(modes))
    text = json.dumps({"modes": names, "reasons": reasons}).encode()
    encoded = [os.fsencode(path) for path in listing.paths]
    arrays = columns | {
        "blob": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "ends": np.cumsum([len(path) for path in encoded], dtype=np.int64),
        "sizes": listing.sizes,
        "mtimes": listing.mtimes,
        "mode": np.array([names.index(mode) for mode in modes], dtype=np.int16),
        "done": done,
        "text": np.frombuffer(text, dtype=np.uint8),
    }
    try:
        with replace_file(cache) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub mistakes the arrays for a flag
    except OSError:
        pass  # a read-only or full home costs a second scan, nothing else
