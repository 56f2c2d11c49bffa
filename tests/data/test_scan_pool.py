import os
import signal
import time

import pytest

from drawn import bomb_png, put, write_pictures
from maekit.data import scan_pool
from scanned import survey


@pytest.mark.slow
def test_survey__bombs_and_slow_files(tmp_path):
    folder = write_pictures(tmp_path / "p", 8)
    put(folder / "b144.png", bomb_png(12_000, 12_000))
    started = time.monotonic()
    found = survey(folder)
    assert len(found.usable) == 8
    assert "144 MP over limit" in found.skips[0].reason
    assert time.monotonic() - started < 10


def test_survey__a_decoder_that_dies_costs_one_file(tmp_path, monkeypatch):
    folder = write_pictures(tmp_path / "p", 6)
    ask = scan_pool._Child.ask

    def deadly(self, path):
        if path.name == "003.png":
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return ask(self, path)

    monkeypatch.setattr(scan_pool._Child, "ask", deadly)
    found = survey(folder, workers=1)
    assert [(skip.name, skip.reason) for skip in found.skips] == [
        ("class1/003.png", "crashes the decoder (exit code -9)")
    ]
    assert len(found.usable) == 5
