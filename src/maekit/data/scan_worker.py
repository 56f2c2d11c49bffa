"""The child process of a scan: reads a path a line, answers with a JSON line.

A process of its own, so that a decoder that crashes, hangs or eats memory on a damaged file costs
that file and nothing else. It imports no torch and starts in a fraction of a second.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from pathlib import Path

from maekit.data.decode import inspect
from maekit.errors import DecodeError

# Bytes of memory beyond which a decoder gets MemoryError instead of taking the machine down.
_MEMORY_LIMIT = 8 << 30


def examine(path: Path, max_pixels: int) -> dict[str, object]:
    """Returns the facts of one picture, or the reason why it cannot be used."""
    try:
        facts = inspect(path, max_pixels)._asdict()
    except DecodeError as error:
        return {"reason": str(error), "lasting": error.lasting}
    with path.open("rb") as file:
        # Only equality matters, and 64 bits tell a billion files apart.
        digest = hashlib.file_digest(file, "blake2b").digest()[:8]
    return facts | {"digest": int.from_bytes(digest, "little")}


def main() -> None:
    """Serves until its input ends; the only argument is the limit of pixels."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    max_pixels = int(sys.argv[1])
    for line in sys.stdin:
        answer = examine(Path(json.loads(line)), max_pixels)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
